"""The results of benchmarks/faults.py as a page."""

from typing import Any

from common import table

TITLES = {
    "random": "Random instants",
    "kill_points": "Every file-system call",
    "names": "Links, FIFOs and a user's files at every name",
    "memory": "Too little memory",
}
"""Title of each part, by its name in the results."""
TEXTS = {
    "random": "{faults:,} faults in {jobs:,} jobs over {images:,} images. Each job ended with the bytes of one that "
    "was left alone, or, where files vanished, with a line for each.",
    "kill_points": "Jobs over 6 or 7 images, killed before each call that writes: {kill_points:,} kill points, "
    "{survived:,} survived. A kill is survived if the next job ends with the bytes of one that was left alone: resumed "
    "in a copy of the folder, anew in a copy with new times of change, and in the folder itself.",
    "names": "{cases:,} cases: {refused:,} refused in one line, {done:,} done with the right output. What lay there, "
    "and what links pointed to, stayed as it was.",
    "memory": "{limits:,} commands under a limit of memory: {done:,} done, {skipped:,} done but for large images, "
    "{one_line:,} ended with one line, {killed:,} ended by a native library. After the last two kinds, --resume gave "
    "the bytes of an undisturbed job.",
}
"""What each part came to, with the sums of its rows."""


def totals(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return the sum of each column of counts."""
    names = [name for name, value in rows[0].items() if type(value) is int]
    return {name: sum(row[name] for row in rows) for name in names}


def page(results: dict[str, Any]) -> str:
    """Return the results in Markdown. A part that was never run is left out."""
    text = "# Faults\n\nMade by `python benchmarks/faults.py`."
    for part in (part for part in TITLES if part in results):
        found = results[part]
        where = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        said = TEXTS[part].format(**found["total"], **found.get("facts", {}))
        text += f"\n\n## {TITLES[part]}\n\nOn: {where}.\n\n{said}\n\n{table(found['rows'])}"
    return text
