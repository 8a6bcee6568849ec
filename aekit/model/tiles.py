"""Tiles: the parts of a large picture on which a graph runs one at a time, so that memory is bounded.

A picture of more than WHOLE_PIXELS is run in tiles of at most TILE_PIXELS a side. A tile has a margin, the halo, that
holds everything its inner part depends on. So a code does not depend on the tiling.
"""

from dataclasses import dataclass
from itertools import pairwise, product

from aekit.spec import GridGeometry

WHOLE_PIXELS = 2**21
"""Largest number of pixels of a picture that is not cut into tiles."""
TILE_PIXELS = 1152
"""Largest number of pixels on each side of a tile, with its margins. A decoder takes 200 to 300 MB for it."""


@dataclass(frozen=True)
class Span:
    """A part of a side of a code, in places: the inner part, and the part with its margin."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def inner(self) -> slice:
        """The inner part, within the part with its margin."""
        return slice(self.start - self.first, self.stop - self.first)


Tile = tuple[Span, Span]
"""A tile of a code: its rows and its columns."""


def is_tiled(size: tuple[int, ...]) -> bool:
    """Return whether a picture of this size (height, width) is cut into tiles."""
    return size[0] * size[1] > WHOLE_PIXELS


def tiles_of(shape: tuple[int, ...], geometry: GridGeometry, halo: int) -> list[Tile]:
    """Return the tiles of a code of the shape (h, w, …), with margins of `halo` places."""
    return list(product(_spans(shape[0], geometry, halo), _spans(shape[1], geometry, halo)))


def tile_borders(places: int, geometry: GridGeometry, halo: int) -> list[int]:
    """Return where the tiles of a side of so many places meet, in places."""
    return [span.start for span in _spans(places, geometry, halo)[1:]]


def _spans(places: int, geometry: GridGeometry, halo: int) -> list[Span]:
    """Divide a side of so many places into the fewest spans.

    All spans with their margins are of one length: onnxruntime's memory is reused only by inputs of one shape.
    """
    longest = max(TILE_PIXELS // geometry.stride, 3 * halo, 1)
    if places <= longest:
        return [Span(0, places, 0, places)]
    count = -(-(places - 2 * halo) // (longest - 2 * halo))
    length = -(-(places + (count - 1) * 2 * halo) // count)
    firsts = [number * (places - length) // (count - 1) for number in range(count)]
    borders = [0, *(first + halo for first in firsts[1:]), places]
    return [Span(*inner, first, first + length) for inner, first in zip(pairwise(borders), firsts, strict=True)]
