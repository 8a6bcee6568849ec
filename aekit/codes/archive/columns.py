"""Columns: lists of numbers and texts of a block, deflated into one stream, and taken from it again.

Numbers of k bytes are stored as k planes: first the lowest byte of every number, then the second byte of every number,
and so on. Deflate finds such planes alike.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aekit.codes.archive.container import inflate

Numbers = npt.NDArray[np.int64]

_RAW_DEFLATE = -zlib.MAX_WBITS


def planes(values: Sequence[int] | Numbers, width: int) -> bytes:
    """Return numbers modulo 256**width as planes of bytes, the low ones first."""
    return b"".join(
        (np.asarray(values, np.int64) >> shift & 255).astype(np.uint8).tobytes() for shift in range(0, 8 * width, 8)
    )


def deflated(columns: Sequence[bytes]) -> bytes:
    """Return columns as one raw deflate stream. Each column ends a deflate block, so it gets its own Huffman code."""
    stream = zlib.compressobj(9, zlib.DEFLATED, _RAW_DEFLATE, 9)
    parts = [stream.compress(column) + (stream.flush(zlib.Z_BLOCK) if column else b"") for column in columns]
    return b"".join(parts) + stream.flush()


class Columns:
    """The columns of a raw deflate stream, taken one after the other.

    Every method raises ValueError if the stream is damaged or does not hold what is asked for.
    """

    def __init__(self, stream: bytes, most: int) -> None:
        """Inflate the stream to at most `most` bytes."""
        self._data, self._at = inflate(stream, most, _RAW_DEFLATE), 0

    def text(self, size: int) -> bytes:
        """Take `size` bytes."""
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise ValueError("a column that is cut short")
        self._at += size
        return found

    def numbers(self, count: int, width: int) -> Numbers:
        """Take `count` numbers of `width` bytes."""
        found = np.frombuffer(self.text(count * width), np.uint8).reshape(width, count)
        shifts = np.arange(0, 8 * width, 8)[:, None]
        return (found.astype(np.int64) << shifts).sum(axis=0)

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._data):
            raise ValueError("bytes after the last column")
