"""Disturb jobs over many images at random instants: kills, full disks, killed workers, files that vanish or grow.

For each form of output – .npy, .aek and a folder of PNG files – a job is killed (SIGKILL) at random instants and run
again with --resume until it ends, and that again until there were enough kills. What a job makes in the end is
compared, by SHA-256, with the output of a job that was left alone.
"""

import contextlib
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY = Path(__file__).parent.parent / "tests" / "data" / "tiny"
FORMS = {
    "codes.npy": ["compress", "in"],
    "codes.aek": ["compress", "in"],
    "back": ["reconstruct", "all.npy"],
}
LIMIT = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); "
LIMIT += "runpy.run_module('aekit', run_name='__main__')"
HEADER_BYTES = 1000
"""A size in bytes between an archive's header and its first whole block."""
HANG = 300
"""Seconds after which a job counts as hanging."""


class Wrong(Exception):
    """A job that did not do what is promised."""


def write_images(folder: Path, count: int) -> None:
    """Noise on slopes, as PNG files of 16x16 in folders of 1,000."""
    rng = np.random.default_rng(0)
    for number in range(count):
        file = folder / f"{number // 1000:03d}" / f"{number:06d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        slope = np.add.outer(*rng.integers(0, 8, (2, 1)) * np.arange(16))
        Image.fromarray((slope + rng.integers(0, 16, (16, 16))).astype(np.uint8)).save(file)


class Jobs:
    """A folder of images, and the digests of what undisturbed jobs make of them."""

    def __init__(self, folder: Path, images: int, seed: int) -> None:
        self.folder, self.images, self.rng = folder, images, random.Random(seed)
        write_images(folder / "in", images)
        self.end(self.start("all.npy", ["compress", "in"]))
        self.wanted = {}
        for out in FORMS:
            self.end(self.start(out))
            self.wanted[out] = self.digest(out)
            self.clear(out)

    def start(self, out: str, form: list[str] | None = None, *options: str, limit: int = 0) -> "subprocess.Popen[str]":
        begin = ["-c", LIMIT, str(limit)] if limit else ["-m", "aekit"]
        command = [sys.executable, *begin, *(form or FORMS[Path(out).name]), "--out", out, "--model", str(TINY)]
        command += ["--threads", "1", "--provider", "cpu", "--workers", "2", "--json", *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, text=True)

    def end(self, running: "subprocess.Popen[str]", status: int = 0) -> dict[str, Any]:
        """Wait for a job that must end with this status; returns its result."""
        try:
            said, error = running.communicate(timeout=HANG)
        except subprocess.TimeoutExpired:
            running.kill()
            raise Wrong("a hang") from None
        if running.returncode != status:
            raise Wrong(f"status {running.returncode} instead of {status}: {error[-300:]}")
        result: dict[str, Any] = json.loads(said) if status != 1 else {"error": error}
        return result

    def paths(self, out: str) -> list[Path]:
        path = self.folder / out
        if path.is_dir():
            return sorted(path.rglob("*.*"))
        return [path, path.with_suffix(".jsonl")] if path.suffix == ".npy" else [path]

    def digest(self, out: str) -> str:
        """SHA-256 over the names and bytes of what a job wrote."""
        whole = hashlib.sha256()
        for path in self.paths(out):
            if path.is_file():
                data = path.read_bytes()
                whole.update(f"{path.relative_to(self.folder)} {len(data)} ".encode() + data)
        return whole.hexdigest()

    def check(self, out: str) -> None:
        """Raise Wrong unless `out` is what an undisturbed job makes, and nothing lies beside it; then remove it."""
        if self.digest(out) != self.wanted[out]:
            raise Wrong(f"{out} has other bytes")
        if left := [path.name for path in self.folder.iterdir() if path.suffix in (".part", ".journal", ".old")]:
            raise Wrong(f"left: {left}")
        self.clear(out)

    def clear(self, out: str) -> None:
        if (self.folder / out).is_dir():
            shutil.rmtree(self.folder / out)
        else:
            for path in self.paths(out):
                path.unlink(missing_ok=True)

    def begun(self, out: str, running: "subprocess.Popen[str]") -> bool:
        """Wait until a job has opened its journal; False if it ended first."""
        journal = self.folder / f"{out}.journal"
        until = time.monotonic() + HANG
        while running.poll() is None and time.monotonic() < until:
            with contextlib.suppress(FileNotFoundError):
                if f'"pid": {running.pid},' in journal.read_text():
                    return True
            time.sleep(0.002)
        return False

    def done(self, out: str) -> int:
        """A measure of what a job has done for good: whole blocks of an archive, marks of the others."""
        try:
            if out == "codes.aek":
                return max((self.folder / "codes.aek.part").stat().st_size - HEADER_BYTES, 0)
            return (self.folder / f"{out}.journal").read_bytes().count(b'"mark"')
        except FileNotFoundError:
            return 0

    def moved(self, out: str, running: "subprocess.Popen[str]") -> None:
        """Wait until a job that goes on with another has done more, or has ended."""
        before, until = self.done(out), time.monotonic() + HANG
        while running.poll() is None and self.done(out) <= before and time.monotonic() < until:
            time.sleep(0.002)


