"""Blocks of grid codes, versions 2 and 3 of the archive: the pictures' sizes and records, and the codes in parts.

Version 3 is for models of several qualities. It holds the quality of each picture after the sizes.

    inputs, rows, coder, r │ r bytes of sizes and records │ part │ part │ …
    part:  CRC-32 of its numbers, p │ p bytes of codes

The parts follow from the sizes (aekit.codes.archive.parts). aekit.codes.archive.pictures packs the sizes and records.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aekit.codes.archive import container
from aekit.codes.archive.columns import Numbers
from aekit.codes.archive.container import BLOCK, frame, other_numbers, undecodable
from aekit.codes.archive.parts import Part, parts_of
from aekit.codes.archive.pictures import Pictures, pack, unpack
from aekit.codes.checksums import crc_of
from aekit.codes.entropy import MAX_SYMBOLS
from aekit.codes.grid_coders import GridCoders
from aekit.codes.tables import ModelTables
from aekit.errors import CodesError, ShapeError
from aekit.images.records import Record
from aekit.model.grids import GridCodes
from aekit.spec import MAX_PICTURE_SIDE, ModelSpec

U8 = npt.NDArray[np.uint8]

BLOCK_NUMBERS = 1 << 22
"""Largest number of numbers in a block, unless a single code has more."""
MAX_NUMBERS = 1 << 28
"""Largest number of numbers in a code. It bounds the memory of a reader, to 256 MB."""

_HEAD = struct.Struct("<HHBI")  # inputs, rows, mode of the entropy coder, bytes of the sizes and records
_PART = struct.Struct("<II")  # CRC-32 of the numbers, bytes of the codes


@dataclass(frozen=True)
class GridBlock:
    """The content of a block of grid codes, still coded."""

    inputs: int
    rows: int
    mode: int
    """Number of the entropy coder, GridCoder.mode."""
    names: bytes
    """The pictures' sizes, and, where they have paths, their records; a raw deflate stream."""
    codes: bytes
    """The parts."""

    def to_bytes(self) -> bytes:
        """Return the block's frame."""
        return frame(BLOCK, _HEAD.pack(self.inputs, self.rows, self.mode, len(self.names)) + self.names + self.codes)

    @classmethod
    def from_body(cls, body: bytes, where: str) -> Self:
        """Read the body of a frame of the kind BLOCK. Raises CodesError if it is no block of grid codes."""
        if len(body) < _HEAD.size:
            raise CodesError(where, expected="a block", found=f"{len(body)} bytes")
        inputs, rows, mode, size = _HEAD.unpack_from(body)
        if not rows <= inputs <= container.MAX_INPUTS or size > len(body) - _HEAD.size:
            found = f"{rows} codes for {inputs} images, and {size} bytes of records"
            raise CodesError(where, expected="counts that fit a block", found=found)
        return cls(inputs, rows, mode, body[_HEAD.size :][:size], body[_HEAD.size + size :])


