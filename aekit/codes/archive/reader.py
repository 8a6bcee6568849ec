"""Archive: an .aek file opened for reading, as a sequence of codes with the records of their images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self, overload

import numpy as np
import numpy.typing as npt

from aekit.codes.archive.container import BLOCK, BlockPlace, Header, read_footer, read_frame, read_header
from aekit.codes.archive.layout import Block, layout_of
from aekit.codes.archive.salvage import Loss, advice, salvage_blocks
from aekit.codes.mismatch import mismatch
from aekit.codes.tables import read_tables
from aekit.errors import CodesError
from aekit.images.paths import FILE, kind_of, system_reason
from aekit.images.records import Record, check_relative
from aekit.model.bundle import Bundle
from aekit.model.grids import GridCodes

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Entry:
    """An image of an archive."""

    code: U8
    """uint8 [code_dim], or [h, w, code_dim] of a grid code."""
    record: Record | None
    """Path and size of the image, or None if the images have no paths."""
    size: tuple[int, int] | None = None
    """(height, width) of the picture as it was encoded, in pixels, or None for a vector code."""
    quality: int | None = None
    """Quality at which the picture was encoded, or None for a model of one quality."""


class Archive(Sequence[Entry]):
    """An archive opened for reading. A context manager; not to be shared between threads.

        with Archive.open("codes.aek") as archive:
            codes = archive.codes()         # uint8 [n, code_dim], or GridCodes
            entry = archive[-1]             # reads its block alone: entry.code, entry.record.path

    Records can be read without a model. To decode codes, the model that made them must be there, because it holds their
    frequency tables.
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
        self._layout = layout_of(header)
        self._starts: list[int] = np.cumsum([0, *(place.rows for place in places)]).tolist()
        self._decoded: tuple[int, list[Entry]] | None = None

    @classmethod
    def open(cls, path: str | Path, model: str | Path | Bundle | None = None, *, salvage: bool = False) -> Self:
        """Open the archive `path`. Only its header and its index are read.

        Args:
            path: the archive.
            model: folder of the model that made it, or the model; by default `$AEKIT_MODEL`, or the folder `model`. It
                is read when codes are decoded.
            salvage: whether a damaged or cut archive is opened too, with the blocks that are whole. `loss` then says
                what is missing.

        Raises CodesError or SpecError if the archive is missing, damaged or of a newer format.
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
        """Return an image, or a list of them for a slice. Decodes only their blocks, and keeps the last one."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._entries(number)[row - self._starts[number]]

    def __iter__(self) -> Iterator[Entry]:
        for number in range(len(self.places)):
            yield from self._entries(number)

    def codes(self) -> U8 | GridCodes:
        """Return all codes, uint8 [n, code_dim] or GridCodes."""
        if self.header.spec.is_grid:
            joined: GridCodes = self._layout.joined([self.codes_of(place) for place in self.places])
            return joined
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
        """Paths of the images in the order of their codes, or None if they have none."""
        return tuple(record.path for record in self.records()) if self.named else None

    def records(self) -> Iterator[Record]:
        """Yield the records of the images that have a code, in order; nothing if images have no paths.

        Raises CodesError if a block is damaged or holds a path that would leave the output folder.
        """
        return (record for record in self.inputs() if not record.error)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Yield (height, width) of the images as they were encoded, in the order of their codes."""
        for place in self.places:
            yield from self._layout.sizes(self.block(place), self._name(place))

    def qualities(self) -> Iterator[int]:
        """Yield the quality of each picture, in the order of the codes; nothing for a model of one quality."""
        for place in self.places:
            yield from self._layout.qualities(self.block(place), self._name(place))

    def inputs(self) -> Iterator[Record]:
        """Yield the records of all inputs, also of those that could not be read; nothing if images have no paths."""
        for place in self.places if self.named else ():
            yield from self.records_of(place)

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[U8 | GridCodes]:
        """Yield all codes in order, or those of the ascending `rows`, at most `size` at a time.

        Each batch is uint8 [k, code_dim] or GridCodes. Blocks without any of the rows are not decoded.
        """
        wanted = None if rows is None else np.asarray(rows, np.int64)
        for number, place in enumerate(self.places):
            inside = None
            if wanted is not None:
                first, last = np.searchsorted(wanted, self._starts[number : number + 2])
                if first == last:
                    continue
                inside = wanted[first:last] - self._starts[number]
            codes = self.codes_of(place, inside)
            for start in range(0, len(codes), size):
                yield codes[start : start + size]

    def check_model(self, bundle: Bundle) -> None:
        """Raise ModelMismatch or CodesError unless `bundle` can decode these codes; from then on it decodes them."""
        if self.header.model_id != bundle.model_id:
            raise mismatch(self.path, self.header.model_id, self.header.spec.is_grid, bundle)
        ours = read_tables(bundle)
        if self.header.tables != ours.digest:
            raise CodesError(
                str(self.path),
                expected=f"frequency tables {self.header.tables}",
                found=f"{ours.digest} in {bundle.path}",
                fix="give the very model folder that the archive was made with: another export may have other tables",
            )
        self._layout.use(ours)

    def frame_of(self, place: BlockPlace) -> bytes:
        """Return the body of the block at `place`, verified. Raises CodesError if it is damaged."""
        found = read_frame(self._file, place.offset, place.offset + place.size)
        if found is None or found[0] != BLOCK or found[2] != place.size:
            whole, _ = salvage_blocks(self._file, list(self.places), 0, 0, named=self.named)
            raise CodesError(f"{self._name(place)} is damaged", fix=advice(whole))
        return found[1]

    def block(self, place: BlockPlace) -> Block:
        """Return the block at `place`, verified. Raises CodesError if it is damaged."""
        where = self._name(place)
        block = self._layout.block(self.frame_of(place), where)
        if (block.inputs, block.rows) != (place.inputs, place.rows):
            raise CodesError(where, expected=f"{place.rows} of {place.inputs} images", found=f"{block.rows}")
        return block

    def codes_of(self, place: BlockPlace, rows: npt.NDArray[np.int64] | None = None) -> U8 | GridCodes:
        """Return the codes of a block, or of its ascending `rows`: uint8 [k, code_dim] or GridCodes."""
        if not self._layout.is_ready:
            self.check_model(self._model if isinstance(self._model, Bundle) else Bundle.read(self._model))
        codes: U8 | GridCodes = self._layout.codes(self.block(place), self._name(place), rows)
        return codes

    def records_of(self, place: BlockPlace) -> list[Record]:
        """Return the records of a block's inputs, failed ones included; none if images have no paths."""
        if not self.named:
            return []
        where = self._name(place)
        records = self._layout.records(self.block(place), where)
        for record in records:
            check_relative(record.path, where)
        return records

    def _name(self, place: BlockPlace) -> str:
        return f"{self.path}: the block at byte {place.offset:,}"

    def _entries(self, number: int) -> list[Entry]:
        if self._decoded is None or self._decoded[0] != number:
            place = self.places[number]
            codes, records = self.codes_of(place), list[Record | None]([None] * place.rows)
            if self.named:
                records = [record for record in self.records_of(place) if not record.error]
            sizes = codes.sizes if isinstance(codes, GridCodes) else [None] * place.rows
            qualities = codes.qualities if isinstance(codes, GridCodes) and codes.qualities else [None] * place.rows
            self._decoded = number, [Entry(*facts) for facts in zip(codes, records, sizes, qualities, strict=True)]
        return self._decoded[1]
