"""Parts: how the codes of a block of grid codes are divided, so that each part is coded in bounded memory.

A part is some whole codes of together at most PART_NUMBERS numbers, or a band of lines of one larger code. The parts
follow from the shapes of the codes, so a file does not store them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
Shape = tuple[int, int]
"""Lines and columns (h, w) of a code."""

PART_NUMBERS = 1 << 20
"""Largest number of numbers in a part, unless a single line has more. Coding a part takes about 32 bytes for each."""


@dataclass(frozen=True)
class Part:
    """What a part holds: the codes `first` to `stop`, or the lines `top` to `bottom` of the one code `first`."""

    first: int
    stop: int
    top: int = 0
    bottom: int = 0
    """Line behind the last one, or 0 for whole codes."""

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return the shapes of the grids in the part, from the shapes of all codes of the block."""
        if self.bottom:
            return [(self.bottom - self.top, shapes[self.first][1])]
        return list(shapes[self.first : self.stop])

    def grids(self, codes: Sequence[U8]) -> list[U8]:
        """Return the grids in the part, from all codes of the block."""
        if self.bottom:
            return [codes[self.first][self.top : self.bottom]]
        return list(codes[self.first : self.stop])


def parts_of(shapes: Sequence[Shape], channels: int) -> Iterator[Part]:
    """Yield the parts of a block with codes of these shapes.

    A code joins the open part if the two have at most PART_NUMBERS numbers together; else it opens the next part. A
    code that has more alone is cut into bands of as many lines as fit, at least one, and each band is a part.
    """
    first = held = 0
    for row, (height, width) in enumerate(shapes):
        numbers = height * width * channels
        if first < row and held + numbers > PART_NUMBERS:
            yield Part(first, row)
            first, held = row, 0
        if numbers > PART_NUMBERS:
            lines = max(PART_NUMBERS // (width * channels), 1)
            for top in range(0, height, lines):
                yield Part(row, row + 1, top, min(top + lines, height))
            first = row + 1
        else:
            held += numbers
    if first < len(shapes):
        yield Part(first, len(shapes))
