"""The journal of a job, NAME.journal beside NAME.part: what the job is and what is done, so that it can be resumed.

    crc32 {"journal": 2, "pid": …}   the format of the journal, and the process that holds the lock
    crc32 {"facts": {…}}      what the result depends on: model, source, options; a resumed job must agree
    crc32 {"mark": {…}}       so many inputs are done, and sums that check their output (aekit.outputs.marks)
    crc32 {"finished": […]}   all is written and about to take its name

Data is written before its mark, and a mark counts only if what it sums up is found to be there: so neither the instant
of a kill nor the order in which a disk wrote before a power cut can make a wrong result. The file is locked for as long
as the job, or a process that it started, is alive: of two jobs on one output the second fails before it changes
anything. Windows has no such lock: there, run one job at a time.
"""

import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aekit.errors import ImageError, OutputError, TooManyFailures, WorkerError
from aekit.outputs.left import VERSION, parse_line, read_left
from aekit.outputs.marks import Mark, Restorable, Step, Written

if sys.platform != "win32":
    import fcntl

_RESUMABLE = (KeyboardInterrupt, OSError, MemoryError, WorkerError, ImageError, TooManyFailures)
"""What may stop a job without a fault in what it wrote."""
_SYNC_SECONDS = 5.0
"""Work that a power cut may cost at most, seconds, where the disk does what it is told."""
_ORPHAN_SECONDS = 10.0
"""How long the processes of a killed job may take to end: they see it when they have done the piece they are on."""


def part_of(path: Path) -> Path:
    """Where the output `path` is written until it is whole."""
    return path.with_name(path.name + ".part")


class Journal:
    """An open, locked journal; `journaled` makes one."""

    def __init__(self, path: Path, file: int) -> None:
        self.path, self._file = path, file
        self.facts: dict[str, Any] = {}
        """What is on record that the result depends on."""
        self.marks: list[Mark] = []
        """What is done."""
        self.kept = 0
        """Inputs that a resumed job would not process again."""
        self.untouched = True
        """Whether what an earlier job left is still as it was."""
        self._ends = list[int]()
        self._finished: Sequence[int] = ()
        self._size = 0
        self._synced = time.monotonic()

    @property
    def inputs(self) -> int:
        """Inputs done."""
        return self.marks[-1].step.inputs if self.marks else 0

    def begin(self, facts: dict[str, Any], *, resume: bool, once: str = "") -> None:
        """Take over what an earlier job left, if it is to be resumed, up to the first line that is not whole. The rest
        is cut off.

        `once` names a fact. A job with the same value of this fact must not run twice on one output: so if the earlier
        job had finished and was not resumed, nothing is changed.

        Raises OutputError if the earlier job was another job, its journal has another format, or it must not run twice.
        """
        output, earlier = self.path.with_suffix(""), read_left(self._file)
        if resume:
            if earlier.version not in (None, VERSION):
                raise OutputError(
                    f"{output} can't be resumed: its journal, {self.path.name}",
                    expected=f"format {VERSION}",
                    found=f"format {earlier.version}, of another version of aekit",
                    fix="start anew without --resume",
                )
            self.facts, self.marks, self._ends = earlier.facts, earlier.marks, earlier.ends
            self._finished, self._size = earlier.finished, earlier.size
            self.kept = self.marks[-1].written.kept if self.marks else 0
        elif once and earlier.facts.get(once) == facts[once] and _is_in_place([output], earlier.finished):
            raise OutputError(
                f"{output} holds these inputs already: the job that added them was killed when it had finished",
                fix=f"give --resume to end that job, or remove {self.path.name} to add the same inputs again",
            )
        self.untouched = False
        os.ftruncate(self._file, self._size)
        self._write({"journal": VERSION, "pid": os.getpid()})
        self.agree(facts)

    def agree(self, facts: dict[str, Any]) -> None:
        """Put facts on record that the result depends on; raises OutputError where others are there already."""
        for name, value in facts.items():
            if (known := self.facts.get(name, value)) != value:
                raise OutputError(
                    f"{self.path.with_suffix('')} can't be resumed: {name}",
                    expected=f"{known}, as when the job began",
                    found=str(value),
                    fix="give what it began with, or start anew without --resume",
                )
        if new := {name: value for name, value in facts.items() if name not in self.facts}:
            self.facts |= new
            self._write({"facts": new})

    def mark(self, step: Step, written: Written) -> None:
        """Note what is done. The output must have been handed to the system, though not yet brought to the disk."""
        mark = Mark(step, written)
        self._write({"mark": mark.to_json()})
        self.marks.append(mark)
        self._ends.append(self._size)
        self.kept = max(self.kept, written.kept)

    def due(self) -> bool:
        """Whether it is time to bring data to the disk before they are marked."""
        now = time.monotonic()
        if now - self._synced < _SYNC_SECONDS:
            return False
        self._synced = now
        return True

    def restore(self, output: Restorable) -> None:
        """Let the writer take over what an earlier job wrote, and forget the marks that do not hold any more."""
        count = output.restore(self.marks)
        if count < len(self.marks):
            self._size = self._ends[count - 1] if count else 0
            os.ftruncate(self._file, self._size)
            del self.marks[count:], self._ends[count:]
            self._write({"journal": VERSION, "pid": os.getpid(), "facts": self.facts})
        self.kept = self.inputs

    def finish(self, *outputs: Path) -> None:
        """Say that the outputs, still under their working names, are whole."""
        self._write({"finished": [os.stat(part_of(path)).st_ino for path in outputs]})

    def is_finished(self, *outputs: Path) -> bool:
        """Whether the earlier job had finished, and all these outputs have taken their names."""
        return _is_in_place(outputs, self._finished)

    def take_back(self, *outputs: Path) -> None:
        """Give outputs their working names again that an earlier job had finished and renamed when it was killed."""
        for path, number in zip(outputs, self._finished, strict=False):
            if _is_in_place([path], [number]):
                os.replace(path, part_of(path))

    def keeps(self, error: BaseException) -> bool:
        """Whether what was written stays when `error` ends the job: it is of use, and there is no fault in it."""
        return self.kept > 0 and isinstance(error, _RESUMABLE)

    def _write(self, entry: dict[str, Any]) -> None:
        text = json.dumps(entry).encode("ascii")
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        os.lseek(self._file, self._size, os.SEEK_SET)
        written = os.write(self._file, line)
        if written < len(line):  # of a disk that is full: the next write says why
            os.write(self._file, line[written:])
        self._size += len(line)


