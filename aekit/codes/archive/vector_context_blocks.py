"""Blocks of vector codes of a model with a context model, version 4 of the archive.

inputs, rows, coder, CRC-32 of the numbers, c │ c bytes of codes │ records

The codes of a block, uint8 [rows, code_dim], are one grid [rows, 1, code_dim] for the entropy coder.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from aekit.codes.archive import container
from aekit.codes.archive.columns import Numbers
from aekit.codes.archive.container import BLOCK, frame, other_numbers, undecodable
from aekit.codes.archive.records import pack
from aekit.codes.archive.vector_blocks import U8, VectorRows
from aekit.codes.checksums import crc_of
from aekit.codes.entropy import MAX_SYMBOLS
from aekit.codes.grid_coders import GridCoders
from aekit.codes.tables import ModelTables
from aekit.errors import CodesError
from aekit.images.records import Record

_HEAD = struct.Struct("<HHBII")  # inputs, rows, mode of the entropy coder, CRC-32 of the numbers, bytes of the codes


@dataclass(frozen=True)
class VectorContextBlock:
    """The content of a block of vector codes, still coded."""

    inputs: int
    rows: int
    mode: int
    """Number of the entropy coder, GridCoder.mode."""
    crc: int
    """CRC-32 of the numbers."""
    codes: bytes
    """The entropy-coded codes; empty if there are no rows."""
    names: bytes
    """Packed records, the output of aekit.codes.archive.records.pack; empty if the images have no paths."""

    def to_bytes(self) -> bytes:
        """Return the block's frame."""
        head = _HEAD.pack(self.inputs, self.rows, self.mode, self.crc, len(self.codes))
        return frame(BLOCK, head + self.codes + self.names)

    @classmethod
    def from_body(cls, body: bytes, code_dim: int, where: str) -> Self:
        """Read the body of a frame of the kind BLOCK. Raises CodesError if it is no block of codes [rows, code_dim]."""
        if len(body) < _HEAD.size:
            raise CodesError(where, expected="a block", found=f"{len(body)} bytes")
        inputs, rows, mode, crc, size = _HEAD.unpack_from(body)
        fits = rows <= inputs <= container.MAX_INPUTS and rows * code_dim <= MAX_SYMBOLS
        if not fits or size > len(body) - _HEAD.size:
            found = f"{rows} codes of {code_dim} numbers for {inputs} images, in {size} bytes"
            raise CodesError(where, expected="counts that fit a block", found=found)
        return cls(inputs, rows, mode, crc, body[_HEAD.size :][:size], body[_HEAD.size + size :])


class VectorContextLayout(VectorRows):
    """Writes and reads such blocks of codes uint8 [rows, code_dim]. A Layout (aekit.codes.archive.layout)."""

    _coders: GridCoders | None = None

    @property
    def is_ready(self) -> bool:
        """Whether `use` was called."""
        return self._coders is not None

    def use(self, tables: ModelTables) -> None:
        """Code and decode with these entropy models."""
        self._coders = GridCoders(tables)

    def frame(self, inputs: int, codes: U8, records: Sequence[Record]) -> bytes:
        """Return the frame of a block of so many inputs."""
        assert self._coders is not None
        coder = self._coders.best
        data = coder.encode([codes[:, None]]) if len(codes) else b""
        names = pack(records) if self._named else b""
        return VectorContextBlock(inputs, len(codes), coder.mode, crc_of([codes]), data, names).to_bytes()

    def block(self, body: bytes, where: str) -> VectorContextBlock:
        """Read the body of a block's frame. Raises CodesError if it does not fit the archive."""
        block = VectorContextBlock.from_body(body, self._code_dim, where)
        self._check_named(block, where)
        return block

    def codes(self, block: VectorContextBlock, where: str, rows: Numbers | None = None) -> U8:
        """Decode the codes of a block, or of its ascending `rows`.

        Raises CodesError if they are damaged or decode to other numbers than were coded.
        """
        assert self._coders is not None
        coder, codes = self._coders.of_mode(block.mode, where), np.empty((0, self._code_dim), np.uint8)
        try:
            if block.rows:
                codes = coder.decode(block.codes, [(block.rows, 1)])[0][:, 0]
        except CodesError as error:
            raise undecodable(where, error) from error
        if crc_of([codes]) != block.crc or (block.codes and not block.rows):
            raise other_numbers(where)
        return codes if rows is None else codes[rows]