def kills(jobs: Jobs, out: str, wanted: int) -> dict[str, Any]:
    """Kill jobs at random instants until there were enough, each resumed until it ends."""
    killed = finished = resumed = 0
    journal = jobs.folder / f"{out}.journal"
    while killed < wanted:
        while True:
            resumed += jobs.done(out) > 0
            running = jobs.start(out, None, "--resume")
            if killed < wanted:
                if jobs.begun(out, running) and jobs.rng.random() < 0.8:  # else as it begins, where little is done
                    jobs.moved(out, running)
                time.sleep(jobs.rng.uniform(0, 0.3))
                if running.poll() is None:
                    running.kill()
                    running.communicate()
                    killed += 1
                    if (jobs.folder / out).exists() and not journal.exists():
                        break  # killed after its work was done, which check looks at
                    continue
            jobs.end(running)
            break
        jobs.check(out)
        finished += 1
    return {"fault": "killed", "output": out, "faults": killed, "jobs": finished, "resumed": resumed}


def limits(jobs: Jobs, out: str, times: int) -> dict[str, Any]:
    """Files that can't grow beyond a random size: one error, and --resume goes on when there is room."""
    # An archive takes about 4 bytes an image, an index 50.
    size = jobs.images * (3 if out == "codes.aek" else 50)
    stopped = resumed = 0
    for _ in range(times):
        running = jobs.start(out, None, limit=jobs.rng.randrange(2000, size))
        _, error = running.communicate(timeout=HANG)
        if running.returncode == 0:
            jobs.check(out)
            continue
        if running.returncode != 1 or len(error.splitlines()) != 1 or "could not be written" not in error:
            raise Wrong(f"a full disk: status {running.returncode}: {error[-300:]}")
        stopped += 1
        resumed += jobs.end(jobs.start(out, None, "--resume"))["resumed"] > 0
        jobs.check(out)
    return {"fault": "file may not grow", "output": out, "faults": stopped, "jobs": times, "resumed": resumed}


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[bool]:
    """A file system of that size on `folder`; yields False where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    able = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield able
    finally:
        if able:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def full_disks(jobs: Jobs, out: str, times: int) -> dict[str, Any]:
    """A disk that is full at a random point, then has room: the job goes on there."""
    size = sum(-(-path.stat().st_size // 4096) * 4 for path in [*jobs.folder.glob("all.*")]) + 4 * jobs.images
    stopped = resumed = 0
    for number in range(times):
        disk = jobs.folder / f"disk-{number}"
        kilobytes = jobs.rng.randrange(*{"back": (100, size), "codes.aek": (12, 60)}.get(out, (100, 1000)))
        with small_disk(disk, kilobytes) as able:
            if not able:
                break
            place = f"{disk.name}/{out}"
            running = jobs.start(place)
            _, error = running.communicate(timeout=HANG)
            if running.returncode == 1 and "could not be written" in error and len(error.splitlines()) == 1:
                stopped += 1
                subprocess.run(["mount", "-o", f"remount,size={size * 4}k", str(disk)], check=True)
                resumed += jobs.end(jobs.start(place, None, "--resume"))["resumed"] > 0
            elif running.returncode:
                raise Wrong(f"a full disk: status {running.returncode}: {error[-300:]}")
            for path in disk.iterdir():
                shutil.move(path, jobs.folder / path.name)
            jobs.check(out)
    return {"fault": "disk full", "output": out, "faults": stopped, "jobs": times, "resumed": resumed}


def workers(jobs: Jobs, out: str, times: int) -> dict[str, Any]:
    """A worker process killed at a random instant costs nothing."""
    killed = 0
    for _ in range(times):
        running = jobs.start(out)
        if jobs.begun(out, running):
            time.sleep(jobs.rng.uniform(0.05, 0.5))
            found = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            if children := found.read_text().split() if found.exists() and running.poll() is None else []:
                subprocess.run(["kill", "-9", jobs.rng.choice(children)], stderr=subprocess.DEVNULL)
                killed += 1
        jobs.end(running)
        jobs.check(out)
    return {"fault": "worker killed", "output": out, "faults": killed, "jobs": times, "resumed": 0}


def vanishing(jobs: Jobs, times: int) -> dict[str, Any]:
    """Files that vanish while a job runs cost a line each; those that grow are read as they are."""
    faults = 0
    files = sorted((jobs.folder / "in").rglob("*.png"))
    for _ in range(times):
        running = jobs.start("codes.npy")
        jobs.begun("codes.npy", running)
        gone = {path: path.read_bytes() for path in jobs.rng.sample(files[jobs.images // 2 :], 20)}
        grown = {path: path.read_bytes() for path in jobs.rng.sample(files, 20) if path not in gone}
        for path in gone:
            path.unlink()
        for path, data in grown.items():
            path.write_bytes(data + b"more")
        said, _ = running.communicate(timeout=HANG)
        result = json.loads(said)
        names = {str(path.relative_to(jobs.folder / "in")) for path in gone}
        skipped = {entry["path"] for entry in result["skipped"]}
        rows = len(np.load(jobs.folder / "codes.npy", mmap_mode="r", allow_pickle=False))
        if running.returncode not in (0, 3) or not skipped <= names or rows != jobs.images - len(skipped):
            raise Wrong(f"files that vanish: status {running.returncode}, {len(skipped)} skipped, {rows} rows")
        faults += len(gone) + len(grown)
        for path, data in (gone | grown).items():
            path.write_bytes(data)
        jobs.clear("codes.npy")
    return {"fault": "file vanished or grew", "output": "codes.npy", "faults": faults, "jobs": times, "resumed": 0}


def random_faults(work: Path, images: int, wanted: int, seed: int) -> Iterator[dict[str, Any]]:
    """Disturb jobs over `images` images, with `wanted` kills for each form of output; yields the rows of the report."""
    jobs, few = Jobs(work, images, seed), max(wanted // 10, 1)
    plans = [(kills, out, wanted) for out in FORMS]
    plans += [(limits, out, few) for out in ("codes.npy", "codes.aek")]
    plans += [(full_disks, out, max(few // 2, 1)) for out in FORMS]
    plans += [(workers, out, few) for out in ("codes.npy", "back")]
    for function, out, times in plans:
        began = time.monotonic()
        yield function(jobs, out, times) | {"seconds": round(time.monotonic() - began, 1)}
    began = time.monotonic()
    yield vanishing(jobs, few) | {"seconds": round(time.monotonic() - began, 1)}
