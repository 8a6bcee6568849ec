"""Room for all images of a source: in memory, or in temporary files that are mapped where memory would not do."""

import math
import os

import numpy as np

from aekit.images.decode import Pixels

_FILE_BYTES = 2**28
"""Size of a temporary file for pictures of any size. A picture that is larger gets a file of its own."""


class RowShelf:
    """Room for images of one size, in one array."""

    def __init__(self, count: int, shape: tuple[int, int, int]) -> None:
        self._images, self._kept = _room((count, *shape), memory() // 2), 0

    def keep(self, images: Pixels | list[Pixels]) -> None:
        """Take images uint8 [k, H, W, C]."""
        self._images[self._kept : self._kept + len(images)] = images
        self._kept += len(images)

    def images(self) -> Pixels:
        """Return the images that were kept, uint8 [n, H, W, C]."""
        return self._images[: self._kept]


class PictureShelf:
    """Room for pictures of any size."""

    def __init__(self) -> None:
        self._pictures, self._memory = list[Pixels](), memory() // 2
        self._file, self._taken = np.empty(0, np.uint8), 0

    def keep(self, pictures: Pixels | list[Pixels]) -> None:
        """Take pictures uint8 [H, W, C]."""
        for picture in pictures:
            self._memory -= picture.nbytes
            self._pictures.append(picture if self._memory >= 0 else self._in_a_file(picture))

    def images(self) -> list[Pixels]:
        """Return the pictures that were kept, uint8 [H, W, C] each."""
        return self._pictures

    def _in_a_file(self, picture: Pixels) -> Pixels:
        if self._taken + picture.size > self._file.size:
            self._file, self._taken = _room((max(_FILE_BYTES, picture.size),), 0), 0
        place = self._file[self._taken : self._taken + picture.size].reshape(picture.shape)
        self._taken += picture.size
        place[...] = picture
        return place


def memory() -> int:
    """Return the system's memory in bytes; where the system does not tell, more than any system has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63


def _room(shape: tuple[int, ...], most: int) -> Pixels:
    """Return an array to fill: in memory if it takes less than `most` bytes, else in a mapped temporary file."""
    if math.prod(shape) < most:
        return np.empty(shape, np.uint8)
    import tempfile

    with tempfile.TemporaryFile() as file:  # the map keeps the file, which has no name, for as long as it is used
        return np.memmap(file, np.uint8, "w+", shape=shape)