@contextlib.contextmanager
def journaled(out: Path, facts: dict[str, Any], *, resume: bool = False, once: str = "") -> Iterator[Journal]:
    """Yield the locked journal of the job that writes `out` and whose result depends on `facts`.

    With `resume` it holds what an earlier job has done, if one left something. It is removed when the block ends, with
    the data that it is about, unless an error ends the block after which the job can be resumed; that error then gets
    a note which says so.

    Raises OutputError if another job writes `out`, the earlier job was another one, nothing can be written there, or
    an earlier job had finished that must not run twice: one with the same value of the fact `once`.
    """
    path = out.with_name(out.name + ".journal")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path, out)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{out} could not be written", found=error.strerror or str(error)) from error
    journal, keep = Journal(path, file), False
    try:
        journal.begin(facts, resume=resume, once=once)
        yield journal
    except BaseException as error:
        keep = journal.untouched or journal.keeps(error)
        if journal.keeps(error):
            error.add_note(f"{journal.kept:,} inputs are done and kept: --resume goes on with the others")
        raise
    finally:
        if sys.platform == "win32":
            os.close(file)  # an open file can't be removed there; elsewhere it is removed under its lock
        if not keep:
            path.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(file)


def _open_locked(path: Path, out: Path) -> int:
    until = time.monotonic() + _ORPHAN_SECONDS
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            if _is_alive(file) or time.monotonic() > until:
                os.close(file)
                fix = "wait until it has ended"
                raise OutputError(
                    str(out), expected="one job that writes it", found="another at work", fix=fix
                ) from None
            time.sleep(0.05)
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # the other job ended, and removed its journal, between the opening and the lock


def _is_alive(file: int) -> bool:
    """Whether the job that locked this journal lives, or only processes that it started still end."""
    pid = 0
    for line in os.pread(file, os.fstat(file).st_size, 0).splitlines(keepends=True):
        pid = (parse_line(line) or {}).get("pid", pid)
    if not pid:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _is_in_place(outputs: Sequence[Path], inodes: Sequence[int]) -> bool:
    """Whether each output has its name, and is the file or folder of that inode."""
    return len(outputs) == len(inodes) and all(
        not part_of(path).exists() and path.exists() and path.stat().st_ino == inode
        for path, inode in zip(outputs, inodes, strict=True)
    )
