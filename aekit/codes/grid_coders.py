"""Entropy coders of grids. Each has a number, its mode, which blocks of an archive name.

Vector codes uint8 [n, D] are coded as one grid [n, 1, D] if the model has a context model.

A coder codes one part of a block at a time: some whole grids, or a band of lines of one large grid. It may use anything
that the model holds and anything within the part, and nothing else.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aekit.codes.context.coder import decode as decode_in_context
from aekit.codes.context.coder import encode as encode_in_context
from aekit.codes.context.model import ContextModel
from aekit.codes.entropy import FrequencyTables, Sets, decode, encode
from aekit.codes.tables import ModelTables
from aekit.errors import CodesError
from aekit.model.grids import GridCodes, Qualities

U8 = npt.NDArray[np.uint8]

STATIC = 0
"""Mode of the coder with one frequency table for each channel."""
CONTEXT = 1
"""Mode of the coder whose networks choose the table of each number from the numbers before it."""
_CHECK = 2
"""Bytes of the context coder's own check. Each part of an archive has a CRC-32 of its numbers as well."""


class GridCoder(Protocol):
    """An entropy coder of grids."""

    @property
    def mode(self) -> int:
        """The number, 0 to 255, that blocks name the coder by."""
        ...

    def encode(self, grids: Sequence[U8], qualities: Qualities = ()) -> bytes:
        """Return grids uint8 [h, w, K], at least one, as bytes.

        `qualities` holds the quality of each grid, for a model that has qualities.
        """
        ...

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]], qualities: Qualities = ()) -> list[U8]:
        """Return grids of the shapes (h, w) from the bytes of `encode`. Raises CodesError for other bytes."""
        ...


class StaticCoder:
    """The coder with one frequency table for each channel, wherever in the grid a number stands."""

    mode = STATIC

    def __init__(self, tables: FrequencyTables) -> None:
        self._tables = tables

    def encode(self, grids: Sequence[U8], qualities: Qualities = ()) -> bytes:
        """Return grids uint8 [h, w, K] as bytes, as one rANS stream of all their places."""
        places = [grid.shape[0] * grid.shape[1] for grid in grids]
        rows = np.concatenate([grid.reshape(-1, grid.shape[2]) for grid in grids])
        return encode(rows, self._tables, _sets(qualities, places))

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]], qualities: Qualities = ()) -> list[U8]:
        """Return grids of the shapes (h, w). Raises CodesError for bytes that `encode` can't have written."""
        places = [height * width for height, width in shapes]
        rows = decode(data, sum(places), self._tables, _sets(qualities, places))
        cut = np.split(rows, np.cumsum(places[:-1], dtype=np.int64))
        return [part.reshape(*shape, -1) for part, shape in zip(cut, shapes, strict=True)]


def sets_of(codes: GridCodes) -> Sets:
    """Return the set of frequency tables of each place of these codes; None for a model without qualities."""
    return _sets(codes.qualities, [code.shape[0] * code.shape[1] for code in codes.codes])


def _sets(qualities: Qualities, places: Sequence[int]) -> Sets:
    """Return the set of tables of each place. `places` is the number of places of each grid. None without qualities."""
    return np.repeat(np.array(qualities, np.int64) - 1, places) if qualities else None


class ContextCoder:
    """The coder of a context model."""

    mode = CONTEXT

    def __init__(self, model: ContextModel) -> None:
        self._model = model

    def encode(self, grids: Sequence[U8], qualities: Qualities = ()) -> bytes:
        """Return grids uint8 [h, w, K] as bytes, as one rANS stream of all their places."""
        return encode_in_context(grids, self._model, _CHECK, qualities)

    def decode(self, data: bytes, shapes: Sequence[tuple[int, int]], qualities: Qualities = ()) -> list[U8]:
        """Return grids of the shapes (h, w). Raises CodesError for bytes that `encode` can't have written."""
        return decode_in_context(data, shapes, self._model, _CHECK, qualities)


class GridCoders:
    """The entropy coders of one model."""

    def __init__(self, tables: ModelTables) -> None:
        self._by_mode: dict[int, GridCoder] = {STATIC: StaticCoder(tables.tables)}
        if tables.context is not None:
            self._by_mode[CONTEXT] = ContextCoder(tables.context)

    @property
    def best(self) -> GridCoder:
        """The coder that archives are written with. Export keeps a context model only where it saves bytes."""
        return self._by_mode[max(self._by_mode)]

    def of_mode(self, mode: int, where: str) -> GridCoder:
        """Return the coder of this number. Raises CodesError, naming `where`, if the model has none."""
        if mode not in self._by_mode:
            expected = " or ".join(map(str, sorted(self._by_mode)))
            raise CodesError(where, expected=f"entropy coder {expected}", found=str(mode), fix="update aekit")
        return self._by_mode[mode]
