"""Places on the disk: follow an output's link, open working files without following any, turn OSError into one line."""

import contextlib
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from aekit.errors import OutputError
from aekit.files import walk

_BINARY = getattr(os, "O_BINARY", 0)
NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _BINARY
"""Flags of `os.open` for a working file: a link at its name is an error, and a FIFO there does not block."""
STAMP = ".aekit-part"
"""Empty file that marks a folder as one that aekit is writing."""
_KINDS = {stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
_MOVE = "move it away, or choose another --out"


def part_of(path: Path) -> Path:
    """Return the name under which the output `path` is written until it is whole."""
    return path.with_name(path.name + ".part")


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the system in the block into an OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(f"{path} could not be written", found=error.strerror or str(error)) from error


def status(path: Path) -> os.stat_result | None:
    """Return the status of `path` itself, not of what a link there points to; None if nothing lies there."""
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def settled(path: Path) -> Path:
    """Return where the output `path` is really written: `path`, or the file or folder that a link there points to.

    Raises OutputError for a link to nothing, a device, a FIFO, a socket, and a path that the system can't look up.
    """
    with write_errors(path):
        found = status(path)
        if found is None:
            return path
        if stat.S_ISLNK(found.st_mode):
            try:
                found = os.stat(path)
            except FileNotFoundError:
                target = Path(os.path.realpath(path))
                if status(part_of(target)) is None:  # else a job that is resumed took its output back from there
                    raise OutputError(
                        str(path), expected="a path that is free", found="a link to nothing", fix="remove the link"
                    ) from None
                return target
            path = Path(os.path.realpath(path))
        if kind := _KINDS.get(stat.S_IFMT(found.st_mode)):
            raise OutputError(str(path), expected="a file's or folder's path", found=kind, fix="choose another --out")
        return path


def check_working_name(path: Path, *, folder: bool = False) -> os.stat_result | None:
    """Return the status of what lies at a working name, None if nothing does.

    Raises OutputError unless that is a regular file, or, with `folder`, a folder. Links are not followed.
    """
    found = status(path)
    wanted = stat.S_ISDIR if folder else stat.S_ISREG
    if found is not None and not wanted(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "a link" if stat.S_ISLNK(found.st_mode) else "")
        raise OutputError(
            str(path),
            expected=f"nothing, or the {'folder' if folder else 'file'} that a killed job left",
            found=kind or ("a file" if folder else "a folder"),
            fix=_MOVE,
        )
    return found


def create(path: Path) -> None:
    """Make an empty file. Raises FileExistsError if anything lies there, a link to nothing too."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o666))


def is_running(process: int) -> bool:
    """Whether a process with this id is alive. Always true on Windows, which has no harmless test."""
    if os.name == "nt":
        return True  # os.kill would end it
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def sync(path: Path) -> None:
    """Bring a file to the disk: without this a power cut may keep its new name and lose what it names."""
    file = os.open(path, os.O_RDWR | NO_LINKS)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def check_no_links(folder: Path) -> None:
    """Raise OutputError if anything below a working folder is neither a folder nor a regular file with one name.

    aekit makes no links there, hard links neither. So somebody else put a link in, or made a copy of hard links, and
    writing to it would change a file outside the folder.
    """
    for place, _, others in walk(folder):
        for name in others:
            found = os.lstat(path := os.path.join(place, name))
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                hard = "a file that has a second name (a hard link)"
                kind = "a link" if stat.S_ISLNK(found.st_mode) else hard if found.st_nlink > 1 else "no regular file"
                fix = "remove it, or start anew without --resume"
                raise OutputError(path, expected="files and folders that aekit wrote", found=kind, fix=fix)


def check_apart(outs: Path | Sequence[Path], *inputs: Path, searched: Collection[Path] = ()) -> None:
    """Raise OutputError if an output would replace something that the job reads.

    `inputs` are what the job reads: files, or folders in which it may read anything. `searched` are inputs that the job
    searches for images. An output must not lie inside one of them: the next job would read it as images.
    """
    for out in [outs] if isinstance(outs, Path) else outs:
        with write_errors(out):
            here = Path(os.path.realpath(out))
            for read in inputs:
                there = Path(os.path.realpath(read))
                into = read in searched and there in here.parents
                if here == there or here in there.parents or (into and there.is_dir()) or _same(here, there):
                    raise OutputError(
                        str(out), expected=f"a place apart from {read}, which is read", fix="choose another --out"
                    )


def _same(one: Path, other: Path) -> bool:
    """Whether two names mean one file, as A.png and a.png do on some file systems."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
