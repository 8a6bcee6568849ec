"""Run commands in processes whose memory is limited (RLIMIT_AS), each with many limits, and resume them without one.

A process that gets too little memory must end with one line, do its whole work, or skip a large image and say that it
lacks the memory for it. It may never leave a wrong output, call a sound image damaged, hang, or print a traceback.
Native libraries may end a process that gets no memory; that counts as a kill. In every case the same command with
--resume must then end with the bytes of an undisturbed job.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY = Path(__file__).parent.parent / "tests" / "data" / "tiny"
SIDE = 3000
"""Width and height of the large images, in pixels: 27 MB each when decoded."""
MEBIBYTES = (0, 1, 4, 8, 16, 32, 64, 128, 256, 512)
"""Memory that a process may take beside what it has when its libraries are loaded."""
HANG = 120
"""Seconds after which a command counts as hanging."""
LIMITED = """
import resource, sys
import PIL.Image, aekit.cli, aekit.jobs, aekit.evaluation.report, aekit.model.codec, aekit.model.providers
aekit.model.providers.onnxruntime()
PIL.Image.init()
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + int(sys.argv.pop(1)) * 2**20,) * 2)
aekit.cli.main()
"""
COMMANDS = {
    "compress a folder": ("compress", "in", "--out", "o.npy"),
    "compress an array": ("compress", "in.npy", "--out", "o.aek"),
    "reconstruct": ("reconstruct", "all.npy", "--out", "o", "--original-size"),
    "denoise": ("denoise", "in", "--out", "o.npy"),
    "evaluate": ("evaluate", "in.npy", "--out", "o"),
}


class Broken(Exception):
    """A promise that a command did not keep."""


def prepare(folder: Path) -> None:
    """Fill a folder with small images and three large ones of different formats, and with an array of 50,000."""
    rng = np.random.default_rng(0)
    (folder / "in").mkdir(parents=True)
    for number in range(60):
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(folder / "in" / f"{number:03d}.png")
    slope = np.linspace(0, 255, SIDE * SIDE * 3).astype(np.uint8).reshape(SIDE, SIDE, 3)
    for number, suffix in ((10, "png"), (30, "jpg"), (50, "tiff")):
        Image.fromarray(slope).save(folder / "in" / f"{number:03d}-large.{suffix}")
    np.save(folder / "in.npy", rng.integers(0, 256, (50_000, 16, 16), np.uint8))


def start(folder: Path, command: tuple[str, ...], limit: int | None, *options: str) -> tuple[int, str]:
    """Run a command under a limit in MiB, or without one; return its status and what it said on stderr."""
    begin = ["-m", "aekit"] if limit is None else ["-c", LIMITED, str(limit)]
    given = [sys.executable, *begin, *command, "--model", str(TINY), "--provider", "cpu", "--threads", "1", *options]
    try:
        done = subprocess.run(given, cwd=folder, capture_output=True, text=True, timeout=HANG)
    except subprocess.TimeoutExpired:
        raise Broken(f"{' '.join(command)}: a hang under {limit} MiB") from None
    return done.returncode, done.stderr


def outputs(folder: Path) -> list[Path]:
    """Return what lies at the names of outputs, and at their working names."""
    return [path for path in folder.iterdir() if path.name.partition(".")[0] == "o"]


def digest(folder: Path) -> str:
    """Return a hash over the names and bytes of the outputs; of a report, which tells its time, over the names."""
    whole = hashlib.sha256()
    for path in sorted(file for out in outputs(folder) for file in (out, *out.rglob("*")) if file.is_file()):
        data = b"" if path.name == "report.json" else path.read_bytes()
        whole.update(f"{path.relative_to(folder)} {len(data)} ".encode() + data)
    return whole.hexdigest()


def clear(folder: Path) -> None:
    for path in outputs(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def limit_one(folder: Path, name: str, workers: int, mebibytes: tuple[int, ...] = MEBIBYTES) -> dict[str, Any]:
    """Run one command under each limit, then without one; return the row of the report. Raises Broken."""
    command = COMMANDS[name]
    resumable = command[0] != "evaluate"
    options = ["--workers", str(workers), "--batch-size", "64"] if resumable else []
    if "all.npy" in command and not (folder / "all.npy").exists():
        start(folder, ("compress", "in", "--out", "all.npy"), None, "--workers", "0")
    status, said = start(folder, command, None, *options)
    if status:
        raise Broken(f"{name}: an undisturbed command ended with {status}: {said}")
    wanted = digest(folder)
    clear(folder)
    counts = {"done": 0, "skipped": 0, "one_line": 0, "killed": 0}
    for limit in mebibytes:
        where = f"{name}, {workers} workers, {limit} MiB"
        status, said = start(folder, command, limit, *options)
        lines = [line for line in said.strip().splitlines() if not line.startswith("warning: ")]
        if status == 0:
            counts["done"] += 1
        elif status == 3 and all("not enough memory to decode" in line for line in lines):
            counts["skipped"] += 1
        elif status == 1 and len(lines) == 1 and "Traceback" not in said:
            counts["one_line"] += 1
        elif status < 0:
            counts["killed"] += 1
        else:
            raise Broken(f"{where}: status {status}: {said[-300:]}")
        if status == 0 and digest(folder) != wanted:
            raise Broken(f"{where}: done, but the output differs")
        if status not in (0, 3):
            finished = [path.name for path in outputs(folder) if path.suffix in ("", ".npy", ".aek", ".jsonl")]
            if finished:
                raise Broken(f"{where}: not done, but {finished} are there")
            status, said = start(folder, command, None, *options, *(["--resume"] if resumable else []))
            if status or digest(folder) != wanted:
                raise Broken(f"{where}: resumed with status {status}: {said[-300:]}")
        clear(folder)
    return {"command": name, "workers": workers, "limits": sum(counts.values()), **counts}


def limits(work: Path) -> Iterator[dict[str, Any]]:
    """Run every command under every limit, with workers and without; yields the rows of the report."""
    prepare(work)
    for name, command in COMMANDS.items():
        for workers in (0, 2) if command[0] != "evaluate" else (0,):
            yield limit_one(work, name, workers)
