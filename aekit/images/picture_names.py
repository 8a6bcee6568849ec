"""Names of the files that a job writes, one per image: pictures or messages."""

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from aekit.images.picture_output import MARKER
from aekit.outputs.places import STAMP

MAX_NAME = 255
"""Longest name of a file or folder that file systems take, in bytes."""
_ENDING = len("-1000000000.png")
"""Bytes of the longest number and suffix that a name may get."""
_RESERVED = frozenset({MARKER, STAMP})
"""Names of aekit's own files in a folder of pictures. No folder there may have one of them."""


def numbered(count: int, suffix: str = ".png") -> list[str]:
    """Return names for `count` images that have no paths: 000000.png and so on."""
    digits = max(6, len(str(count - 1)))
    return [f"{row:0{digits}d}{suffix}" for row in range(count)]


def png_paths(paths: Sequence[str], suffix: str = ".png") -> list[str]:
    """Return the path of the PNG file of each image: its own path with the suffix .png, or another of four characters.

    The paths always fit into one folder. No two are equal, also where a file system ignores case or takes two spellings
    of an accent for one. No path is a folder of another. No folder has the name of one of aekit's own files.

    An image keeps its own suffix too, as in a.jpg.png, in three cases: another image wants the plain name (a.jpg beside
    a.png); another image might keep its suffix and so get that name (a.jpg.webp beside a.jpg); or a folder has the name
    (a.jpg beside a.png/b.jpg). If that name is also taken, or too long, a number is added: a.jpg-2.png.
    """
    paths = [_beside_ours(path) for path in paths]
    stems = Counter(_stem(path) for path in paths)
    inputs = {_key(path) for path in paths}
    parents = map(PurePosixPath, {_key(posixpath.dirname(path)) for path in paths})
    folders = {str(folder) for parent in parents for folder in (parent, *parent.parents)}

    def wanted(path: str) -> str:
        stem = _stem(path)
        plain = stems[stem] == 1 and stem not in inputs and f"{stem}{suffix}" not in folders
        return (posixpath.splitext(path)[0] if plain else path) + suffix

    targets = [wanted(path) for path in paths]
    taken, waiting = set(folders), list[int]()
    for row, target in enumerate(targets):
        if (key := _key(target)) in taken or _too_long(target):
            waiting.append(row)
        else:
            taken.add(key)
    numbers = Counter[str]()  # the last one used for each stem: a million equal names are not each tried from 2 on
    for row in waiting:
        stem = _short(targets[row].removesuffix(suffix))
        key = _key(stem)
        numbers[key] += 1
        while _key(target := f"{stem}-{numbers[key] + 1}{suffix}") in taken:
            numbers[key] += 1
        taken.add(_key(target))
        targets[row] = target
    return targets


def _key(path: str) -> str:
    """Return what a file system compares that ignores case and spelling: Windows and macOS take A.png for a.png."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _stem(path: str) -> str:
    return _key(posixpath.splitext(path)[0])


def _beside_ours(path: str) -> str:
    """Return the path, with another first folder if that has the name of a file of ours."""
    first, slash, rest = path.partition("/")
    return f"{first}_/{rest}" if slash and _key(first) in _RESERVED else path


def _too_long(path: str) -> bool:
    return len(os.fsencode(posixpath.basename(path))) > MAX_NAME


def _short(stem: str) -> str:
    """Return a path whose last name is cut, if need be, to leave room for a number and the suffix."""
    folder, name = posixpath.split(stem)
    name = name[:MAX_NAME]  # a character takes at least a byte
    while len(os.fsencode(name)) > MAX_NAME - _ENDING:
        name = name[:-1]
    return posixpath.join(folder, name)
