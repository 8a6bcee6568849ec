"""Entropy coders of grid codes. Each has a number, its mode, which every block of an archive names.

A coder codes one part of a block at a time: some whole grids, or a band of lines of one large grid. It may use anything
that the model holds and anything within the part, and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aekit.codes.entropy import FrequencyTables, decode, encode
from aekit.codes.tables import ModelTables
from aekit.errors import CodesError
from aekit.model.bundle import Bundle

U8 = npt.NDArray[np.uint8]

STATIC = 0
"""Mode of the coder with one frequency table for each channel."""


class GridCoder(Protocol):
    """An entropy coder of grids."""

    @property
    def mode(self) -> int:
        """The number, 0 to 255, that blocks name the coder by."""
        ...

    def encode(self, grids: Sequence[U8]) -> bytes:
        """Return grids uint8 [h, w, K], at least one, as bytes."""
        ...

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]]) -> list[U8]:
        """Return grids of the shapes (h, w) from the bytes of `encode`. Raises CodesError for other bytes."""
        ...


class StaticCoder:
    """The coder with one frequency table for each channel, wherever in the grid a number stands."""

    mode = STATIC

    def __init__(self, tables: FrequencyTables) -> None:
        self._tables = tables

    def encode(self, grids: Sequence[U8]) -> bytes:
        """Return grids uint8 [h, w, K] as bytes, as one rANS stream of all their places."""
        return encode(np.concatenate([grid.reshape(-1, grid.shape[2]) for grid in grids]), self._tables)

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]]) -> list[U8]:
        """Return grids of the shapes (h, w). Raises CodesError for bytes that `encode` can't have written."""
        places = [height * width for height, width in shapes]
        rows = decode(data, sum(places), self._tables)
        cut = np.split(rows, np.cumsum(places[:-1], dtype=np.int64))
        return [part.reshape(*shape, -1) for part, shape in zip(cut, shapes, strict=True)]


class GridCoders:
    """The entropy coders of one model."""

    def __init__(self, bundle: Bundle, tables: ModelTables) -> None:
        self._by_mode: dict[int, GridCoder] = {STATIC: StaticCoder(tables.tables)}

    @property
    def best(self) -> GridCoder:
        """The coder that needs the fewest bytes; archives are written with it."""
        return self._by_mode[max(self._by_mode)]

    def of_mode(self, mode: int, where: str) -> GridCoder:
        """Return the coder of this number. Raises CodesError, naming `where`, if the model has none."""
        if mode not in self._by_mode:
            expected = " or ".join(map(str, sorted(self._by_mode)))
            raise CodesError(where, expected=f"entropy coder {expected}", found=str(mode), fix="update aekit")
        return self._by_mode[mode]
