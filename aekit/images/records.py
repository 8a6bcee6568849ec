"""Records: what is known about each input of a source, and the blocks in which a source is read."""

import os
import re
from dataclasses import dataclass
from pathlib import PurePath

from aekit.errors import CodesError
from aekit.images.decode import Pixels

_PLAIN_PATH = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
"""A path that is safe on every system; most paths match it."""


@dataclass(frozen=True)
class Record:
    """One input of a folder: its path and its own size, or why it could not be read."""

    path: str
    """Relative to the source folder, with forward slashes."""
    width: int = 0
    """Pixels, after EXIF orientation; 0 if unreadable."""
    height: int = 0
    """Pixels."""
    error: str = ""
    """Why the image was left out; empty if it was read."""


@dataclass(frozen=True)
class ImageBlock:
    """A range of a source, read."""

    images: Pixels | list[Pixels]
    """The images that could be read: uint8 [k, height, width, channels], or for a model of grid codes a list of k
    pictures uint8 [height, width, channels]."""
    records: tuple[Record, ...] = ()
    """One record for each input, in order, if the images of the source have paths; otherwise empty."""


def check_relative(path: str, where: str) -> None:
    """Raise CodesError if `path`, read from a file, is not a plain relative path that stays below its folder."""
    if _PLAIN_PATH.fullmatch(path):  # most paths match, and there may be millions
        return
    parsed = PurePath(path)  # by this system's rules: a backslash or a drive letter leads away on Windows alone
    try:
        os.fsencode(path)  # JSON can spell characters that no file name holds
    except UnicodeEncodeError:
        parsed = PurePath()
    if not parsed.parts or parsed.anchor or ".." in parsed.parts or "\0" in path:
        raise CodesError(where, expected="a path below the output folder", found=repr(path)[:120])
