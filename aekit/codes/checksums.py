"""CRC-32 of codes, taken from the bytes of their numbers, row by row, however they lie in memory."""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def crc_of(codes: Iterable[npt.NDArray[Any]], crc: int = 0) -> int:
    """Return the CRC-32 of the numbers of arrays of any shapes, one after the other. `crc` is of what goes before."""
    for code in codes:
        crc = zlib.crc32(np.ascontiguousarray(code).data.cast("B") if code.size else b"", crc)
    return crc
