"""Places of runs: runs/NAME, and runs/latest, a text file with the name of the newest run. Needs no torch."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from aekit.errors import OutputExists, SpecError
from aekit.json_files import read_json
from aekit.outputs.places import check_working_name, write_errors
from aekit.outputs.staging import staged_file

FOLDER, LATEST = Path("runs"), "latest"
CONFIG, PCA = "config.json", "pca.npz"
FORMAT_VERSION = 1
"""Version of a run's files; readers refuse a higher one."""
_MAX_NAME = 255
"""Longest name of a run in bytes, as file systems have it."""


def resolve_run(path: Path) -> Path:
    """Return the run folder that `path` means: for runs/latest the folder that the file names, else `path` itself.

    Raises OSError if runs/latest can't be read, UnicodeDecodeError if it is not UTF-8.
    """
    if path.name == LATEST and path.is_file():
        name = path.read_text(encoding="utf-8").strip()
        if name and Path(name).name == name:
            return path.with_name(name)
    return path


def check_latest(folder: Path) -> None:
    """Raise OutputExists or OutputError unless `point_latest` may write the file `latest` in this folder.

    aekit made the file if it is one line, the name of a run. Another file, a link, a pipe or a folder stays as it is.
    """
    path = folder / LATEST
    with write_errors(path):
        if check_working_name(path) is None:
            return
        with path.open("rb") as file:
            line = file.read(_MAX_NAME + 2)
    name = os.fsdecode(line.removesuffix(b"\n"))
    if line and (not line.endswith(b"\n") or "\n" in name or Path(name).name != name):
        raise OutputExists(
            path, "aekit did not make it and will not replace it; move it away, or choose --out elsewhere"
        )


def point_latest(run: Path) -> None:
    """Write the run's name to the file `latest` beside it.

    Raises OutputExists or OutputError as check_latest does, OutputError if the file can't be written.
    """
    check_latest(run.parent)
    with staged_file(run.with_name(LATEST), follow=False) as part:
        part.write_text(run.name + "\n", encoding="utf-8")


def fresh_run(stem: str) -> Path:
    """Return a free path for a new run: runs/STEM, or else runs/STEM-2 and so on."""
    path, number = FOLDER / stem, 2
    while path.exists():
        path, number = FOLDER / f"{stem}-{number}", number + 1
    return path


def config_checksum(values: dict[str, Any]) -> str:
    """Return the SHA-256 over the content of config.json, without the checksum itself.

    The path of the images is left out too: they may move, and their fingerprint is checked whenever they are read.
    """
    covered = {name: value for name, value in values.items() if name != "sha256"}
    if isinstance(config := covered.get("config"), dict):
        covered["config"] = {name: value for name, value in config.items() if name != "data"}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def run_of_model(run: Path, run_id: object) -> dict[str, object] | None:
    """Return the settings of the run folder `run`, if its run_id is `run_id` and its config.json is unaltered.

    Otherwise, or if there is no readable run, return None.
    """
    try:
        values = read_json(run / CONFIG, SpecError, "the settings of a run", newest=FORMAT_VERSION)
    except (OSError, SpecError):
        return None
    if run_id is None or values.get("run_id") != run_id:
        return None
    if values.get("sha256") != config_checksum(values):
        return None
    config = values.get("config")
    return config if isinstance(config, dict) else None
