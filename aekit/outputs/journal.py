"""The journal of a job, NAME.journal beside NAME.part: what the job is and what is done, so that it can be resumed.

    crc32 {"journal": 3, "pid": …}  the process that holds the lock, and the journal's inode number
    crc32 {"anew": true}            all of the lines before count no more, but for the names of parts
    crc32 {"making": "a.part"}      that part is about to be made, where nothing lies yet
    crc32 {"part": ["a.part", 7]}   that part is a file of this job; 7 is its inode number
    crc32 {"facts": {…}}            what the result depends on: model, source, options; a resumed job must agree
    crc32 {"mark": {…}}             so many inputs are done, and sums that check their output (aekit.outputs.marks)
    crc32 {"rewind": 3}             the first 3 marks alone count
    crc32 {"finished": […]}         all is written and about to take its name: inode numbers of parts, of old files

Data is written before its mark, and a mark counts only if its checksums agree with the data. So neither the instant of
a kill nor the order in which a disk wrote before a power cut can make a wrong result.

A file is the job's own only if the journal names it with its inode number, or announces it and it is empty. Anything
else at a working name belongs to the user: the job refuses to start. A journal that was moved or copied, which its own
inode number tells, vouches for the parts beside it by their names.

The journal is locked by `filelock.lock_descriptor`, on Windows too. filelock's `FileLock` would not do: it releases its
lock in forked children, and leaves a lock file behind. This lock belongs to the journal's open file, which forked
workers share. So it lasts as long as the job or a worker is alive, and a second job on the output fails before it
changes anything. On Windows it lasts as long as the job.
"""

import contextlib
import json
import os
import sys
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from aekit.errors import ImageError, OutputError, OutputExists, TooManyFailures, WorkerError
from aekit.outputs.left import VERSION, parse_line, read_left
from aekit.outputs.marks import Mark, Restorable, Step, Written
from aekit.outputs.places import (
    NO_LINKS,
    STAMP,
    check_working_name,
    create,
    is_running,
    part_of,
    settled,
    status,
    sync,
    write_errors,
)

