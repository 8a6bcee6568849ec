"""Blocks of vector codes, version 1 of the archive: one rANS stream, and the records of the inputs.

inputs, rows, shape of a code, c │ c bytes of codes │ records
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aekit.codes.archive import container
from aekit.codes.archive.columns import Numbers
from aekit.codes.archive.container import BLOCK, frame, inputs_per_block, undecodable
from aekit.codes.archive.records import pack, unpack
from aekit.codes.entropy import MAX_SYMBOLS, FrequencyTables, decode, encode
from aekit.codes.tables import ModelTables
from aekit.errors import CodesError, ShapeError
from aekit.images.records import Record
from aekit.model.grids import GridCodes
from aekit.spec import ModelSpec

U8 = npt.NDArray[np.uint8]

_HEAD = struct.Struct("<HHHHII")  # inputs, rows, height, width, channels, bytes of the codes


@dataclass(frozen=True)
class CodeBlock:
    """The content of a block of vector codes, still coded."""

    inputs: int
    rows: int
    shape: tuple[int, int, int]
    """[height, width, channels] of each code: [1, 1, code_dim]."""
    codes: bytes
    """Entropy-coded codes, the output of aekit.codes.entropy.encode."""
    names: bytes
    """Packed records, the output of aekit.codes.archive.records.pack; empty if the images have no paths."""

    def to_bytes(self) -> bytes:
        """Return the block's frame."""
        return frame(BLOCK, _HEAD.pack(self.inputs, self.rows, *self.shape, len(self.codes)) + self.codes + self.names)

    @classmethod
    def from_body(cls, body: bytes, where: str) -> Self:
        """Read the body of a frame of the kind BLOCK. Raises CodesError if it is no block of vector codes."""
        if len(body) < _HEAD.size:
            raise CodesError(where, expected="a block", found=f"{len(body)} bytes")
        inputs, rows, height, width, channels, size = _HEAD.unpack_from(body)
        values = height * width * channels
        fits = rows <= inputs <= container.MAX_INPUTS and values and rows * values <= MAX_SYMBOLS
        if not fits or size > len(body) - _HEAD.size:
            found = f"{rows} codes of {height}x{width}x{channels} for {inputs} images, in {size} bytes"
            raise CodesError(where, expected="counts that fit a block", found=found)
        codes, names = body[_HEAD.size :][:size], body[_HEAD.size + size :]
        return cls(inputs, rows, (height, width, channels), codes, names)


class VectorRows:
    """What layouts of vector codes share: codes are uint8 [rows, code_dim]."""

    def __init__(self, spec: ModelSpec, *, named: bool) -> None:
        self._code_dim, self._geometry, self._named = spec.code_dim, spec.fixed, named
        self.most_inputs = inputs_per_block(spec.code_dim)
        self.most_numbers = MAX_SYMBOLS

    def checked(self, codes: Any, rows: int) -> U8:
        """Return `codes` if they are the codes of so many images. Raises ShapeError if not."""
        expected = f"uint8 [{rows}, {self._code_dim}]"
        if isinstance(codes, GridCodes):
            raise ShapeError("codes for an archive", expected=expected, found="grid codes")
        codes = np.asarray(codes)
        if codes.dtype != np.uint8 or codes.shape != (rows, self._code_dim):
            raise ShapeError("codes for an archive", expected=expected, found=f"{codes.dtype} {list(codes.shape)}")
        return codes

    def numbers(self, codes: U8, row: int) -> int:
        """Return how many of `most_numbers` the code of a row takes: 0, because `most_inputs` bounds them already."""
        return 0

    def copied(self, codes: U8) -> U8:
        """Return a copy of the codes, which the caller may change or free."""
        return codes.copy()

    def joined(self, parts: Sequence[U8]) -> U8:
        """Return the codes of all parts."""
        return np.concatenate([np.empty((0, self._code_dim), np.uint8), *parts])

    def sizes(self, block: Any, where: str) -> list[tuple[int, int]]:
        """Return (height, width) of each image as it was encoded."""
        return [(self._geometry.height, self._geometry.width)] * block.rows

    def qualities(self, block: Any, where: str) -> list[int]:
        """Return no qualities: models of vector codes have one."""
        return []

    def records(self, block: Any, where: str) -> list[Record]:
        """Return the records of a block's inputs. Raises CodesError if they are damaged."""
        return unpack(block.names, block.inputs, block.rows, where)

    def _check_named(self, block: Any, where: str) -> None:
        if not self._named and (block.names or block.inputs != block.rows):
            raise CodesError(where, expected="images without paths", found="others")


class VectorLayout(VectorRows):
    """Writes and reads blocks of version 1. A Layout (aekit.codes.archive.layout)."""

    _tables: FrequencyTables | None = None

    @property
    def is_ready(self) -> bool:
        """Whether `use` was called."""
        return self._tables is not None

    def use(self, tables: ModelTables) -> None:
        """Code and decode with these tables."""
        self._tables = tables.tables

    def frame(self, inputs: int, codes: U8, records: Sequence[Record]) -> bytes:
        """Return the frame of a block of so many inputs."""
        assert self._tables is not None
        names = pack(records) if self._named else b""
        shape = (1, 1, self._code_dim)
        return CodeBlock(inputs, len(codes), shape, encode(codes, self._tables), names).to_bytes()

    def block(self, body: bytes, where: str) -> CodeBlock:
        """Read the body of a block's frame. Raises CodesError if it does not fit the archive."""
        block, shape = CodeBlock.from_body(body, where), (1, 1, self._code_dim)
        if block.shape != shape:
            raise CodesError(where, expected=f"codes of the shape {shape}", found=f"{block.shape}", fix="update aekit")
        self._check_named(block, where)
        return block

    def codes(self, block: CodeBlock, where: str, rows: Numbers | None = None) -> U8:
        """Decode the codes of a block, or of its ascending `rows`. Raises CodesError if they are damaged."""
        assert self._tables is not None
        try:
            codes = decode(block.codes, block.rows, self._tables)
        except CodesError as error:
            raise undecodable(where, error) from error
        return codes if rows is None else codes[rows]
