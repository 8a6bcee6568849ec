"""A job that is killed at any file-system call leaves the old output or the new, or what the next run repairs."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, write_pictures

from aekit import jobs
from aekit.codes.files import open_codes
from aekit.images.sources import open_source
from aekit.model.codec import Codec
from aekit.outputs.staging import staged_file, staged_folder

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from kill_points import every_call

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self/fd").exists(), reason="needs Linux")
QUICK = {True: (8, 9), False: (8, 0)} if "AEKIT_EVERY_KILL" not in os.environ else {True: (1, 0), False: (1, 0)}
"""Which calls are kill points, whether there is an old output or not: each n-th, and so many at the end."""
OPTIONS: dict[str, Any] = {"batch_size": 4, "workers": 0}


def compress(out: str, **options: bool) -> None:
    jobs.compress(open_source("in"), Path(out), Codec.load(TINY, "cpu", 1), jobs.JobOptions(**OPTIONS, **options))


def reconstruct(**options: bool) -> None:
    with open_codes(Path("all.npy")) as codes:
        jobs.reconstruct(codes, Path("back"), Codec.load(TINY, "cpu", 1), jobs.JobOptions(**OPTIONS, **options))


def report(*, resume: bool, overwrite: bool) -> None:
    facts = {"images": 1, "test_images": "", "geometry": "", "code_dim": 4, "model_id": "x", "resume": False}
    with staged_folder(Path("report"), "report.json", overwrite=overwrite) as part:
        (part / "report.json").write_text(json.dumps(facts))


def latest(*, resume: bool, overwrite: bool) -> None:
    with staged_file(Path("latest")) as part:
        part.write_text("new")


JOBS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "codes.npy": (lambda **options: compress("codes.npy", **options), ("codes.npy", "codes.jsonl")),
    "codes.aek": (lambda **options: compress("codes.aek", **options), ("codes.aek",)),
    "back": (reconstruct, ("back/aekit.json", "back/a/000.png")),
    "report": (report, ("report/report.json",)),
    "latest": (latest, ("latest",)),
}


@pytest.mark.parametrize("old", [False, True], ids=["new", "overwrite"])
@pytest.mark.parametrize("out", JOBS)
def test_a_kill_at_any_call_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, old: bool) -> None:
    start = tmp_path / "start"
    write_pictures(start / "in", 6)
    monkeypatch.chdir(start)
    if out == "back":
        compress("all.npy")
    job, names = JOBS[out]
    if old:
        job(resume=False, overwrite=False)
        if (start / "in").exists():  # so that the new output differs
            shutil.copy("in/a/000.png", "in/b/009.png")
        if out == "back":
            compress("all.npy", overwrite=True)
        if out == "latest":
            Path("latest").write_text("old")
    before = {name: (start / name).read_bytes() if old else None for name in names}
    unusable = []

    def usable(found: dict[str, bytes]) -> bool:
        state = {name: found.get(name) for name in names}
        # Of a new output the parts may appear one after the other; of an old one all must be there, and one whole.
        return not old or (None not in state.values() and (state == before or all(map(differs, names, state.values()))))

    def differs(name: str, data: bytes | None) -> bool:
        return data != before[name] or name in ("report/report.json", "back/a/000.png")

    for at, missed in every_call(start, tmp_path, job, usable, *QUICK[old]):
        unusable += [at] if missed else []
    # Two names can't change in one step: a kill may come between the two renames, and nowhere else.
    assert len(unusable) <= {"codes.npy": 1, "back": 1, "report": 1}.get(out, 0)
