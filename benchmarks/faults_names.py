"""Put links, FIFOs, sockets and a user's files at every name that a command writes, and run the command.

Whatever lies there, the command must end with the output of an undisturbed one or with an error in one line. Neither
what lies there nor what a link there points to may change.
"""

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TINY = Path(__file__).parent.parent / "tests" / "data" / "tiny"
MINE = b"a user's own bytes"
HANG = 600
"""Seconds after which the attacks on one command count as hanging; all of them take about a minute."""
Tree = dict[str, tuple[object, ...]]
"""For each path below a folder: inode number and type, then the target of a link or the bytes of a file."""


class Broken(Exception):
    """A promise that a command did not keep."""


@dataclass(frozen=True)
class Attacked:
    """A command, and the names that it writes or reads back."""

    command: tuple[str, ...]
    """Arguments; the last one is the output."""
    names: tuple[str, ...]
    """Names of the finished output, then its working names."""
    outputs: int = 1
    """How many of the names are finished outputs."""
    job: str = ""
    """Function of aekit.jobs that can be stopped and resumed; empty for a command without a journal."""
    options: dict[str, Any] = field(default_factory=dict)
    """Other arguments of that function."""

    @property
    def out(self) -> str:
        return self.command[-1]

    @property
    def makes_folder(self) -> bool:
        return "." not in self.out


def _file(out: str, index: str = "") -> tuple[str, ...]:
    """The output and its index, then the working names of a job."""
    return (out, *([index, f"{index}.part"] if index else []), f"{out}.part", f"{out}.journal", f"{out}.old")


def _folder(out: str, marker: str) -> tuple[str, ...]:
    return (
        *(out, f"{out}.part", f"{out}.old", f"{out}.journal", f"{out}/{marker}", f"{out}/a"),
        *(f"{out}.part/.aekit-part", f"{out}.part/{marker}", f"{out}.old/.aekit-old", f"{out}.old/.aekit-part"),
    )


COMMANDS = {
    "compress to .npy": Attacked(
        ("compress", "in", "--out", "o.npy"), ("o.npy", "o.jsonl", *_file("o.npy", "o.jsonl")[2:]), 2, "compress"
    ),
    "compress to .aek": Attacked(("compress", "in", "--out", "o.aek"), _file("o.aek"), 1, "compress"),
    "append to .aek": Attacked(
        ("compress", "in", "--append", "--out", "o.aek"), _file("o.aek"), 1, "compress", {"append": True}
    ),
    "reconstruct to a folder": Attacked(
        ("reconstruct", "all.npy", "--out", "b"), _folder("b", "aekit.json"), 1, "reconstruct"
    ),
    "reconstruct to .npy": Attacked(("reconstruct", "all.npy", "--out", "i.npy"), _file("i.npy"), 1, "reconstruct"),
    "denoise to a folder": Attacked(("denoise", "in", "--out", "d"), _folder("d", "aekit.json"), 1, "denoise"),
    "denoise to .npy": Attacked(("denoise", "in", "--out", "i.npy"), _file("i.npy"), 1, "denoise"),
    "sample": Attacked(("sample", "--n", "4", "--out", "p.png"), _file("p.png")),
    "evaluate": Attacked(("evaluate", "in", "--out", "r"), _folder("r", "report.json")),
}


