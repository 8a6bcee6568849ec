"""Places of several pictures in one array, the order in which they are coded, and the places around each.

A group of channels is coded in passes. A pass holds one *lattice*: the places (y, x) of each picture with
y % step == y0 and x % step == x0. Steps are 1, 2 or 4, so 4×4 places show the whole pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aekit.errors import ShapeError

Numbers = NDArray[np.int64]
Codes = NDArray[np.uint8]
Sets = NDArray[np.int64] | None
"""Quality less 1 of each place; None for a model of one quality."""

INSIDE = 16
"""Value of plane 0 at a place of a picture. Around the pictures all planes are 0."""
ZERO = 128
"""Code that stands for 0. The other planes hold codes less ZERO: -128 to 127."""
_PERIOD = 4


class Lattice(NamedTuple):
    """Places (y, x) with y % step == y0 and x % step == x0."""

    step: int
    y0: int
    x0: int

    def holds(self, y: int, x: int) -> bool:
        """Tell whether a place lies on the lattice."""
        return (y - self.y0) % self.step == 0 and (x - self.x0) % self.step == 0


class Offset(NamedTuple):
    """The way from a place to another place of its picture."""

    dy: int
    dx: int


def _period() -> list[tuple[int, int]]:
    return [(y, x) for y in range(_PERIOD) for x in range(_PERIOD)]


def cover_once(lattices: Sequence[Lattice]) -> bool:
    """Tell whether each place lies on exactly one of the lattices."""
    return all(sum(lattice.holds(y, x) for lattice in lattices) == 1 for y, x in _period())


def known(lattices: Sequence[Lattice], number: int, offsets: Sequence[Offset]) -> list[int]:
    """Return the numbers of the offsets that lead from each place of pass `number` to a place of an earlier pass."""
    here = [place for place in _period() if lattices[number].holds(*place)]
    return [
        index
        for index, (dy, dx) in enumerate(offsets)
        if all(any(earlier.holds(y + dy, x + dx) for earlier in lattices[:number]) for y, x in here)
    ]


class Canvas:
    """The pictures of a block, one after the other, each with a margin of zeros.

    A *row* of the canvas is a place with all its planes. The row of the place (dy, dx) away is dy * pitch + dx further.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], channels: int, margin: int, qualities: Sequence[int] = ()
    ) -> None:
        """Make a canvas of zeros for pictures of so many places, (h, w) each. Raises ShapeError for h or w below 1.

        `qualities` holds the quality of each picture, 1 or more, for a model that has qualities.
        """
        if any(h < 1 or w < 1 for h, w in shapes):
            raise ShapeError("a code must have at least one place", found=str(list(shapes)[:4]))
        heights, widths = np.array(shapes, np.int64).reshape(-1, 2).T
        self.pitches = widths + 2 * margin
        sizes = self.pitches * (heights + 2 * margin)
        self.count = int(heights @ widths)
        # The place of each row: pictures in order, their places from left to right and from top to bottom.
        self._picture = np.repeat(np.arange(len(heights)), heights * widths)
        within = np.arange(self.count) - np.repeat(np.cumsum(heights * widths) - heights * widths, heights * widths)
        self._y, self._x = np.divmod(within, widths[self._picture])
        begin = np.cumsum(sizes) - sizes
        self._rows = begin[self._picture] + (self._y + margin) * self.pitches[self._picture] + self._x + margin
        self.planes = np.zeros((int(sizes.sum()), 1 + channels), np.int8)
        self.planes[self._rows, 0] = INSIDE
        self.set_of_row: Sets = np.repeat(np.array(qualities, np.int64) - 1, sizes) if qualities else None
        """Quality less 1 of each row's picture; None without qualities."""

    def fill(self, codes: Sequence[Codes], order: Sequence[int]) -> None:
        """Write the codes of all pictures, uint8 [h, w, K]; plane 1 + i takes channel order[i]."""
        flat = np.concatenate([code.reshape(-1, len(order)) for code in codes])
        self.planes[self._rows, 1:] = (flat[:, list(order)] ^ ZERO).view(np.int8)

    def codes(self, order: Sequence[int]) -> Codes:
        """Return the codes of all places, uint8 [places, K]: the pictures one after the other."""
        codes = np.empty((self.count, len(order)), np.uint8)
        codes[:, list(order)] = self.planes[self._rows, 1:].view(np.uint8) ^ ZERO
        return codes

    def places(self, lattice: Lattice) -> tuple[Numbers, Numbers]:
        """Return the rows of the places on a lattice, in order, and the pitch of each one's picture."""
        step, y0, x0 = lattice
        chosen = np.flatnonzero((self._y % step == y0) & (self._x % step == x0))
        return self._rows[chosen], self.pitches[self._picture[chosen]]

    def around(self, rows: Numbers, pitch: Numbers, offsets: Sequence[Offset], planes: slice) -> NDArray[np.int8]:
        """Return planes of the places at each offset from `rows`, int8 [rows, offsets * planes], plane by plane."""
        dy, dx = np.array(offsets, np.int64).reshape(-1, 2).T
        found = self.planes[rows[:, None] + pitch[:, None] * dy + dx, planes]
        return found.reshape(len(rows), found.shape[1] * found.shape[2])