_RESUMABLE = (KeyboardInterrupt, OSError, MemoryError, WorkerError, ImageError, TooManyFailures)
"""Errors that may stop a job without a fault in what it wrote."""
_SYNC_SECONDS = 5.0
"""Work that a power cut may cost at most, seconds, where the disk does what it is told."""
_ORPHAN_SECONDS = 10.0
"""Seconds that the workers of a killed job may take to end. A worker notices when its piece of work is done."""


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
        self._finished: Sequence[int] = ()
        self._over: Sequence[int] = ()
        self._parts = dict[str, int]()
        self._making = set[str]()
        self._version: int | None = None
        self._vouches = False  # whether parts are known by their names alone
        self._size = 0
        self._synced = time.monotonic()

    @property
    def inputs(self) -> int:
        """Inputs done."""
        return self.marks[-1].step.inputs if self.marks else 0

    def read(self) -> None:
        """Take over what an earlier job left in the file. Raises OutputExists if it is not a journal of aekit's."""
        earlier = read_left(self._file)
        if earlier.is_foreign:
            fix = "aekit did not make it and will not replace it; move it away, or choose another --out"
            raise OutputExists(self.path, fix)
        # Journals of earlier formats name no parts.
        moved = earlier.inodes - {os.fstat(self._file).st_ino}
        self._vouches = bool(moved) or earlier.version not in (None, VERSION)
        self._version, self._size = earlier.version, earlier.size
        self._parts, self._making = earlier.parts, earlier.making
        self._finished, self._over = earlier.finished, earlier.over
        self.facts, self.marks = earlier.facts, earlier.marks
        self.kept = self.marks[-1].written.kept if self.marks else 0

    def begin(self, facts: dict[str, Any], *, resume: bool, once: str = "") -> None:
        """Take over what an earlier job left, if it is to be resumed; else keep only which parts it left.

        `once` names a fact. A job with the same value of this fact must not run twice on one output: so if the earlier
        job had finished and was not resumed, nothing is changed.

        Raises OutputError if the earlier job was another job, its journal has another format, or it must not run twice;
        OutputExists if the journal is not aekit's.
        """
        self.read()
        output = self.path.with_suffix("")
        if resume and self._version not in (None, VERSION):
            raise OutputError(
                f"{output} can't be resumed: its journal, {self.path.name}",
                expected=f"format {VERSION}",
                found=f"format {self._version}, of another version of aekit",
                fix="start anew without --resume",
            )
        if not resume and once and self.facts.get(once) == facts[once] and _is_in_place([output], self._finished):
            raise OutputError(
                f"{output} holds these inputs already: the job that added them was killed when it had finished",
                fix=f"give --resume to end that job, or remove {self.path.name} to add the same inputs again",
            )
        self.untouched = False
        os.ftruncate(self._file, self._size)
        self._write({"journal": VERSION, "pid": os.getpid(), "inode": os.fstat(self._file).st_ino})
        if not resume:
            self.facts, self.marks, self._finished, self._over, self.kept = {}, [], (), (), 0
            self._write({"anew": True})
        self.agree(facts)

    def claim(self, part: Path) -> None:
        """Make `part` an empty file of this job, or, where the journal has marks, keep the one that is there.

        Raises OutputExists if a file lies there that this journal does not name, OutputError for anything else there.
        """
        if check_working_name(part) is not None:
            if not self._owns(part):
                fix = "aekit did not make it and will not replace it; move it away, or choose another --out"
                raise OutputExists(part, fix)
            if self.marks:
                return
            part.unlink()
        name = self._name(part)
        self._write({"making": name})
        self._making.add(name)
        create(part)
        self._parts[name] = os.lstat(part).st_ino
        self._write({"part": [name, self._parts[name]]})
        os.fsync(self._file)  # a part whose journal is lost in a power cut could not be told from a user's file

    def _name(self, part: Path) -> str:
        return part.name if part.parent == self.path.parent else os.path.abspath(part)

    def _owns(self, part: Path) -> bool:
        """Whether the regular file `part` is known to be this job's."""
        found, name = os.lstat(part), self._name(part)
        if self._parts.get(name) == found.st_ino or self._vouches:
            return True
        return name in self._making and found.st_size == 0

    def clear(self) -> None:
        """Remove the parts that lie there and are this job's."""
        for name in {*self._parts, *self._making}:
            part = self.path.parent / name
            with contextlib.suppress(OSError):
                if check_working_name(part) is not None and self._owns(part):
                    part.unlink()

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
            del self.marks[count:]
            self._write({"rewind": count})
        self.kept = self.inputs

    def finish(self, *outputs: Path) -> None:
        """Say that the outputs, still under their working names, are whole, and which files they will replace.

        Brings files to the disk, so that nothing but the renames is left to do: two of them then follow at once.
        """
        places = [settled(path) for path in outputs]
        for part in map(part_of, places):
            if part.is_file():
                sync(part)
        self._finished = [os.lstat(part_of(place)).st_ino for place in places]
        self._over = [found.st_ino for place in places if (found := status(place))]
        self._write({"finished": self._finished, "over": self._over})

    def has_finished(self, part: Path) -> bool:
        """Whether `part` is an output that was finished, and may have had its own name already."""
        found = status(part)
        return found is not None and found.st_ino in self._finished

    @property
    def known(self) -> Collection[int]:
        """Inode numbers of the finished outputs and of the files that they were to replace."""
        return (*self._finished, *self._over)

    def is_finished(self, *outputs: Path) -> bool:
        """Whether the earlier job had finished, and all these outputs have taken their names."""
        return _is_in_place(outputs, self._finished)

    def take_back(self, *outputs: Path) -> None:
        """Give finished outputs that an earlier job renamed before it was killed their working names again."""
        for path, number in zip(outputs, self._finished, strict=False):
            place = settled(path)
            if status(part_of(place)) is None and self._is(place, number):
                os.replace(place, part_of(place))

    def _is(self, path: Path, number: int) -> bool:
        """Whether `path` is the finished output with this inode number, or may be, where the journal was moved."""
        found = status(path)
        return found is not None and (found.st_ino == number or self._vouches)

    def complete(self, *outputs: Path) -> bool:
        """Give all finished files their names, as the job that was killed was about to; returns whether it could."""
        places = [settled(path) for path in outputs]
        if not self._finished or len(self._finished) != len(places):
            return False
        steps = [(place, part_of(place), number) for place, number in zip(places, self._finished, strict=True)]
        if not all(self._is(part, number) or self._is(place, number) for place, part, number in steps):
            return False
        for place, part, number in steps:
            if self._is(part, number):
                if place.is_dir():
                    return False  # staged_folder knows how to replace it
                os.replace(part, place)
            if place.is_dir():
                (place / STAMP).unlink(missing_ok=True)
        return True

    def keeps(self, error: BaseException) -> bool:
        """Whether what was written stays when `error` ends the job: it is of use, and there is no fault in it."""
        return self.kept > 0 and isinstance(error, _RESUMABLE)

    def _write(self, entry: dict[str, Any]) -> None:
        text = json.dumps(entry).encode("ascii")
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        os.lseek(self._file, self._size, os.SEEK_SET)
        written = os.write(self._file, line)
        if written < len(line):  # a full disk takes a part of the line; the next write raises the reason
            os.write(self._file, line[written:])
        self._size += len(line)


