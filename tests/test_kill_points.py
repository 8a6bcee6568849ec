"""A job that is killed at any file-system call leaves the old output or the new, or what the next run repairs."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import kill_points
import kill_points_jobs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/fd").exists(), reason="needs Linux")
QUICK = {True: (8, 9), False: (8, 0)} if "AEKIT_EVERY_KILL" not in os.environ else {True: (1, 0), False: (1, 0)}
"""Which calls are kill points, whether there is an old output or not: each n-th, and so many at the end."""
LEFT_OUT = () if "AEKIT_EVERY_KILL" in os.environ else ("sent",)
"""Jobs that are killed only if asked for. Messages are written as pictures are, and take as long."""
CASES = [
    (out, old)
    for out, entry in kill_points_jobs.JOBS.items()
    for old in (False, True)
    if out not in LEFT_OUT and (old or not entry.old_needed)
]


@pytest.mark.parametrize(("out", "old"), CASES, ids=[f"{out}-{'overwrite' if old else 'new'}" for out, old in CASES])
def test_a_kill_at_any_call_is_repaired(tmp_path: Path, out: str, old: bool) -> None:
    step, last = QUICK[old]
    tried, unusable = kill_points_jobs.count_survived(tmp_path, out, old=old, step=step, last=last)
    assert tried
    assert len(unusable) <= kill_points_jobs.JOBS[out].most_unusable


def test_a_job_that_leaves_other_bytes_after_a_kill_is_found(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()

    def job(*, resume: bool, overwrite: bool) -> None:
        with Path("grows").open("a") as file:  # a second run adds to what a killed one wrote
            file.write("x")

    with pytest.raises(RuntimeError, match="other files or bytes"):
        list(kill_points.every_call(start, tmp_path, two_steps(job), lambda _: True))


def two_steps(job: object) -> object:
    def both(**options: bool) -> None:
        job(**options)  # type: ignore[operator]
        Path("end").write_text("end")

    return both
