"""Names of the picture files that a job writes, one per image."""

import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath


def numbered(count: int) -> list[str]:
    """Return names for `count` images that have no paths: 000000.png and so on."""
    digits = max(6, len(str(count - 1)))
    return [f"{row:0{digits}d}.png" for row in range(count)]


def png_paths(paths: Sequence[str]) -> list[str]:
    """Return the path of the PNG file of each image: its own path with the suffix .png. Different paths never give one
    name.

    An image keeps its own suffix too, as in a.jpg.png, in three cases: another image wants the plain name (a.jpg beside
    a.png); another image might keep its suffix and so get that name (a.jpg.webp beside a.jpg); or a folder has the name
    (a.jpg beside a.png/b.jpg).
    """
    # Names are compared without case, because some file systems take A.png and a.png for one file.
    stems = Counter(_stem(path) for path in paths)
    inputs = {path.casefold() for path in paths}
    parents = map(PurePosixPath, {path.rpartition("/")[0].casefold() for path in paths})
    folders = {str(folder) for parent in parents for folder in (parent, *parent.parents)}

    def target(path: str) -> str:
        stem = _stem(path)
        plain = stems[stem] == 1 and stem not in inputs and f"{stem}.png" not in folders
        return (posixpath.splitext(path)[0] if plain else path) + ".png"

    return [target(path) for path in paths]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0].casefold()
