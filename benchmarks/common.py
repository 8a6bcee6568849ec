"""What the benchmarks share: the machine's facts, the real commands, models in a folder, and results as files."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
Rows = list[dict[str, Any]]
"""A table: rows of like keys."""


def data_dir() -> Path:
    """Where the sets lie that no package brings."""
    return Path(os.environ.get("AEKIT_DATA_DIR", "."))


def machine() -> dict[str, Any]:
    """Where figures were measured: processor, cores, versions."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "onnxruntime", "numpy")},
        "date": datetime.now(UTC).date().isoformat(),
    }


def aekit(*arguments: object, cwd: Path) -> dict[str, Any]:
    """Run the real command with --json in a folder; returns its object. Its progress goes to our stderr."""
    command = [sys.executable, "-m", "aekit", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"failed with {done.returncode}: aekit {' '.join(map(str, arguments))}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of like keys as a Markdown table."""
    rows = list(rows)
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [head, ["---"] * len(head), *([_text(row.get(name)) for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return str(value)


def save(name: str, results: dict[str, Any], markdown: str) -> None:
    """Write results/NAME.json and results/NAME.md."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(markdown + "\n", encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """What save wrote before, or nothing."""
    file = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


class Bench:
    """A folder to work in, the time each training may take, and what parts hand to later ones."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick

    def budget(self, minutes: float) -> str:
        """A training budget: the full one, or a twentieth of it."""
        return f"{minutes * 60 / (20 if self.quick else 1):.0f}s"

    def model(self, name: str, source: object, minutes: float, *options: object) -> dict[str, Any]:
        """Train and export a model once, even if several parts need it. Return the last figures of training.

        Without an --objective it is `plain`.
        """
        from aekit.training.checkpoint import Run  # brings torch, which most benchmarks have no need of

        run, out = self.folder / "runs" / name, self.folder / name
        if not out.exists():
            options = options if "--objective" in options else ("--objective", "plain", *options)
            aekit("train", source, "--out", run, "--budget", self.budget(minutes), *options, cwd=self.folder)
            aekit("export", run, "--out", out, cwd=self.folder)
        return Run.read(run).metrics()[-1]

    def evaluate(self, name: str, source: object) -> dict[str, Any]:
        """Evaluate an exported model on images that it never saw."""
        report = self.folder / "reports" / name
        run = self.folder / "runs" / name
        given = ("--model", self.folder / name, "--run", run, "--out", report, "--overwrite")
        return aekit("evaluate", source, *given, cwd=self.folder)
