"""Write pictures to one .npy array, uint8 [n, H, W, C], that grows batch by batch."""

import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aekit.errors import OptionError
from aekit.images.decode import Pixels
from aekit.images.picture_writer import Batch, PictureWriter, Sums
from aekit.outputs.journal import Journal
from aekit.outputs.marks import Step
from aekit.outputs.ours import images_header
from aekit.outputs.staging import crc_of_range
from aekit.spec import Geometry, GridGeometry


class ArrayWriter(PictureWriter):
    """An .npy file that grows by a batch at a time. For a grid model, the first picture decides the size of all."""

    def __init__(self, file: BinaryIO, geometry: Geometry | GridGeometry, journal: Journal, out: Path) -> None:
        super().__init__(journal)
        self._file, self._out, self._channels = file, out, geometry.channels
        self._size = (geometry.height, geometry.width) if isinstance(geometry, Geometry) else (0, 0)
        self._size_is_marked = isinstance(geometry, GridGeometry)
        self._begin = self._write_header()

    @property
    def _pixels(self) -> int:
        return self._size[0] * self._size[1] * self._channels

    def _take_over(self, step: Step, sums: Sums) -> bool:
        if self._size_is_marked:
            if self.count and self._size != (sums.height, sums.width):
                return False
            self._size = sums.height, sums.width
        start, stop = (self._begin + images * self._pixels for images in (self.count, sums.images))
        return crc_of_range(self._file, start, stop, self._crc) == sums.crc

    def _cut_off(self) -> None:
        end = self._begin + self.count * self._pixels
        self._file.truncate(end)
        self._file.seek(end)

    def write(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            for images in [batch.images] if isinstance(batch.images, np.ndarray) else self._alike(batch.images):
                data = np.ascontiguousarray(images).data.cast("B") if images.size else b""
                self._crc = zlib.crc32(data, self._crc)
                self._file.write(data)
            self._file.flush()
            if self._journal.due():
                os.fsync(self._file.fileno())
            self.count += len(batch.images)
            self._mark(batch.step, self._size if self._size_is_marked else (0, 0))
        self._write_header()

    def _alike(self, pictures: Sequence[Pixels]) -> Sequence[Pixels]:
        """Return the pictures if they have the size of all earlier ones. Raises OptionError if not."""
        for picture in pictures:
            height, width = picture.shape[:2]
            if not any(self._size):
                self._size = height, width
            if self._size != (height, width):
                raise differing(self._out, self._size, (height, width))
        return pictures

    def _write_header(self) -> int:
        """Write the header with the count so far; return the byte at which the images begin."""
        self._file.seek(0)
        self._file.write(images_header((self.count, *self._size, self._channels)))  # of one size, whatever the count
        begin = self._file.tell()
        self.bytes = self._file.seek(0, os.SEEK_END)
        return begin


def differing(out: Path, first: tuple[int, int], other: tuple[int, int]) -> OptionError:
    """Return the error for pictures of two sizes, (height, width), that are to become the array `out`."""
    expected = f"pictures of one size for one array, {first[0]}x{first[1]} as the first"
    return OptionError(f"--out {out}", expected=expected, found=f"{other[0]}x{other[1]}", fix="give a folder as --out")
