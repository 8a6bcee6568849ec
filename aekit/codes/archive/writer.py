"""Write an archive block by block, or append to one, without ever changing the old file.

An append writes a new file, `NAME.part`, beside the old one: first the old blocks, then the new ones. The new file
takes the name when it is whole and on the disk. So at any instant NAME is the whole old archive or the whole new one.
Appending in place would save the copy. But a reader could then not tell an append that was cut short from a damaged
file, and a million images are a few megabytes.

The last block of the old archive may be short; the append fills it up. So an archive that grew is the same, byte for
byte, as an archive made at once of the same images in the same order.
"""

import contextlib
import os
import shutil
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from aekit.codes.archive.container import BLOCK, BlockPlace, Header, footer, frame, scan
from aekit.codes.archive.layout import layout_of
from aekit.codes.archive.reader import Archive
from aekit.codes.archive.records import MAX_PATHS, text_bytes
from aekit.codes.tables import read_tables
from aekit.errors import CodesError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.codec import Codes
from aekit.model.grids import GridCodes
from aekit.outputs.journal import Journal, journaled
from aekit.outputs.marks import Mark, Written
from aekit.outputs.places import settled
from aekit.outputs.staging import open_part, staged_file


class _Sums(NamedTuple):
    """What a mark says of an archive."""

    added: int
    """Inputs that the job has added; some of them may wait for their block to fill."""


class _OpenBlock:
    """Inputs that wait for their block to fill: codes of earlier calls of `add`, records, and how much they take."""

    def __init__(self) -> None:
        self.codes, self.records = list[Any](), list[Record]()
        self.inputs = self.text = self.numbers = 0


class ArchiveWriter:
    """Writes an archive to a file, in bounded memory.

    The bytes depend only on the codes, the records and their order, not on how many are added at a time. After each
    block the file holds whole blocks alone, which `container.scan` finds again.
    """

    def __init__(self, file: BinaryIO, bundle: Bundle, *, named: bool) -> None:
        self._file, self._bundle, self._named = file, bundle, named
        self._header = Header.of(bundle, named=named)
        self._layout = layout_of(self._header)
        self._layout.use(read_tables(bundle))
        self._places, self._open = list[BlockPlace](), _OpenBlock()
        self._added = self._drop = 0
        self._whole = self._whole_before = 0  # inputs in whole blocks, and how many of them the old archive has
        self._waiting = deque[tuple[int, int]]()  # (added, inputs) of marks that end in an unfinished block
        self._kept = 0
        self._failed = frozenset[tuple[str, str]]()
        self.count_before = 0
        """Codes of the archive that this job appends to."""
        self.count = 0
        """Codes, including those of the archive that this job appends to."""
        self.present_paths: frozenset[str] = frozenset()
        """Paths of the images of the archive that this job appends to."""
        file.write(self._header.to_bytes())  # over the same header, where a job is resumed

    def go_on(self, old: Archive) -> None:
        """Copy all of `old`, and verify it. What `restore` found in the file is not copied again.

        Raises CodesError or ModelMismatch if `old` does not fit, or is damaged.
        """
        old.check_model(self._bundle)
        if old.header != self._header:
            ours, theirs = (
                f"codes of the variant {header.variant}, of images {'with' if header.named else 'without'} paths"
                for header in (self._header, old.header)
            )
            raise CodesError(str(old.path), expected=ours, found=theirs, fix="choose another --out")
        if not self._places:
            for place in old.places[:-1]:
                old.block(place)  # raises CodesError if its counts are wrong
                self._write(frame(BLOCK, old.frame_of(place)), place.inputs, place.rows)
            for place in old.places[-1:]:
                self.add(old.codes_of(place), old.records_of(place))
            self.count, self._added = len(old), 0
        self.count_before = len(old)
        inputs = list(old.inputs())
        self.present_paths = frozenset(record.path for record in inputs if not record.error)
        self._failed = frozenset((record.path, record.error) for record in inputs if record.error)

    def add(self, codes: Codes | GridCodes, records: Sequence[Record]) -> None:
        """Append codes uint8 [k, code_dim], or GridCodes, and the records of their inputs, failed ones included.

        `records` is empty where images have no paths. Raises ShapeError if the codes do not fit the records or the
        model; CodesError if a path can't be a file's name, or a picture is too large.
        """
        rows = sum(not record.error for record in records) if self._named else len(codes)
        checked = self._layout.checked(codes, rows)
        # Each append tries a file that can't be read; the archive records the failure once.
        records = [record for record in records if not (record.error and (record.path, record.error) in self._failed)]
        self._added += len(records) if self._named else len(checked)
        checked, records = self._undropped(checked, records)
        begin = self._add_inputs(checked, records)
        self._open.codes.append(self._layout.copied(checked[begin:]))
        self.count += len(checked)

    def written(self, inputs: int, *, sync: bool) -> Written:
        """Return how far the archive goes, and bring it to the disk if `sync`.

        `inputs` is how many inputs the job has done. Those in whole blocks are kept for a resumed job, because blocks
        carry their own checksums.
        """
        if sync:
            os.fsync(self._file.fileno())
        self._waiting.append((self._added, inputs))
        while self._waiting and self._waiting[0][0] <= self._whole - self._whole_before:
            self._kept = self._waiting.popleft()[1]
        return Written(self._kept, _Sums(self._added))

    def restore(self, marks: Sequence[Mark], old: Archive | None = None) -> int:
        """Keep the whole blocks that an earlier job left in the file, and cut off the rest; return how many marks hold.

        The last mark that holds lies at the end of a block or before it. So the inputs between the two come again, and
        `add` drops them. `old` is the archive that the earlier job appended to.
        """
        self._whole_before = sum(place.inputs for place in old.places) if old is not None else 0
        begin = self._file.tell()
        places = scan(self._file, begin, self._file.seek(0, os.SEEK_END))
        done = sum(place.inputs for place in places) - self._whole_before
        if not marks or done < 0 or any(len(mark.written.sums) != len(_Sums._fields) for mark in marks):
            self._file.truncate(begin)
            self._file.seek(begin)
            return 0
        self._places, self._whole = places, done + self._whole_before
        end = places[-1].offset + places[-1].size if places else begin
        self._file.truncate(end)
        self._file.seek(end)
        self.count = sum(place.rows for place in places)
        kept = bisect_right(marks, done, key=lambda mark: _Sums(*mark.written.sums).added)
        if kept:
            self._added, self._kept = _Sums(*marks[kept - 1].written.sums).added, marks[kept - 1].step.inputs
        self._drop = done - self._added
        return kept

    def _undropped(self, codes: Any, records: Sequence[Record]) -> tuple[Any, Sequence[Record]]:
        """Return the codes and records without those that are in whole blocks of a resumed job."""
        drop = min(self._drop, len(records) if self._named else len(codes))
        self._drop -= drop
        rows = sum(not record.error for record in records[:drop]) if self._named else drop
        return codes[rows:], records[drop:]

    def _add_inputs(self, codes: Any, records: Sequence[Record]) -> int:
        """Add inputs, and close each block that is full; return the first row of the block that is still open."""
        layout, begin, row = self._layout, 0, 0
        for record in records if self._named else repeat(None, len(codes)):
            is_read = record is None or not record.error
            text = 0 if record is None else text_bytes(record)
            numbers = layout.numbers(codes, row) if is_read else 0
            block = self._open
            if block.inputs and (block.text + text > MAX_PATHS or block.numbers + numbers > layout.most_numbers):
                begin, block = self._close(codes[begin:row], row), self._open
            if record is not None:
                block.records.append(record)
            block.inputs, block.text, block.numbers = block.inputs + 1, block.text + text, block.numbers + numbers
            row += is_read
            if block.inputs == layout.most_inputs or block.numbers >= layout.most_numbers:
                begin = self._close(codes[begin:row], row)
        return begin

    def finish(self) -> None:
        """Write the last block and the index, and bring the file to the disk."""
        if self._open.inputs:
            self._close(None, 0)
        self._file.write(footer(self._places))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _close(self, codes: Any, row: int) -> int:
        """Write the block that ends with `codes`, before `row`; return `row`, where the next block begins."""
        block, self._open = self._open, _OpenBlock()
        whole = self._layout.joined(block.codes if codes is None else [*block.codes, codes])
        self._write(self._layout.frame(block.inputs, whole, block.records), block.inputs, len(whole))
        return row

    def _write(self, whole: bytes, inputs: int, rows: int) -> None:
        """Write the frame of a block."""
        self._places.append(BlockPlace(self._file.tell(), len(whole), inputs, rows))
        self._whole += inputs
        self._file.write(whole)
        self._file.flush()