class GridLayout:
    """Writes and reads blocks of GridCodes. A Layout (aekit.codes.archive.layout)."""

    def __init__(self, spec: ModelSpec, *, named: bool) -> None:
        self._geometry, self._channels, self._named = spec.grid, spec.code_dim, named
        self._qualities = spec.qualities if spec.has_qualities else 0
        self._coders: GridCoders | None = None
        self.most_inputs = container.MAX_INPUTS
        self.most_numbers = BLOCK_NUMBERS

    @property
    def is_ready(self) -> bool:
        """Whether `use` was called."""
        return self._coders is not None

    def use(self, tables: ModelTables) -> None:
        """Code and decode with these entropy models."""
        self._coders = GridCoders(tables)

    def checked(self, codes: Any, rows: int) -> GridCodes:
        """Return `codes` if they are the codes of so many pictures. Raises ShapeError if not."""
        what = "codes for an archive"
        if not isinstance(codes, GridCodes):
            raise ShapeError(what, expected="grid codes with the sizes of their pictures", found=type(codes).__name__)
        if len(codes) != rows:
            raise ShapeError(what, expected=f"{rows}, as many as pictures", found=f"{len(codes)}")
        for code, (height, width) in zip(codes.codes, codes.sizes, strict=True):
            shape = (*self._geometry.code_shape(height, width), self._channels)
            if code.dtype != np.uint8 or code.shape != shape or min(height, width) < 1:
                expected = f"uint8 {list(shape)} for a picture of {width}x{height} pixels"
                raise ShapeError(what, expected=expected, found=f"{code.dtype} {list(code.shape)}")
            if max(height, width) > MAX_PICTURE_SIDE or not _fits(shape):
                most = f"sides of at most {MAX_PICTURE_SIDE:,} pixels and a code of at most {MAX_NUMBERS:,} numbers"
                fix = "cut the picture, or give --max-side when training"
                raise CodesError(f"a picture of {width}x{height} pixels", expected=most, found="more", fix=fix)
        count = len(codes) if self._qualities else 0
        if len(codes.qualities) != count or not all(1 <= each <= self._qualities for each in codes.qualities):
            expected = f"{count} from 1 to {self._qualities}" if self._qualities else "none: the model has one quality"
            raise ShapeError("qualities of codes", expected=expected, found=str(codes.qualities)[:80])
        return codes

    def numbers(self, codes: GridCodes, row: int) -> int:
        """Return how many of `most_numbers` the code of a row takes."""
        return codes[row].size

    def copied(self, codes: GridCodes) -> GridCodes:
        """Return a copy of the codes, which the caller may change or free."""
        return GridCodes(tuple(code.copy() for code in codes.codes), codes.sizes, codes.qualities)

    def joined(self, parts: Sequence[GridCodes]) -> GridCodes:
        """Return the codes of all parts."""
        return GridCodes.joined(parts)

    def frame(self, inputs: int, codes: GridCodes, records: Sequence[Record]) -> bytes:
        """Return the frame of a block of so many inputs."""
        assert self._coders is not None
        coder, parts = self._coders.best, list[bytes]()
        for part in parts_of([(code.shape[0], code.shape[1]) for code in codes.codes], self._channels):
            grids = part.grids(codes.codes)
            data = coder.encode(grids, codes.qualities[part.first : part.stop])
            parts += _PART.pack(crc_of(grids), len(data)), data
        names = pack(codes, records if self._named else None)
        return GridBlock(inputs, len(codes), coder.mode, names, b"".join(parts)).to_bytes()

    def block(self, body: bytes, where: str) -> GridBlock:
        """Read the body of a block's frame. Raises CodesError if it does not fit the archive."""
        block = GridBlock.from_body(body, where)
        if not self._named and block.inputs != block.rows:
            raise CodesError(where, expected="images without paths, each with a code", found="others")
        return block

    def sizes(self, block: GridBlock, where: str) -> list[tuple[int, int]]:
        """Return (height, width) of the pictures of a block as they were encoded. Raises CodesError for damage."""
        return self._pictures(block, where, names=False).sizes

    def qualities(self, block: GridBlock, where: str) -> list[int]:
        """Return the qualities of a block's pictures, empty for a model of one quality. CodesError if damaged."""
        return self._pictures(block, where, names=False).qualities

    def records(self, block: GridBlock, where: str) -> list[Record]:
        """Return the records of a block's inputs. Raises CodesError if they are damaged."""
        return self._pictures(block, where, names=True).records

    def codes(self, block: GridBlock, where: str, rows: Numbers | None = None) -> GridCodes:
        """Decode the codes of a block, or of its ascending `rows`. Only the parts that hold them are decoded.

        Raises CodesError if they are damaged or decode to other numbers than were coded.
        """
        assert self._coders is not None
        coder, pictures = self._coders.of_mode(block.mode, where), self._pictures(block, where, names=False)
        sizes, qualities = pictures.sizes, pictures.qualities
        shapes = [self._geometry.code_shape(*size) for size in sizes]
        wanted = range(block.rows) if rows is None else rows.tolist()
        chosen, found = set(wanted), dict[int, U8]()
        for part, data, crc in _located(block.codes, parts_of(shapes, self._channels), where):
            if chosen.isdisjoint(range(part.first, part.stop)):
                continue
            try:
                grids = coder.decode(data, part.shapes(shapes), qualities[part.first : part.stop])
            except CodesError as error:
                raise undecodable(where, error) from error
            if crc_of(grids) != crc:
                raise other_numbers(where)
            if not part.bottom:
                found.update((row, grid) for row, grid in enumerate(grids, part.first) if row in chosen)
                continue
            if part.first not in found:
                found[part.first] = np.empty((*shapes[part.first], self._channels), np.uint8)
            found[part.first][part.top : part.bottom] = grids[0]
        return GridCodes(
            tuple(found[row] for row in wanted),
            tuple(sizes[row] for row in wanted),
            tuple(qualities[row] for row in wanted) if qualities else (),
        )

    def _pictures(self, block: GridBlock, where: str, *, names: bool) -> Pictures:
        """Return the checked sizes and qualities of a block's pictures and, with `names`, the records of its inputs."""
        try:
            found = unpack(block.names, block.inputs, block.rows, self._qualities, named=self._named, names=names)
            shapes = [(*self._geometry.code_shape(*size), self._channels) for size in found.sizes]
            total = sum(height * width * channels for height, width, channels in shapes)
            if not all(map(_fits, shapes)) or (len(shapes) > 1 and total > BLOCK_NUMBERS):
                raise ValueError(f"codes of {total:,} numbers")
        except (ValueError, OverflowError) as error:
            expected = f"the sizes and records of {block.inputs} images"
            raise CodesError(where, expected=expected, found=str(error)) from error
        return found


def _fits(shape: tuple[int, int, int]) -> bool:
    """Return whether an archive can hold a code of this shape. A line is coded at once, so lines are bounded too."""
    height, width, channels = shape
    return width * channels <= MAX_SYMBOLS and height * width * channels <= MAX_NUMBERS


def _located(data: bytes, parts: Iterable[Part], where: str) -> list[tuple[Part, bytes, int]]:
    """Return each part with its coded bytes and the CRC-32 of its numbers.

    Raises CodesError, before anything is decoded, unless the parts fill the bytes of a block's codes.
    """
    located, at = list[tuple[Part, bytes, int]](), 0
    for part in parts:
        crc, size = _PART.unpack_from(data, at) if at + _PART.size <= len(data) else (0, len(data))
        at += _PART.size + size
        if at > len(data):
            raise CodesError(where, expected="as many parts as its codes take", found=f"{len(located)}")
        located.append((part, data[at - size : at], crc))
    if at != len(data):
        raise CodesError(where, expected=f"{at} bytes of codes", found=f"{len(data)}")
    return located
