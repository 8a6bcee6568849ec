"""The journal of a job, NAME.journal beside NAME.part: what the job is and what is done, so that it can be resumed.

    crc32 {"journal": 3, "pid": …}  the process that holds the lock, and the journal's inode number
    crc32 {"anew": true}            all of the lines before count no more, but for the names of parts
    crc32 {"making": "a.part"}      that part is about to be made, where nothing lies yet
    crc32 {"part": ["a.part", 7]}   that part is a file of this job; 7 is its inode number
    crc32 {"facts": {…}}            what the result depends on: model, source, options; a resumed job must agree
    crc32 {"mark": {…}}             so many inputs are done, and sums that check their output (aekit.outputs.marks)
    crc32 {"rewind": 3}             the first 3 marks alone count
    crc32 {"finished": […]}         all is written and about to take its name: inode numbers of parts, of old files, and
                                    what the parts hold

Data is written before its mark, and a mark counts only if its checksums agree with the data. So neither the instant of
a kill nor the order in which a disk wrote before a power cut can make a wrong result.

A file is the job's own only if the journal names it with its inode number, or announces it and it is empty. Anything
else at a working name belongs to the user: the job refuses to start. A journal that was moved or copied, which its own
inode number tells, vouches for the parts beside it by their names.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aekit.errors import ImageError, OutputError, OutputExists, TooManyFailures, WorkerError
from aekit.outputs.contents import Content
from aekit.outputs.finished import Finished
from aekit.outputs.locking import close, lock, open_locked
from aekit.outputs.log import VERSION, Log, read_log, to_line
from aekit.outputs.marks import Mark, Restorable, Step, Written
from aekit.outputs.places import NO_LINKS, check_working_name, create, part_of, settled, status, sync, write_errors

_RESUMABLE = (KeyboardInterrupt, OSError, MemoryError, WorkerError, ImageError, TooManyFailures)
"""Errors that may stop a job without a fault in what it wrote."""
_SYNC_SECONDS = 5.0
"""Work that a power cut may cost at most, seconds, where the disk does what it is told."""


class Journal:
    """An open, locked journal; `journaled` makes one."""

    def __init__(self, path: Path, file: int) -> None:
        self.path, self._file = path, file
        self.kept = 0
        """Inputs that a resumed job would not process again."""
        self.untouched = True
        """Whether what an earlier job left is still as it was."""
        self._log = Log()
        self._vouches = False  # whether parts are known by their names alone
        self._summed = False  # whether a copy of the finished output must be recognised
        self._synced = time.monotonic()

    @property
    def facts(self) -> dict[str, Any]:
        """What is on record that the result depends on."""
        return self._log.facts

    @property
    def marks(self) -> list[Mark]:
        """What is done."""
        return self._log.marks

    @property
    def finished(self) -> Finished:
        """The outputs that are finished, if the job, or the earlier one that it resumes, came so far."""
        return Finished(self._log.finished, self._log.over, self._log.contents, self._log.replaced, self._vouches)

    @property
    def inputs(self) -> int:
        """Inputs done."""
        return self.marks[-1].step.inputs if self.marks else 0

    def read(self) -> None:
        """Take over what an earlier job left in the file. Raises OutputExists if it is not a journal of aekit's."""
        self._log = log = read_log(self._file)
        if log.is_foreign:
            fix = "aekit did not make it and will not replace it; move it away, or choose another --out"
            raise OutputExists(self.path, fix)
        # Journals of earlier formats name no parts.
        moved = log.inodes - {os.fstat(self._file).st_ino}
        self._vouches = bool(moved) or log.version not in (None, VERSION)
        self.kept = log.marks[-1].written.kept if log.marks else 0

    def begin(self, facts: dict[str, Any], *, resume: bool, once: str = "") -> None:
        """Take over what an earlier job left, if it is to be resumed; else keep only which parts it left.

        `once` names a fact. A job with the same value of this fact must not run twice on one output: so if the earlier
        job had finished and was not resumed, nothing is changed.

        Raises OutputError if the earlier job was another job, its journal has another format, or it must not run twice;
        OutputExists if the journal is not aekit's.
        """
        self.read()
        output, version = self.path.with_suffix(""), self._log.version
        if resume and version not in (None, VERSION):
            raise OutputError(
                f"{output} can't be resumed: its journal, {self.path.name}",
                expected=f"format {VERSION}",
                found=f"format {str(version)[:80]}, of another version of aekit",
                fix="start anew without --resume",
            )
        if not resume and once and self.facts.get(once) == facts[once] and self.finished.are_in_place(output):
            raise OutputError(
                f"{output} holds these inputs already: the job that added them was killed when it had finished",
                fix=f"give --resume to end that job, or remove {self.path.name} to add the same inputs again",
            )
        self.untouched, self._summed = False, bool(once)
        os.ftruncate(self._file, self._log.size)
        self._write({"journal": VERSION, "pid": os.getpid(), "inode": os.fstat(self._file).st_ino})
        if not resume:
            self._write({"anew": True})
            self.kept = 0
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
        create(part)
        self._write({"part": [name, os.lstat(part).st_ino]})
        os.fsync(self._file)  # a part whose journal is lost in a power cut could not be told from a user's file

    def _name(self, part: Path) -> str:
        return part.name if part.parent == self.path.parent else os.path.abspath(part)

    def _owns(self, part: Path) -> bool:
        """Whether the regular file `part` is known to be this job's."""
        found, name = os.lstat(part), self._name(part)
        if self._log.parts.get(name) == found.st_ino:
            return True
        if self._vouches and name == part.name:  # a forged journal may name a whole path of any file
            return True
        return name in self._log.making and found.st_size == 0

    def clear(self) -> None:
        """Remove the parts that lie there and are this job's."""
        for name in {*self._log.parts, *self._log.making}:
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
                    expected=f"{str(known)[:500]}, as when the job began",
                    found=str(value)[:500],
                    fix="give what it began with, or start anew without --resume",
                )
        if new := {name: value for name, value in facts.items() if name not in self.facts}:
            self._write({"facts": new})

    def mark(self, step: Step, written: Written) -> None:
        """Note what is done. The output must have been handed to the system, though not yet brought to the disk."""
        self._write({"mark": Mark(step, written).to_json()})
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
        inodes = [os.lstat(part_of(place)).st_ino for place in places]
        over = [found.st_ino for place in places if (found := status(place))]
        contents = [Content.of(part_of(place), summed=self._summed).to_json() for place in places]
        replaced = [Content.of(place, summed=False).to_json() if status(place) else None for place in places]
        self._write({"finished": inodes, "over": over, "contents": contents, "replaced": replaced})

    def keeps(self, error: BaseException) -> bool:
        """Whether what was written stays when `error` ends the job: it is of use, and there is no fault in it."""
        return self.kept > 0 and isinstance(error, _RESUMABLE)

    def _write(self, entry: dict[str, Any]) -> None:
        """Add a line, and take over what it says."""
        line = to_line(entry)
        os.lseek(self._file, self._log.size, os.SEEK_SET)
        written = os.write(self._file, line)
        if written < len(line):  # a full disk takes a part of the line; the next write raises the reason
            os.write(self._file, line[written:])
        self._log.take(entry, len(line))


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
        file = open_locked(path, out)
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
        close(path, file, remove=not keep)


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
            if lock(file):
                journal = Journal(path, file)
                journal.read()
                done = journal.finished.complete(*outputs)
        finally:
            close(path, file, remove=done)


def _journal_of(place: Path) -> Path:
    return place.with_name(place.name + ".journal")
