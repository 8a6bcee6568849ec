"""Gather the image files that a user names: files, folders, patterns and list files, together below one folder.

    cat/1.png cat/2.png dog/    files and folders; a folder is read with its subfolders
    'photos/**/*.jpg'           a pattern: * ? [] match within one name, ** matches folders of any depth, or none
    @list.txt                   a list file: UTF-8, the path of an image on each line, relative to the list's folder

Every path is kept relative to one folder, the root. For a single pattern, it is the part before the first wildcard.
Otherwise it is the deepest folder that holds everything that was named.
"""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from aekit.errors import SourceError
from aekit.files import read_regular
from aekit.images.formats import SUFFIXES
from aekit.images.named_sets import NAMES
from aekit.images.paths import FILE, FOLDER, NOTHING, find_images, folders_below, images_below, kind_of, system_reason

LIST_SIGN = "@"
"""First character of an argument that names a list file."""
MAX_LIST_BYTES, MAX_LISTED, MAX_LINE = 2**28, 1_000_000, 4096
"""Largest list file accepted: its bytes, its lines, and the bytes of a line."""
_WILDCARD = re.compile(r"[*?[]")
_ALONE = "an array or a named set is given alone"
_SHOWN = 3
"""Number of paths that an error names, if it is about many."""


@dataclass(frozen=True)
class GatheredImages:
    """Image files below one folder."""

    root: Path
    """The folder that the paths are relative to."""
    paths: tuple[str, ...]
    """Paths of the images relative to the root, with forward slashes, sorted, each once."""
    searched: tuple[Path, ...]
    """Folders that were searched for images. They may hold more images later."""


@dataclass
class _Found:
    """Images, folders and problems found so far."""

    paths: dict[str, list[str]] = field(default_factory=dict)
    """Image paths by folder: a folder that was named, or that holds a named file. Paths are relative to it."""
    searched: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Paths that can't be used, with the reason."""

    def add(self, root: str, paths: Sequence[str]) -> None:
        self.paths.setdefault(root, []).extend(paths)


def is_collective(text: str) -> bool:
    """Return whether the text is a pattern or names a list file. The name of an existing file or folder is neither."""
    return (text.startswith(LIST_SIGN) or bool(_WILDCARD.search(text))) and kind_of(text) == NOTHING


def everywhere(text: str) -> str:
    """Return a text that names the same files from every working folder. `text` is no named set."""
    if text.startswith(LIST_SIGN) and is_collective(text):
        return LIST_SIGN + str(Path(text[1:]).resolve())
    return str(Path(text).resolve())


def gather(texts: Sequence[str]) -> GatheredImages:
    """Find the image files that the texts name.

    Raises SourceError if one of them names no image, a named path is missing or is neither an image nor a folder, or a
    list file can't be read.
    """
    found = _Found()
    for text in texts:
        if not is_collective(text):
            _add_path(found, text)
        elif text.startswith(LIST_SIGN):
            _add_list(found, text)
        else:
            _add_pattern(found, text)
    what = f"{len(texts):,} image files or folders" if len(texts) > 1 else "an image file or a folder"
    _check(found.problems, "the images", what, _ALONE)
    if not found.paths:
        raise SourceError("the images", expected="at least one image file, folder, pattern or list", found="none")
    root, prefixes = _common_folder(found.paths)
    paths = {f"{prefixes[folder]}{path}" for folder, below in found.paths.items() for path in below}
    return GatheredImages(root, tuple(sorted(paths)), tuple(dict.fromkeys(found.searched)))


def _add_path(found: _Found, path: str, *, folders: bool = True) -> None:
    """Add an image file, or, with `folders`, all images below a folder. Raises SourceError for one without images."""
    kind = kind_of(path)
    if kind == FOLDER and folders:
        found.add(path, find_images(Path(path)))
        found.searched.append(Path(path))
    elif kind == FILE and _is_image(path):
        found.add(os.path.dirname(path), (os.path.basename(path),))
    elif kind == NOTHING and path in NAMES:
        found.problems.append(f"{path} (a named set)")
    else:
        found.problems.append(f"{path[:300]} ({'no image file, by its suffix' if kind == FILE else kind})")


