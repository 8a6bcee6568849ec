"""What lies at a path that a user gave, and the image files below a folder. No error of the system gets through."""

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from aekit.errors import SourceError, reason
from aekit.images.formats import SUFFIXES

FILE, FOLDER, NOTHING = "a file", "a folder", "nothing there"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: str | Path) -> str:
    """What lies at `path`, in words: FILE, FOLDER, NOTHING, "a pipe" and the like, or why the system does not say.

    Links are followed. The path is not opened, since opening a pipe waits for its other end.
    """
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "neither a file nor a folder")
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except (OSError, ValueError) as error:  # ValueError: a NUL byte, or characters that no file name holds
        return system_reason(error)


def system_reason(error: BaseException) -> str:
    """Why the system refused, without the path that its own message repeats."""
    return (isinstance(error, OSError) and error.strerror) or reason(error)


def find_images(folder: Path) -> list[str]:
    """Return the paths of the image files below `folder`, relative to it, with forward slashes, in sorted order.

    A file counts by its suffix and by being a regular file: sockets, pipes and devices are never opened. A link to a
    file counts as the file. A linked folder is entered once, so that a loop of links ends.

    Raises SourceError if the folder is missing, can't be read, or holds no image.
    """
    return find_files(folder, "images", SUFFIXES)


def find_files(folder: Path, what: str, suffixes: Collection[str]) -> list[str]:
    """Return the paths of the files below `folder` that have one of the suffixes, as `find_images` does for images.

    `what` names them in errors. Raises SourceError if the folder is missing, can't be read, or holds no such file.
    """
    if (found := kind_of(folder)) != FOLDER:
        raise SourceError(str(folder), expected=f"a folder of {what}", found=found)
    paths = sorted(images_below(str(folder), suffixes))
    if not paths:
        raise SourceError(str(folder), expected=f"{what} ({' '.join(sorted(suffixes))}) in it or below", found="none")
    return paths


def images_below(folder: str, suffixes: Collection[str] = SUFFIXES) -> Iterator[str]:
    """Yield the paths of the image files below `folder`, relative to it, as `find_images` finds them, unsorted.

    Files of other `suffixes`, in lower case, are found likewise. Raises SourceError if a folder can't be read.
    """
    for prefix, entries in _walk(folder):
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in suffixes and (_is(entry, FILE) or _is_lost(entry)):
                yield prefix + entry.name


def folders_below(folder: str) -> Iterator[str]:
    """Yield the path of `folder` itself, which is empty, and of all folders below it, relative to it.

    Nothing is yielded if `folder` is no folder. Raises SourceError if a folder can't be read.
    """
    if kind_of(folder or ".") == FOLDER:
        yield from (prefix[:-1] for prefix, _ in _walk(folder or "."))


def _walk(root: str) -> Iterator[tuple[str, list["os.DirEntry[str]"]]]:
    """Yield `root` and each folder below it: its path, and its entries that are no folders.

    Paths are relative to `root` and end in a slash. The path of `root` is empty.

    Folders wait on a stack, so that their depth has no limit here.
    """
    waiting, seen = [(root, "")], set[tuple[int, int]]()
    while waiting:
        folder, prefix = waiting.pop()
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise SourceError(folder, expected="a readable folder", found=system_reason(error)) from error
        folders, others = list["os.DirEntry[str]"](), list["os.DirEntry[str]"]()
        for entry in entries:
            (folders if _is(entry, FOLDER) else others).append(entry)
        yield prefix, others
        # The first folder by name is entered next.
        waiting += [(entry.path, f"{prefix}{entry.name}/") for entry in reversed(folders)]


def _is(entry: "os.DirEntry[str]", kind: str) -> bool:
    # The folder's listing gives the kind of most files. One system call for each of 100,000 files would be slow.
    try:
        return entry.is_dir() if kind == FOLDER else entry.is_file()
    except OSError:
        return False


def _is_lost(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a link that leads nowhere. It is listed, so that reading it reports the failure."""
    return entry.is_symlink() and not os.path.exists(entry.path)
