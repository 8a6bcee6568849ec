"""Write an archive block by block, or go on with one that is there, without ever touching the old file.

An append writes a new file, `NAME.part`, beside the old one: the old blocks, then the new ones; it takes the old one's
name when it is whole and on the disk. So at any instant NAME is the whole old archive or the whole new one. To append
in place would spare the copy, but a reader could then not tell an append that was cut short from a file that was; and
a million images are a few megabytes. The last block, which may be short, is filled up: an archive that grew is, to the
byte, the archive made at once of the same images in the same order.
"""

import contextlib
import os
import shutil
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aekit.codes.archive.container import Block, BlockPlace, Header, footer, inputs_per_block, scan
from aekit.codes.archive.reader import U8, Archive
from aekit.codes.archive.records import MAX_PATHS, pack, text_bytes
from aekit.codes.entropy import encode
from aekit.codes.tables import read_tables
from aekit.errors import CodesError, ShapeError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.codec import Codes
from aekit.outputs.journal import Journal, Mark, journaled
from aekit.outputs.staging import open_part, staged_file


class ArchiveWriter:
    """Writes an archive to a file, in bounded memory. Its bytes depend on the codes and records alone, and on their
    order, not on how many are added at a time.

    After each block the file holds whole blocks alone, which `container.scan` finds again.
    """

    dtype = "uint8"
    """What codes are kept as."""

    def __init__(self, file: BinaryIO, bundle: Bundle, *, named: bool) -> None:
        self._file, self._bundle, self._named = file, bundle, named
        self._tables = read_tables(bundle).tables
        self._header = Header.of(bundle, named=named)
        self._limit = inputs_per_block(bundle.spec.code_dim)
        self._places = list[BlockPlace]()
        self._codes, self._records, self._inputs, self._text = list[U8](), list[Record](), 0, 0
        self._added = self._drop = self._before = 0
        self._failed = frozenset[tuple[str, str]]()
        self.held = 0
        """Codes of the archive that it goes on with."""
        self.count = 0
        """Codes, those of the archive that it goes on with included."""
        self.present: frozenset[str] = frozenset()
        """Paths of the images that the archive held before."""
        file.write(self._header.to_bytes())  # over the same one, where a job is resumed

    def go_on(self, old: Archive) -> None:
        """Take over the whole of `old`, verifying it, unless `restore` found it in the file.

        Raises CodesError or ModelMismatch if it does not fit.
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
                self._write(old.block(place))
            for place in old.places[-1:]:
                self.add(old.codes_of(place), old.records_of(place))
            self.count, self._added = len(old), 0
        self.held = len(old)
        inputs = list(old.inputs())
        self.present = frozenset(record.path for record in inputs if not record.error)
        self._failed = frozenset((record.path, record.error) for record in inputs if record.error)

    def add(self, codes: Codes, records: Sequence[Record]) -> None:
        """Append codes uint8 [k, code_dim] and the records of their inputs, failed ones included; none where images
        have no paths."""
        # A file that can't be read is tried by each append, and told of once.
        records = [record for record in records if not (record.error and (record.path, record.error) in self._failed)]
        self._added += len(records) if self._named else len(codes)
        codes, records = self._undropped(np.asarray(codes), records)
        fitting = sum(not record.error for record in records) if self._named else len(codes)
        if codes.dtype != np.uint8 or codes.shape != (fitting, self._bundle.spec.code_dim):
            expected = f"uint8 [{fitting}, {self._bundle.spec.code_dim}]"
            raise ShapeError("codes for an archive", expected=expected, found=f"{codes.dtype} {list(codes.shape)}")
        begin = self._add_named(codes, records) if self._named else self._add_unnamed(codes)
        self._codes.append(codes[begin:].copy())
        self.count += len(codes)

    def mark(self, *, sync: bool) -> Mark:
        """Inputs `added` by the job, and those of them in `whole` blocks, which carry their own checksums. With `sync`
        these are brought to the disk."""
        if sync:
            os.fsync(self._file.fileno())
        return {"added": self._added, "whole": sum(place.inputs for place in self._places) - self._before}

    def restore(self, marks: Sequence[Mark], old: Archive | None) -> int:
        """Take over the whole blocks that a job left in the file, cut off the rest, and forget the inputs that are
        added again, as the marks lie before the blocks' ends; returns how many marks count. With `old` the job had
        gone on with that, and it has been checked to fit."""
        before = self._before = sum(place.inputs for place in old.places) if old is not None else 0
        begin = self._file.tell()
        places = scan(self._file, begin, self._file.seek(0, os.SEEK_END))
        done = sum(place.inputs for place in places) - before
        if not marks or done < 0:
            self._file.truncate(begin)
            self._file.seek(begin)
            return 0
        self._places = places
        end = places[-1].offset + places[-1].size if places else begin
        self._file.truncate(end)
        self._file.seek(end)
        self.count = sum(place.rows for place in places)
        kept = bisect_right(marks, done, key=lambda mark: mark["added"])
        self._added = marks[kept - 1]["added"] if kept else 0
        self._drop = done - self._added
        return kept

    def _undropped(self, codes: U8, records: Sequence[Record]) -> tuple[U8, Sequence[Record]]:
        drop = min(self._drop, len(records) if self._named else len(codes))
        self._drop -= drop
        rows = sum(not record.error for record in records[:drop]) if self._named else drop
        return codes[rows:], records[drop:]

    def _add_named(self, codes: U8, records: Sequence[Record]) -> int:
        """Count inputs, and close the blocks that they fill; returns the first row that is left for the next one."""
        begin = row = 0
        for record in records:
            text = text_bytes(record)
            if self._text + text > MAX_PATHS:
                begin = self._close(codes[begin:row], row)
            self._records.append(record)
            self._inputs, self._text = self._inputs + 1, self._text + text
            row += not record.error
            if self._inputs == self._limit:
                begin = self._close(codes[begin:row], row)
        return begin

    def _add_unnamed(self, codes: U8) -> int:
        """The same for inputs that all have a row and have no record."""
        begin = 0
        while begin < len(codes):
            stop = min(begin + self._limit - self._inputs, len(codes))
            self._inputs += stop - begin
            if self._inputs < self._limit:
                break
            begin = self._close(codes[begin:stop], stop)
        return begin

    def finish(self) -> None:
        """Write the last block and the index, and bring the file to the disk."""
        if self._inputs:
            self._close(np.empty((0, self._bundle.spec.code_dim), np.uint8), 0)
        self._file.write(footer(self._places))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _close(self, codes: U8, row: int) -> int:
        """Write the block that ends with `codes`; returns the row that the next one begins with."""
        whole = np.concatenate([*self._codes, codes])
        names = pack(self._records) if self._named else b""
        shape = (1, 1, self._bundle.spec.code_dim)
        self._write(Block(self._inputs, len(whole), shape, encode(whole, self._tables), names))
        self._codes, self._records, self._inputs, self._text = [], [], 0, 0
        return row

    def _write(self, block: Block) -> None:
        frame = block.to_bytes()
        self._places.append(BlockPlace(self._file.tell(), len(frame), block.inputs, block.rows))
        self._file.write(frame)
        self._file.flush()


@contextlib.contextmanager
def staged_archive(
    out: Path, bundle: Bundle, *, named: bool, append: bool = False, journal: Journal | None = None
) -> Iterator[ArchiveWriter]:
    """Yield the writer of the archive `out`, which takes its name when the block ends; on any error what was there
    stays. With `append` it goes on with the archive that is there, if one is; with a `journal` that has marks, with
    what a job that was cut short has done.

    Raises OutputError if another job is writing `out`; CodesError, ModelMismatch or BundleError if the model does not
    fit the archive, or the archive is damaged.
    """
    if out.is_symlink():
        out = out.resolve()  # a link is to stay a link
    with contextlib.ExitStack() as stack:
        journal = journal or stack.enter_context(journaled(out, {}))
        part = stack.enter_context(staged_file(out, journal))
        with open_part(part, journal) as file:
            writer = ArchiveWriter(file, bundle, named=named)
            old = stack.enter_context(Archive.open(out, bundle)) if append and out.exists() else None
            kept = writer.restore(journal.marks, old)
            if old is not None:  # it may hold failures alone, and be empty
                writer.go_on(old)
            journal.rewind(kept)
            yield writer
            writer.finish()
            if out.exists():
                shutil.copymode(out, part)
            journal.finish(out)
            if old is not None:
                old.close()