@dataclass(frozen=True)
class _Resumable:
    """The writer of an archive, to be restored beside the old archive that it appends to."""

    writer: ArchiveWriter
    old: Archive | None

    def restore(self, marks: Sequence[Mark]) -> int:
        """Keep the whole blocks in the file, as ArchiveWriter.restore does.

        Raises CodesError or ModelMismatch if the old archive does not fit.
        """
        count = self.writer.restore(marks, self.old)
        if self.old is not None:  # it may hold failures alone, and be empty
            self.writer.go_on(self.old)
        return count


@contextlib.contextmanager
def staged_archive(
    out: Path, bundle: Bundle, *, named: bool, append: bool = False, journal: Journal | None = None
) -> Iterator[ArchiveWriter]:
    """Yield the writer of the archive `out`, which takes its name when the block ends. After an error the old file is
    still there, unchanged.

    With `append` the new archive begins with what the old one holds, if there is one. If the `journal` has marks, the
    new archive begins with what the earlier job wrote.

    Raises OutputError if another job is writing `out`, or it can't be written; BundleError if the model has no
    frequency tables; CodesError, SpecError or ModelMismatch if the old archive is damaged or of another model.
    """
    out = settled(out)  # a link is to stay a link
    with contextlib.ExitStack() as stack:
        journal = journal or stack.enter_context(journaled(out, {}))
        part = stack.enter_context(staged_file(out, journal))
        with open_part(part, journal) as file:
            writer = ArchiveWriter(file, bundle, named=named)
            old = stack.enter_context(Archive.open(out, bundle)) if append and out.exists() else None
            journal.restore(_Resumable(writer, old))
            yield writer
            writer.finish()
            if out.exists():
                shutil.copymode(out, part)
            journal.finish(out)