@contextlib.contextmanager
def journaled(out: Path, facts: dict[str, Any], *, resume: bool = False, once: str = "") -> Iterator[Journal]:
    """Yield the locked journal of the job that writes `out` and whose result depends on `facts`.

    With `resume` it holds what an earlier job has done, if one left something. When the block ends, the journal and the
    parts that it names are removed, unless an error ends the block after which the job can be resumed. That error then
    gets a note which says so.

    Raises OutputError if another job writes `out`, the earlier job was another one, nothing can be written there, or an
    earlier job had finished that must not run twice: one with the same value of the fact `once`. Raises OutputExists if
    the file NAME.journal is not a journal of aekit's.
    """
    place = settled(out)
    path = _journal_of(place)
    with write_errors(out):
        place.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path, out)
    journal, keep = Journal(path, file), False
    try:
        with write_errors(out):
            journal.begin(facts, resume=resume, once=once)
        yield journal
    except BaseException as error:
        keep = journal.untouched or journal.keeps(error)
        if journal.keeps(error):
            error.add_note(f"{journal.kept:,} inputs are done and kept: --resume goes on with the others")
        raise
    finally:
        if not keep:
            journal.clear()
        _close(path, file, remove=not keep)


def complete(*outputs: Path) -> None:
    """Give files their names that a killed job had finished, as an overwrite of two files may leave one of each.

    Does nothing if there is no such job, or it is still at work. Raises OutputError if a file can't be renamed.
    """
    path = _journal_of(settled(outputs[0]))
    with write_errors(outputs[0]):
        found = status(path)
        if found is None or not found.st_size:
            return
        check_working_name(path)
        file = os.open(path, os.O_RDWR | NO_LINKS)
        done = False
        try:
            if _lock(file):
                journal = Journal(path, file)
                journal.read()
                done = journal.complete(*outputs)
        finally:
            _close(path, file, remove=done)


def _journal_of(place: Path) -> Path:
    return place.with_name(place.name + ".journal")


def _close(path: Path, file: int, *, remove: bool) -> None:
    if sys.platform == "win32":
        os.close(file)  # an open file can't be removed there; elsewhere it is removed under its lock
    try:
        if remove:
            path.unlink(missing_ok=True)
    finally:
        if sys.platform != "win32":
            os.close(file)


def _lock(file: int) -> bool:
    # Imported here: commands that write nothing need not wait for it.
    import filelock

    return filelock.lock_descriptor(file, blocking=False)


def _open_locked(path: Path, out: Path) -> int:
    until = time.monotonic() + _ORPHAN_SECONDS
    while True:
        check_working_name(path)
        file = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666)
        try:
            if _lock(file):
                if os.path.samestat(os.fstat(file), os.lstat(path)):
                    return file
            elif (holder := _holder(file)) is None or time.monotonic() > until or is_running(holder):
                raise OutputError(
                    str(out),
                    expected="one job that writes it",
                    found=f"another at work{f' (process {holder})' if holder else ''}",
                    fix="wait until it has ended",
                )
            else:
                time.sleep(0.05)  # only workers of a killed job are left, and they end soon
        except FileNotFoundError:
            pass  # the other job ended, and removed its journal, between the opening and the lock
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _holder(file: int) -> int | None:
    """Return the process id of the job that locked this journal, or None if it can't be read."""
    holder = None
    try:
        os.lseek(file, 0, os.SEEK_SET)
        with open(file, "rb", closefd=False) as lines:
            for line in lines:
                holder = (parse_line(line) or {}).get("pid", holder)
    except PermissionError:  # on Windows a lock keeps others from reading too
        return None
    return holder


def _is_in_place(outputs: Sequence[Path], inodes: Sequence[int]) -> bool:
    """Whether each output has its name, and is the file or folder of that inode number."""
    if len(outputs) != len(inodes):
        return False
    places = [settled(path) for path in outputs]
    found = [(status(place), status(part_of(place))) for place in places]
    return all(
        there is not None and there.st_ino == inode and part is None
        for (there, part), inode in zip(found, inodes, strict=True)
    )