def _add_list(found: _Found, text: str) -> None:
    """Add the paths in a list file. Raises SourceError if it can't be read, or a path in it can't be used."""
    path = Path(text[1:])
    expected = f"a list file: text, the path of an image on each line, at most {MAX_LISTED:,} lines"
    try:
        lines = read_regular(path, MAX_LIST_BYTES).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise SourceError(text[:300], expected=expected, found=system_reason(error)) from error
    named = [line for line in (line.removesuffix(b"\r") for line in lines) if line]
    if len(named) > MAX_LISTED or not named:
        raise SourceError(text[:300], expected=expected, found=f"{len(named):,} lines")
    listed = _Found()
    for line in named:
        if len(line) > MAX_LINE:
            raise SourceError(text[:300], expected=expected, found=f"a line of {len(line):,} bytes")
        _add_path(listed, os.path.join(path.parent, os.fsdecode(line)), folders=False)
    fix = "a list names images, by paths relative to its folder"
    _check(listed.problems, text[:300], f"{len(named):,} image files", fix)
    for root, paths in listed.paths.items():
        found.add(root, paths)


def _add_pattern(found: _Found, pattern: str) -> None:
    """Add the images, and the images below the folders, that a pattern matches. Raises SourceError if none does."""
    parts = [part for part in Path(pattern).parts if part != "."]
    first = next(number for number, part in enumerate(parts) if _WILDCARD.search(part))
    fixed, parts = os.path.join("", *parts[:first]), parts[first:]
    while parts and parts[-1] == "**":  # a folder that matches is read with its subfolders anyway
        parts.pop()
    if ".." in parts:
        raise SourceError(pattern[:300], expected="no .. behind a wildcard", found="one")
    images = list[str]()
    for match in _matches(fixed, parts):
        place = os.path.join(fixed, match) or "."
        if (kind := kind_of(place)) == FOLDER:
            images += (_joined(match, path) for path in images_below(place))
            found.searched.append(Path(place))
        elif kind == FILE and _is_image(place):
            images.append(match)
    if not images:
        raise SourceError(pattern[:300], expected="a pattern that paths of images match", found="no such path")
    found.add(fixed, images)
    if len(parts) > 1:  # wildcards reach below the fixed folder
        found.searched.append(Path(fixed))


def _matches(fixed: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield what matches the parts of a pattern, relative to the folder `fixed`, with forward slashes.

    As in a shell, a wildcard does not match a name that begins with a dot. A linked folder is entered once below **, so
    that a loop of links ends.
    """
    places = {"": None}
    for part in parts:
        here = (os.path.join(fixed, place) for place in places)
        if part == "**":
            below = ((place, folders_below(folder)) for place, folder in zip(places, here, strict=True))
            places = {_joined(place, name): None for place, names in below for name in names if not _is_hidden(name)}
        elif _WILDCARD.search(part):
            found = ((place, _names(folder)) for place, folder in zip(places, here, strict=True))
            dot = part.startswith(".")
            places = {
                _joined(place, name): None
                for place, names in found
                for name in names
                if fnmatchcase(name, part) and (dot or not name.startswith("."))
            }
        else:
            places = {_joined(place, part): None for place in places}
    yield from places


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except OSError:  # a file, nothing, or a folder of others: nothing in it matches
        return []


def _joined(place: str, name: str) -> str:
    return f"{place}/{name}" if place and name else place or name


def _is_hidden(path: str) -> bool:
    return any(name.startswith(".") for name in path.split("/"))


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _check(problems: Sequence[str], where: str, expected: str, fix: str) -> None:
    """Raise SourceError if there are problems. It names the first few."""
    if problems:
        if fix == _ALONE and all(problem.endswith(f"({NOTHING})") for problem in problems):
            fix = ""
        more = len(problems) - _SHOWN
        found = ", ".join(problems[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        raise SourceError(where, expected=expected, found=found, fix=fix)


def _common_folder(folders: Collection[str]) -> tuple[Path, dict[str, str]]:
    """Return the deepest folder that holds all of `folders`, and the path of each below it, with a slash at its end."""
    if len(folders) == 1:
        (folder,) = folders
        return Path(folder), {folder: ""}
    upward = {folder for folder in folders if os.pardir in Path(folder).parts}
    make = os.path.abspath if upward or any(map(os.path.isabs, folders)) else os.path.normpath
    # If a is a link, a/../b can be another folder than b. So the operating system resolves "..".
    places = {folder: os.path.realpath(folder) if folder in upward else make(folder or ".") for folder in folders}
    try:
        root = os.path.commonpath(places.values())
    except ValueError as error:
        raise SourceError("the images", expected="files on one drive", found="several drives") from error
    below = {folder: os.path.relpath(place, root or ".") for folder, place in places.items()}
    return Path(root), {
        folder: "" if path == "." else path.replace(os.sep, "/") + "/" for folder, path in below.items()
    }
