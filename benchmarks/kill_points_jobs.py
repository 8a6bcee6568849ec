"""The jobs that are killed at every file-system call, each in a small folder, and the count of calls survived."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kill_points import every_call, run
from PIL import Image

from aekit import jobs
from aekit.codes.files import open_codes
from aekit.errors import OutputError
from aekit.images.sources import open_source
from aekit.model.codec import Codec
from aekit.outputs.staging import staged_file, staged_folder

TINY = Path(__file__).parent.parent / "tests" / "data" / "tiny"
OPTIONS: dict[str, Any] = {"batch_size": 4, "workers": 0}


def compress(out: str, source: str = "in", **options: bool) -> None:
    """Encode `source` into the code file `out` of the current folder."""
    append = options.pop("append", False)
    given = jobs.JobOptions(**OPTIONS, **options)
    jobs.compress(open_source(source), Path(out), Codec.load(TINY, "cpu", 1), given, append=append)


def append(source: str, *, resume: bool, overwrite: bool) -> None:
    """Add `source` to the archive codes.aek.

    A killed append that had finished refuses to run again, since that could store the images twice. Its error says to
    go on with --resume, which is done here.
    """
    try:
        compress("codes.aek", source, resume=resume, append=True)
    except OutputError as error:
        if resume or "--resume" not in str(error):
            raise
        compress("codes.aek", source, resume=True, append=True)


def reconstruct(**options: bool) -> None:
    """Decode all.npy into the folder `back`."""
    with open_codes(Path("all.npy")) as codes:
        jobs.reconstruct(codes, Path("back"), Codec.load(TINY, "cpu", 1), jobs.JobOptions(**OPTIONS, **options))


def send(**options: bool) -> None:
    """Encode the images to messages in the folder `sent`."""
    given = jobs.JobOptions(**OPTIONS, **options)
    jobs.compress_to_messages(open_source("in"), Path("sent"), Codec.load(TINY, "cpu", 1), given)


def report(*, resume: bool, overwrite: bool) -> None:
    """Write a folder with the marker of a report."""
    facts = {"images": 1, "test_images": "", "geometry": "", "code_dim": 4, "model_id": "x", "resume": False}
    with staged_folder(Path("report"), "report.json", overwrite=overwrite) as part:
        (part / "report.json").write_text(json.dumps(facts))


def latest(*, resume: bool, overwrite: bool) -> None:
    """Replace one file that has no journal."""
    with staged_file(Path("latest")) as part:
        part.write_text("new")


@dataclass(frozen=True)
class KilledJob:
    """One job that is killed at its file-system calls."""

    job: Callable[..., None]
    """Called with `resume` and `overwrite` in the folder it works in."""
    names: tuple[str, ...]
    """Files of its output; a reader needs all of them."""
    most_unusable: int = 0
    """Kill points after which a reader finds neither the old output nor the new one until the next job. Two names can't
    change in one step: a kill may come between two renames, and nowhere else."""
    old_needed: bool = False
    """Whether the job adds to an old output."""


JOBS = {
    "codes.npy": KilledJob(lambda **options: compress("codes.npy", **options), ("codes.npy", "codes.jsonl"), 1),
    "codes.aek": KilledJob(lambda **options: compress("codes.aek", **options), ("codes.aek",)),
    "append a folder": KilledJob(lambda **options: append("in", **options), ("codes.aek",), old_needed=True),
    "append an array": KilledJob(lambda **options: append("in.npy", **options), ("codes.aek",), old_needed=True),
    "back": KilledJob(reconstruct, ("back/aekit.json", "back/a/000.png"), 1),
    "sent": KilledJob(send, ("sent/aekit.json", "sent/a/000.aem"), 1),
    "report": KilledJob(report, ("report/report.json",), 1),
    "latest": KilledJob(latest, ("latest",)),
}
_SAME = ("report/report.json", "back/a/000.png", "sent/a/000.aem")
"""Files whose old and new bytes are equal."""


def write_images(folder: Path, count: int) -> None:
    """PNG files of 16x16 in two folders, and in.npy beside them, an array of 3 images."""
    rng = np.random.default_rng(0)
    for number in range(count):
        file = folder / "in" / "ab"[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(file)
    np.save(folder / "in.npy", rng.integers(0, 256, (3, 16, 16), np.uint8))


def prepare(start: Path, name: str, *, old: bool) -> None:
    """Fill the folder `start` with the inputs of a job and, if `old`, with an earlier output that differs."""
    entry = JOBS[name]
    write_images(start, 6)
    before = Path.cwd()
    os.chdir(start)
    try:
        if name == "back":
            compress("all.npy")
        if old and entry.old_needed:
            compress("codes.aek", "in" if name.endswith("folder") else "in.npy")
        elif old:
            entry.job(resume=False, overwrite=False)
        if old:
            shutil.copy("in/a/000.png", "in/b/009.png")
            if name == "back":
                compress("all.npy", overwrite=True)
            if name == "latest":
                Path("latest").write_text("old")
    finally:
        os.chdir(before)


def count_survived(work: Path, name: str, *, old: bool, step: int = 1, last: int = 0) -> tuple[int, list[int]]:
    """Kill a job at each `step`-th call and the `last` ones; returns the kill points tried, and those after which a
    reader finds no whole output until the next job.

    Raises RuntimeError if a job that runs again ends with other files than one that was left alone.
    """
    start = work / "start"
    start.mkdir(parents=True)
    # In a child: a process that has run the model must not fork, and every_call forks.
    run(start, -1, lambda: prepare(start, name, old=old))
    before = {file: (start / file).read_bytes() if old else None for file in JOBS[name].names}

    def usable(found: dict[str, bytes]) -> bool:
        state = {file: found.get(file) for file in before}
        # Of a new output the parts may appear one after the other; of an old one all must be there, and one whole.
        changed = all(data != before[file] or file in _SAME for file, data in state.items())
        return not old or (None not in state.values() and (state == before or changed))

    tried, unusable = 0, []
    for at, missed in every_call(start, work, JOBS[name].job, usable, step, last):
        tried += 1
        unusable += [at] if missed else []
    return tried, unusable
