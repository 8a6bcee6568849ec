"""Grid codes: the codes of pictures of any sizes, with the sizes and qualities of the pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from aekit.errors import ShapeError

Array = npt.NDArray[Any]
Size = tuple[int, int]
"""(height, width) in pixels."""
Qualities = Sequence[int]
"""The quality of each picture; empty for a model without qualities."""


@dataclass(frozen=True)
class GridCodes(Sequence[Array]):
    """The codes of pictures of any sizes. A slice of it is a GridCodes too.

    Raises ShapeError if a code is no array [h, w, K] of uint8 or floats, if a size is not two numbers of 1 or more, or
    if there are not as many sizes as codes. There must be as many qualities as codes, or none.
    """

    codes: tuple[Array, ...]
    """For each picture its code, [h, w, K]."""
    sizes: tuple[Size, ...]
    """For each picture (height, width) in pixels as it was encoded."""
    qualities: tuple[int, ...] = ()
    """Quality at which each picture was encoded. Empty for a model without qualities."""

    def __post_init__(self) -> None:
        if len(self.codes) != len(self.sizes):
            raise ShapeError("codes", expected=f"{len(self.sizes)}, as many as sizes", found=str(len(self.codes)))
        if len(self.qualities) not in (0, len(self.codes)):
            expected = f"{len(self.codes)}, as many as codes, or none"
            raise ShapeError("qualities", expected=expected, found=str(len(self.qualities)))
        for code in self.codes:
            if code.ndim != 3 or code.dtype.kind not in "uf":
                expected = "[h, w, K] of uint8 or floating point"
                raise ShapeError("a grid code", expected=expected, found=f"{list(code.shape)} of {code.dtype}")
        for size in self.sizes:
            if len(size) != 2 or not all(side >= 1 for side in size):
                raise ShapeError("a picture's size", expected="height and width of 1 or more", found=str(size)[:80])

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> "GridCodes": ...
    def __getitem__(self, index: int | slice) -> "Array | GridCodes":
        if isinstance(index, slice):
            return GridCodes(self.codes[index], self.sizes[index], self.qualities[index])
        return self.codes[index]

    def __add__(self, other: "GridCodes") -> "GridCodes":
        """Return the codes of both, this one's first."""
        return self.joined((self, other))

    @classmethod
    def joined(cls, parts: "Iterable[GridCodes]") -> "GridCodes":
        """Return the codes of all parts, in order."""
        whole = list(parts)
        return cls(
            tuple(code for part in whole for code in part.codes),
            tuple(size for part in whole for size in part.sizes),
            tuple(quality for part in whole for quality in part.qualities),
        )

    def rows(self) -> Array:
        """Return the numbers of all places, [Σ h · w, K], picture by picture and row by row."""
        if not self.codes:
            return np.empty((0, 0), np.uint8)
        return np.concatenate([code.reshape(-1, code.shape[2]) for code in self.codes])
