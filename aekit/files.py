"""Files and folders that others may have made: open regular files alone, without waiting; walk folders of any depth."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_DEEP = 100
"""Number of levels of folders that shutil.rmtree removes safely: it recurses, and keeps a file open for each level."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    A named pipe would make `open` wait for a writer, and a device may never end. Both are refused here.

    Raises OSError, with `path` as its filename, if the file can't be opened or is not a regular file.
    """
    _check_regular(path, os.stat(path))  # before the open: opening some devices has effects
    number = os.open(path, _FLAGS)  # O_NONBLOCK: the path may have become a pipe since
    try:
        _check_regular(path, os.fstat(number))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: Path, most: int) -> bytes:
    """Read a whole regular file.

    Raises OSError, with `path` as its filename, as open_regular does, or if the file has more than `most` bytes
    or grows while it is read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(size + 1)  # one more: it may have grown since
    if size > most or len(data) > size:
        found = f"{size:,} bytes, more than the {most:,} allowed" if size > most else "a file that is still growing"
        raise OSError(errno.EFBIG, found, str(path))
    return data


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder below `folder`, and `folder` itself, with the names of its folders and of everything else.

    A folder comes before those in it. Links are not followed and count as something else. Unlike os.walk of Python
    3.11 this does not recurse, and a folder that can't be read is an error: it may hold anything.

    Raises OSError, with the folder as its filename.
    """
    left = [os.fspath(folder)]
    while left:
        place = left.pop()
        folders, others = list[str](), list[str]()
        with os.scandir(place) as entries:
            for entry in entries:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        yield place, sorted(folders), sorted(others)
        left += [os.path.join(place, name) for name in sorted(folders, reverse=True)]


def remove_tree(folder: Path) -> None:
    """Remove a folder of any depth, and leave what can't be removed. Links are removed, not followed."""
    try:
        top = os.fspath(folder).count(os.sep)
        deep = [found for found in walk(folder) if found[0].count(os.sep) > top + _DEEP]
        for place, _, others in reversed(deep):
            for name in others:
                os.unlink(os.path.join(place, name))
            os.rmdir(place)
    except OSError:
        pass  # rmtree removes what it can
    shutil.rmtree(folder, ignore_errors=True)
