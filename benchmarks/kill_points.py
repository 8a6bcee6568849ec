"""Kill a job at every file-system call it makes, one run for each call, and run it again.

A child process installs an audit hook, and wraps os.write, os.fsync and os.ftruncate. Together they see each call that
opens, makes, renames, removes, cuts or syncs something below the working folder, and each line of the journal. Before
the wanted call the child kills itself (SIGKILL), so nothing of Python runs afterwards.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
CALLS = ("write", "fsync", "ftruncate")


class Killer:
    """Counts file-system calls of this process below a folder, and kills it before call number `at`."""

    def __init__(self, folder: Path, at: int) -> None:
        self._folder, self._at, self.calls = str(folder), at, 0
        sys.addaudithook(self._audit)
        for name in CALLS:
            setattr(os, name, self._counted(getattr(os, name)))

    def _step(self) -> None:
        if self.calls == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.calls += 1

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and arguments and isinstance(arguments[0], str | os.PathLike | bytes):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            reads = event == "open" and isinstance(arguments[2], int) and not arguments[2] & (os.O_RDWR | os.O_WRONLY)
            if path.startswith(self._folder) and not reads:
                self._step()

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(file: int, *arguments: Any) -> Any:
            if os.path.realpath(f"/proc/self/fd/{file}").startswith(self._folder):
                self._step()
            return call(file, *arguments)

        return counted


def run(folder: Path, at: int, job: Callable[[], Any]) -> tuple[bool, int]:
    """Run `job` in a forked child that is killed before its call number `at`; -1 lets it end.

    Returns whether it was killed, and how many calls it made if not. Raises RuntimeError if it failed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.chdir(folder)
            killer = Killer(folder, at)
            job()
            with os.fdopen(writing, "w") as said:
                said.write(json.dumps(killer.calls))
            status = 0
        except BaseException as error:  # the child must not go on as a second copy of the caller
            print(f"call {at}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True, 0
    if status:
        raise RuntimeError(f"the job that was to be killed at call {at} failed")
    return False, int(text)


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def every_call(
    start: Path,
    work: Path,
    job: Callable[..., Any],
    usable: Callable[[dict[str, bytes]], bool],
    step: int = 1,
    last: int = 0,
) -> Iterator[tuple[int, str]]:
    """Kill `job` at each `step`-th call and the `last` ones, in copies of the folder `start`; then run it again.

    `job(resume=…, overwrite=…)` works in the current folder. `usable` says whether a killed job left a whole output,
    the old or the new. After each kill the job runs again in three folders: resumed in a copy, anew in a copy whose
    files have new times of change, and in the folder itself (resumed after every second kill, else anew). All must end
    with the very files of a job that was left alone. Yields the number of the call, and `""` or what a reader misses.
    """
    whole = work / "whole"
    shutil.copytree(start, whole)
    _, calls = run(whole, -1, lambda: job(resume=False, overwrite=True))
    wanted = tree(whole)
    for number, at in enumerate(at for at in range(calls) if at % step == 0 or at >= calls - last):
        killed = work / f"killed-{at}"
        shutil.copytree(start, killed)
        was_killed, _ = run(killed, at, lambda: job(resume=False, overwrite=True))
        if not was_killed:
            raise RuntimeError(f"there was no call {at}")
        missed = "" if usable(tree(killed)) else "no whole output until the next job"
        place = work / "again"
        for resume, how in ((True, shutil.copy2), (False, shutil.copy), (number % 2 == 0, None)):
            if how:  # a copy has other inode numbers, by which a journal knows its parts
                shutil.copytree(killed, place, copy_function=how)
            else:
                killed.rename(place)
            run(place, -1, lambda resume=resume: job(resume=resume, overwrite=True))  # type: ignore[misc]
            if tree(place) != wanted:
                odd, where = sorted(set(tree(place)) ^ set(wanted)), "in a copy" if how else "in place"
                raise RuntimeError(f"killed at call {at}, resume={resume}, {where}: other files or bytes {odd}")
            shutil.rmtree(place)
        yield at, missed
    shutil.rmtree(whole)
