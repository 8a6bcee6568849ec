"""Open files that others may have made: regular files only, without waiting, and never more bytes than expected."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


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