def _socket(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(path.name)  # a whole path may be too long for a socket


def _users_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_bytes(MINE)


KINDS: dict[str, Callable[[Path], object]] = {
    "link to a file": lambda path: path.symlink_to(Path("else/mine").absolute()),
    "link to a folder": lambda path: path.symlink_to(Path("else/folder").absolute()),
    "link to nothing": lambda path: path.symlink_to(Path("else/nothing").absolute()),
    "link to itself": lambda path: path.symlink_to(path.absolute()),
    "hard link": lambda path: os.link("else/mine", path),
    "FIFO": lambda path: os.mkfifo(path),
    "socket": _socket,
    "a user's file": lambda path: path.write_bytes(MINE),
    "a user's folder": _users_folder,
}
STATES = ("nothing", "nothing, --overwrite", "nothing, --resume", "old output", "stopped job", "stopped job, --resume")
"""What lies there beside, and the option. An old output is to be overwritten."""


def snapshot(folder: Path) -> Tree:
    """Return all that lies below a folder. Links are not followed, and nothing but regular files is opened."""
    found: Tree = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content = path.read_bytes() if kind == stat.S_IFREG else path.readlink() if kind == stat.S_IFLNK else None
            found[str(path.relative_to(folder))] = (status.st_ino, kind, content)
    return found


def contents(tree: Tree, names: tuple[str, ...]) -> dict[str, object]:
    """Return the bytes of the files that lie at these names or below them."""
    return {path: entry[2] for path, entry in tree.items() if entry[2] is not None and _below(path, names)}


def _below(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)


def prepare(folder: Path) -> None:
    """Fill a folder with images, their codes, and a user's files to point links at."""
    rng = np.random.default_rng(0)
    for number in range(4):
        file = folder / "in" / "ab"[number % 2] / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(file)
    (folder / "else" / "folder").mkdir(parents=True)
    for name in ("mine", "folder/mine"):
        (folder / "else" / name).write_bytes(MINE)


def command(*arguments: str) -> str | None:
    """Run a command in this process and return its error, or None if it was done. Raises Broken for a traceback."""
    from typer.testing import CliRunner

    from aekit.cli import app
    from aekit.errors import AekitError

    given = [*arguments, "--model", str(TINY)]
    done = CliRunner().invoke(app, given)
    if not done.exit_code:
        return None
    if not isinstance(done.exception, AekitError | OSError) or "\n" in str(done.exception):
        raise Broken(f"{' '.join(arguments)}: {type(done.exception).__name__}: {done.exception}")
    return str(done.exception)


def stop(entry: Attacked) -> None:
    """Leave the job of this command as a signal after the first batch leaves it."""
    from aekit import jobs
    from aekit.codes.files import open_codes
    from aekit.images.sources import open_source
    from aekit.model.codec import Codec

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    options = jobs.JobOptions(batch_size=2, workers=0, progress=interrupt)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        given = stack.enter_context(open_codes(Path("all.npy"))) if entry.job == "reconstruct" else open_source("in")
        getattr(jobs, entry.job)(given, Path(entry.out), Codec.load(TINY, "cpu", 1), options, **entry.options)


def attack(name: str, kinds: tuple[str, ...] = tuple(KINDS), states: tuple[str, ...] = STATES) -> dict[str, Any]:
    """Attack one command in the current folder, which `prepare` filled; return the row of the report.

    Raises Broken where a promise is not kept.
    """
    entry = COMMANDS[name]
    fixed = ["--threads", "1", "--provider", "cpu"] if entry.command[0] != "sample" else []
    fixed += ["--batch-size", "2", "--workers", "0"] if entry.job else []
    run = [*entry.command[:-1], entry.out, *fixed]
    if entry.command[1] == "all.npy":
        command("compress", "in", "--out", "all.npy", "--workers", "0")
    start = snapshot(Path())
    if command(*run) is not None:
        raise Broken(f"{name}: an undisturbed command failed")
    wanted = contents(snapshot(Path()), entry.names)
    _clear(start)
    counts = {"refused": 0, "done": 0}
    for state in states:
        if ("resume" in state or "stopped" in state) and not entry.job:
            continue
        for target in entry.names if state.startswith("nothing") else entry.names[entry.outputs :]:
            for kind in kinds:
                where = f"{name}: {kind} at {target}, beside {state}"
                if _plant(entry, run, state, target, kind):
                    before = snapshot(Path())
                    option = ["--overwrite"] if "overwrite" in state or state == "old output" else []
                    error = command(*run, *option, *(["--resume"] if "resume" in state else []))
                    counts["refused" if error else "done"] += 1
                    _check(entry, where, before, snapshot(Path()), target, wanted, error, state)
                _clear(start)
    return {"command": name, "names": len(entry.names), "cases": sum(counts.values()), **counts}


def _plant(entry: Attacked, run: list[str], state: str, target: str, kind: str) -> bool:
    """Make the state and put a thing of this kind at `target`; returns False where the state has no room for it."""
    if state == "old output":
        command(*run)
    elif state.startswith("stopped"):
        stop(entry)
    path = Path(target)
    if path.parent.is_file():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        path.rename("kept")  # not removed: what is planted could get its inode number
    before = Path.cwd()
    try:
        if kind == "socket":
            os.chdir(path.parent)
            KINDS[kind](Path(path.name))
        else:
            KINDS[kind](path)
    finally:
        os.chdir(before)
    return True


def _check(
    entry: Attacked,
    where: str,
    before: Tree,
    after: Tree,
    target: str,
    wanted: dict[str, object],
    error: str | None,
    state: str,
) -> None:
    ours = entry.names if state.startswith("stopped") else ()
    for path, known in before.items():
        # A job may clear away its own working folder, and links in it, but not follow them.
        inside = "/" in target and state.startswith("stopped")
        planted = (_below(path, (target,)) and not inside) or path.startswith("else")
        replaced = not error and _below(path, entry.names) and not planted
        if after.get(path) != known and not replaced and not (_below(path, ours) and not planted):
            raise Broken(f"{where}: {path} was changed")
    if error:
        new = set(after) - set(before)
        if new and not state.startswith("stopped"):
            raise Broken(f"{where}: refused, but {sorted(new)} appeared")
        if "could not be" not in error and not any(name in error for name in (target, entry.out)):
            raise Broken(f"{where}: the error names no path: {error}")
    else:
        made = {path: data for path, data in contents(after, entry.names).items() if path in wanted}
        if made != wanted:
            raise Broken(f"{where}: done, but the output differs")


def _clear(start: Tree) -> None:
    """Remove all that does not belong to the start."""
    for path in sorted(set(snapshot(Path())) - set(start), reverse=True):
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).rmdir()
        else:
            Path(path).unlink()


def attacks(work: Path) -> Iterator[dict[str, Any]]:
    """Attack every command, each in a process of its own. Raises Broken where a promise is not kept, or at a hang."""
    for number, name in enumerate(COMMANDS):
        folder = work / f"names-{number}"
        prepare(folder)
        program = [sys.executable, str(Path(__file__)), name]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=HANG)
        if done.returncode:
            raise Broken(done.stderr.strip().splitlines()[-1])
        shutil.rmtree(folder)
        yield json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(attack(sys.argv[1])))
