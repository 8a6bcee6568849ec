"""The lock of a journal: one job at a time works on an output.

The journal is locked by `filelock.lock_descriptor`, on Windows too. filelock's `FileLock` would not do: it releases its
lock in forked children, and leaves a lock file behind. This lock belongs to the journal's open file, which forked
workers share. So it lasts as long as the job or a worker is alive, and a second job on the output fails before it
changes anything. On Windows it lasts as long as the job.
"""

import os
import sys
import time
from pathlib import Path

from aekit.errors import OutputError
from aekit.outputs.log import parse_line
from aekit.outputs.places import NO_LINKS, check_working_name, is_running

_ORPHAN_SECONDS = 10.0
"""Seconds that the workers of a killed job may take to end. A worker notices when its piece of work is done."""


def open_locked(path: Path, out: Path) -> int:
    """Open and lock the journal `path` of the output `out`, and make it if nothing lies there.

    Raises OutputError if another job holds the lock, or something else lies at `path`; OSError if it can't be made.
    """
    until = time.monotonic() + _ORPHAN_SECONDS
    while True:
        check_working_name(path)
        file = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666)
        try:
            if lock(file):
                if os.path.samestat(os.fstat(file), os.lstat(path)):
                    return file
            elif (holder := _holder(file)) is None or time.monotonic() > until or is_running(holder):
                raise OutputError(
                    str(out),
                    expected="one job that writes it",
                    found=f"another at work{f' (process {holder})' if holder else ''}",
                    fix="wait until it has ended",
                )
            else:
                time.sleep(0.05)  # only workers of a killed job are left, and they end soon
        except FileNotFoundError:
            pass  # the other job ended, and removed its journal, between the opening and the lock
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def lock(file: int) -> bool:
    """Lock an open journal, and return whether it could be locked. Closing the file releases the lock."""
    # Imported here: commands that write nothing need not wait for it.
    import filelock

    return filelock.lock_descriptor(file, blocking=False)


def close(path: Path, file: int, *, remove: bool) -> None:
    """Close the open journal `path`, and remove it if `remove` is true."""
    if sys.platform == "win32":
        os.close(file)  # an open file can't be removed there; elsewhere it is removed under its lock
    try:
        if remove:
            path.unlink(missing_ok=True)
    finally:
        if sys.platform != "win32":
            os.close(file)


def _holder(file: int) -> int | None:
    """Return the process id of the job that locked this journal, or None if it can't be read."""
    holder = None
    try:
        os.lseek(file, 0, os.SEEK_SET)
        with open(file, "rb", closefd=False) as lines:
            for line in lines:
                holder = (parse_line(line) or {}).get("pid", holder)
    except PermissionError:  # on Windows a lock keeps others from reading too
        return None
    return holder
