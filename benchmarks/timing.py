"""Timing of the benchmarks: whole processes and functions that take turns, and rows of medians of ratios."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "scripts"
PASSES = 5
Rows = list[dict[str, Any]]
Sides = dict[str, Callable[[], object]]


def process(*command: object) -> Callable[[], None]:
    """A function that runs a Python process from start to end, its modules compiled, as an installation leaves them."""
    line = [sys.executable, *map(str, command)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run() -> None:
        done = subprocess.run(line, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"failed: {' '.join(line)}\n{done.stderr}")

    return run


def alternating(sides: Sides, passes: int = PASSES) -> dict[str, list[float]]:
    """Seconds of each side, pass after pass, after one pass that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(passes + 1):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def row(job: str, ours: list[float], against: str, theirs: list[float], reach: float, aim: float, bound: str) -> Any:
    """A row of the table: how many times as fast ours is as the other side, over the passes."""
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return {
        "job": job,
        "against": against,
        "ours, s": statistics.median(ours),
        "theirs, s": statistics.median(theirs),
        "ratio": ratio,
        "reach": reach,
        "aim": aim,
        "met": "aim" if ratio >= aim else "reach" if ratio >= reach else "missed",
        "what limits it": bound,
    }
