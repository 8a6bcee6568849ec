"""Content: what a file holds, in two numbers. By these a later job knows a finished output, even a copy of it."""

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aekit.outputs.places import NO_LINKS, status

_PIECE = 2**20
"""Bytes read at a time."""


@dataclass(frozen=True)
class Content:
    """Size of a file in bytes, and the CRC-32 of its bytes."""

    size: int | None
    """Bytes; None for a folder, of which nothing is noted."""
    crc: int | None = None
    """None if the file was not read for it."""

    @classmethod
    def of(cls, path: Path, *, summed: bool) -> Self:
        """Return the content of what lies at `path`. A file is read whole if `summed`.

        Raises OSError if nothing lies there, or it can't be read.
        """
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            return cls(None)
        return cls(found.st_size, _crc(path) if summed else None)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the content that `to_json` turned into `value`. Raises ValueError for any other value."""
        if not isinstance(value, list) or len(value) != 2 or not all(_is_count(number) for number in value):
            raise ValueError("a content that is no size and checksum")
        return cls(*value)

    def to_json(self) -> list[int | None]:
        """Return the content as values that JSON can hold."""
        return [self.size, self.crc]

    def fits(self, path: Path) -> bool:
        """Return whether what lies at `path` has this content. Raises OSError if it can't be read."""
        found = status(path)
        if found is None:
            return False
        if self.size is None or not stat.S_ISREG(found.st_mode):
            return self.size is None and stat.S_ISDIR(found.st_mode)
        return found.st_size == self.size and (self.crc is None or _crc(path) == self.crc)


def _crc(path: Path) -> int:
    crc = 0
    with os.fdopen(os.open(path, os.O_RDONLY | NO_LINKS), "rb") as file:
        while piece := file.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return crc


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
