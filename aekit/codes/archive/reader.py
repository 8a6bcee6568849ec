"""Archive: an .aek file opened for reading, as a sequence of codes with the records of their images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, overload

import numpy as np
import numpy.typing as npt

from aekit.codes.archive.container import (
    BLOCK,
    BlockPlace,
    CodeBlock,
    Header,
    read_footer,
    read_frame,
    read_header,
)
from aekit.codes.archive.records import unpack
from aekit.codes.archive.salvage import Loss, advice, salvage_blocks
from aekit.codes.entropy import FrequencyTables, decode
from aekit.codes.tables import read_tables
from aekit.errors import CodesError, ModelMismatch
from aekit.images.paths import FILE, kind_of, system_reason
from aekit.images.records import Record, check_relative
from aekit.model.bundle import Bundle

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of an archive."""

    code: U8
    """uint8 [code_dim]."""
    record: Record | None
    """Path and size, where images have them."""


class Archive(Sequence[Entry]):
    """An archive opened for reading. A context manager; not to be shared between threads.

        with Archive.open("codes.aek") as archive:
            codes = archive.codes()         # uint8 [n, code_dim]
            entry = archive[-1]             # of its block alone: entry.code, entry.record.path

    Names and sizes read without a model. Codes need the frequency tables of the model that made them.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: Header,
        places: list[BlockPlace],
        model: Bundle | Path,
        loss: Loss | None,
    ) -> None:
        self.path, self.header, self.places, self.loss = path, header, tuple(places), loss
        self._file, self._model = file, model
        self._tables: FrequencyTables | None = None  # until a model was checked
        self._starts = np.cumsum([0, *(place.rows for place in places)]).tolist()
        self._decoded: tuple[int, list[Entry]] | None = None

    @classmethod
    def open(cls, path: str | Path, model: str | Path | Bundle | None = None, *, salvage: bool = False) -> Self:
        """Open the archive `path`, reading its header and index alone.

        `model`, by default `$AEKIT_MODEL` or else `model`, is read when codes are decoded. With `salvage` a damaged or
        cut archive gives up the blocks that are whole; `loss` then says what it does not hold any more.

        Raises CodesError if it is missing, damaged or of a newer format.
        """
        path = Path(path)
        if not isinstance(model, Bundle):
            model = Path(model or os.environ.get("AEKIT_MODEL") or "model")
        if (kind := kind_of(path)) != FILE:  # opening a pipe would wait for ever
            raise CodesError(str(path)[:300], expected="an archive", found=kind)
        try:
            file = path.open("rb")
        except OSError as error:
            raise CodesError(str(path), expected="an archive", found=system_reason(error)) from error
        try:
            header, begin = read_header(file, str(path))
            end = file.seek(0, os.SEEK_END)
            places, loss = read_footer(file, begin, end), None
            if salvage or places is None:
                whole, loss = salvage_blocks(file, places, begin, end, named=header.named)
                if not salvage and loss:
                    blocks = f"{len(whole):,} whole {'block' if len(whole) == 1 else 'blocks'}"
                    left = f"{blocks} of {sum(place.rows for place in whole):,} images"
                    found = f"{left}, and {loss.bytes:,} bytes that are of no use"
                    fault = f"{path} is cut short or damaged"
                    raise CodesError(fault, expected="an index at its end", found=found, fix=advice(whole))
                places = whole
            return cls(path, file, header, places, model, loss)
        except BaseException:
            file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        """An image, or a slice of them; decodes their blocks alone, and keeps the last one."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._entries(number)[row - self._starts[number]]

    def __iter__(self) -> Iterator[Entry]:
        for number in range(len(self.places)):
            yield from self._entries(number)

    def codes(self) -> U8:
        """All codes, uint8 [n, code_dim]."""
        out = np.empty((len(self), self.header.spec.code_dim), np.uint8)
        for place, start in zip(self.places, self._starts, strict=False):
            out[start : start + place.rows] = self.codes_of(place)
        return out

    @property
    def named(self) -> bool:
        """Whether the images have paths."""
        return self.header.named

    @property
    def paths(self) -> tuple[str, ...] | None:
        """The images' paths, in the order of their codes, or None where they have none."""
        return tuple(record.path for record in self.records()) if self.named else None

    def records(self) -> Iterator[Record]:
        """The records of the images that have a code, in their order; nothing where images have no paths.

        Raises CodesError if a block is damaged or holds a path that would leave the output folder.
        """
        return (record for record in self.inputs() if not record.error)

    def inputs(self) -> Iterator[Record]:
        """The records of all inputs, with those that could not be read; nothing where images have no paths."""
        for place in self.places if self.named else ():
            yield from self.records_of(place)

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[U8]:
        """The codes in order, uint8 [at most `size`, code_dim] at a time; with `rows`, ascending, those alone. Blocks
        without any of them are not decoded."""
        wanted = None if rows is None else np.asarray(rows, np.int64)
        for number, place in enumerate(self.places):
            if wanted is None:
                codes = self.codes_of(place)
            else:
                first, last = np.searchsorted(wanted, self._starts[number : number + 2])
                if first == last:
                    continue
                codes = self.codes_of(place)[wanted[first:last] - self._starts[number]]
            for start in range(0, len(codes), size):
                yield codes[start : start + size]

    def check_model(self, bundle: Bundle) -> None:
        """Raise ModelMismatch or CodesError unless `bundle` can decode these codes; if it can, it will."""
        if self.header.model_id != bundle.model_id:
            raise ModelMismatch(str(self.path), self.header.model_id, bundle.model_id)
        ours = read_tables(bundle)
        if self.header.tables != ours.digest:
            raise CodesError(
                str(self.path),
                expected=f"frequency tables {self.header.tables}",
                found=f"{ours.digest} in {bundle.path}",
                fix="give the very model folder that the archive was made with: another export may have other tables",
            )
        self._tables = ours.tables

    def block(self, place: BlockPlace) -> CodeBlock:
        """The block at `place`, verified. Raises CodesError if it is damaged."""
        where = f"{self.path}: the block at byte {place.offset:,}"
        found = read_frame(self._file, place.offset, place.offset + place.size)
        if found is None or found[0] != BLOCK or found[2] != place.size:
            whole, _ = salvage_blocks(self._file, list(self.places), 0, 0, named=self.named)
            raise CodesError(f"{where} is damaged", fix=advice(whole))
        block, shape = CodeBlock.from_body(found[1], where), (1, 1, self.header.spec.code_dim)
        if (block.inputs, block.rows) != (place.inputs, place.rows):
            raise CodesError(where, expected=f"{place.rows} of {place.inputs} images", found=f"{block.rows}")
        if block.shape != shape:
            raise CodesError(where, expected=f"codes of the shape {shape}", found=f"{block.shape}", fix="update aekit")
        if not self.named and (block.names or block.inputs != block.rows):
            raise CodesError(where, expected="images without paths", found="others")
        return block

    def codes_of(self, place: BlockPlace) -> U8:
        """The codes of a block, uint8 [rows, code_dim]."""
        if self._tables is None:
            self.check_model(self._model if isinstance(self._model, Bundle) else Bundle.read(self._model))
        assert self._tables is not None
        return decode(self.block(place).codes, place.rows, self._tables)

    def records_of(self, place: BlockPlace) -> list[Record]:
        """The records of a block's inputs, failed ones included; none where images have no paths."""
        if not self.named:
            return []
        where = f"{self.path}: the block at byte {place.offset:,}"
        records = unpack(self.block(place).names, place.inputs, place.rows, where)
        for record in records:
            check_relative(record.path, where)
        return records

    def _entries(self, number: int) -> list[Entry]:
        if self._decoded is None or self._decoded[0] != number:
            place = self.places[number]
            records: list[Record | None] = [None] * place.rows
            if self.named:
                records = [record for record in self.records_of(place) if not record.error]
            self._decoded = number, [Entry(*pair) for pair in zip(self.codes_of(place), records, strict=True)]
        return self._decoded[1]
