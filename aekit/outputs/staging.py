"""Write outputs whole or not at all: what is being written has another name until it is finished.

A job writes a file as `NAME.part` and a folder as `NAME.part/`. It takes its own name when it is whole and on the disk.
A file without a journal is written under a random name. Working names are opened without following links, and only
what aekit is known to have left there is ever removed: the journal names its files, a folder holds a stamp.

Replacing one file is one step: a reader finds the old file or the new one. Two renames can't be one step. So a reader
who comes between the renames of codes.npy and codes.jsonl finds a new index with old codes, and is told that they don't
fit; one who comes between the two renames of a folder finds none. That takes microseconds. After a kill in that instant
the next job on this output completes the pair, and brings back the old folder.
"""

import contextlib
import os
import re
import secrets
import stat
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from aekit.errors import OutputError, OutputExists
from aekit.files import remove_tree
from aekit.outputs.journal import Journal
from aekit.outputs.ours import foreign_part, is_our_file
from aekit.outputs.places import (
    NO_LINKS,
    STAMP,
    check_no_links,
    check_working_name,
    create,
    is_running,
    part_of,
    settled,
    status,
    sync,
    write_errors,
)

_OLD_STAMP = ".aekit-old"
"""Empty file that marks a folder as one that aekit is replacing."""
_FOREIGN = "aekit did not make it and will not replace it; remove it yourself, or choose another --out"
_WORKING = "aekit did not make it and will not replace it; move it away, or choose another --out"


def check_free(path: Path, *, overwrite: bool, known: Collection[int] = ()) -> None:
    """Raise OutputExists if a file lies at `path`, unless `overwrite` is given and aekit made that file.

    `known` are inode numbers of files that an earlier run of the job has found to be aekit's. Raises OutputError if a
    folder, a device or the like lies there, or the path can't be looked up.
    """
    place = settled(path)
    with write_errors(path):
        found = status(place)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode):
            raise OutputError(str(path), expected="a file's path", found="a folder", fix="choose another --out")
        if not overwrite:
            raise OutputExists(path)
        if found.st_ino not in known and not is_our_file(path):
            raise OutputExists(path, _FOREIGN)


def check_folder_free(folder: Path, marker: str, *, overwrite: bool) -> None:
    """Raise OutputExists unless `folder` is absent, empty, or made by aekit and to be replaced.

    A folder was made by aekit if its file `marker` says so and it holds no other files (see aekit.outputs.ours).
    Raises OutputError for `.`, `..` and `/`, which can't be renamed, and for a path that can't be looked up.
    """
    if folder.name in ("", ".."):
        raise OutputError(str(folder), expected="the name of a folder to make", found="none", fix="name it in --out")
    place = settled(folder)
    with write_errors(folder):
        found = status(place)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            raise OutputExists(folder, f"it is a file; {_FOREIGN}")
        if _is_empty(place):
            return
        if foreign := foreign_part(place, marker):
            raise OutputExists(folder, f"{foreign}, so {_FOREIGN}")
        if not overwrite:
            raise OutputExists(folder)


@contextlib.contextmanager
def staged_file(path: Path, journal: Journal | None = None, *, follow: bool = True) -> Iterator[Path]:
    """Yield the path to write. On success the file takes the name `path` in one step.

    On an error it is removed, unless the journal says that the job can be resumed. If `path` is a link to a file, that
    file is replaced and the link stays. A file that aekit names itself is no place for a link: without `follow` one is
    refused.

    Raises OutputError if the file can't be written, or something that is not aekit's lies at the working name.
    """
    if not follow:
        with write_errors(path):
            check_working_name(path)
    place = settled(path)
    with write_errors(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        if journal is None:
            part = _scratch(place)
        else:
            part = part_of(place)
            journal.claim(part)
        try:
            yield part
            if journal is None or not journal.finished.includes(part):
                sync(part)
            os.replace(part, place)
        except BaseException as error:
            if journal is None or not journal.keeps(error):
                part.unlink(missing_ok=True)
            raise


def open_part(part: Path, journal: Journal | None = None) -> BinaryIO:
    """Open a working file for reading and writing: empty, or, where the journal has marks, as the earlier job left it.
    A link is not followed."""
    return os.fdopen(os.open(part, os.O_RDWR | NO_LINKS), "r+b")


def _scratch(place: Path) -> Path:
    """Make an empty file with a random name beside `place`, and remove those that killed processes left there.

    The name holds a checksum of the output's name, the process and 64 random bits: no user's file has such a name.
    """
    stem = f".aekit-{zlib.crc32(os.fsencode(place.name)):08x}-"
    pattern = re.compile(re.escape(stem) + r"(\d+)-[0-9a-f]{16}\.part")
    for name in os.listdir(place.parent):
        if (found := pattern.fullmatch(name)) and not is_running(int(found[1])):
            (place.parent / name).unlink(missing_ok=True)
    part = place.with_name(f"{stem}{os.getpid()}-{secrets.token_hex(8)}.part")
    create(part)
    return part


@contextlib.contextmanager
def staged_folder(folder: Path, marker: str, *, overwrite: bool, journal: Journal | None = None) -> Iterator[Path]:
    """Yield a folder to fill: empty but for its stamp, or, where the journal has marks, as the earlier job left it.

    On success the folder takes its name. On an error it is removed, unless the journal says that the job can be
    resumed. If `folder` is a link to a folder, that folder is replaced and the link stays.

    Raises OutputExists as check_folder_free does, before anything is written, and if `NAME.part` or `NAME.old` is
    needed and not aekit's; OutputError if a link lies in a folder that a resumed job would write into.
    """
    if folder.name in ("", ".."):
        check_folder_free(folder, marker, overwrite=overwrite)
    place = settled(folder)
    part, old = part_of(place), place.with_name(place.name + ".old")
    with write_errors(folder):
        resumed = journal is not None and bool(journal.marks)
        _repair(place, old)
        check_folder_free(folder, marker, overwrite=overwrite)
        # A part that was finished, and then taken back, has no stamp any more; the journal knows it.
        ours = journal is not None and journal.finished.includes(part)
        if check_working_name(part, folder=True) and not (ours or _is_stamped(part, STAMP) or _is_empty(part)):
            raise OutputExists(part, _WORKING)
        known = _is_stamped(old, _OLD_STAMP) or _is_stamped(old, STAMP)
        if _is_in_the_way(place) and _is_in_the_way(old) and not known:
            raise OutputExists(old, _WORKING)
        _discard(old)
        if not resumed:
            _clear(part, STAMP)
        if status(part) is None:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir()
        else:
            check_no_links(part)
        try:
            if not _is_stamped(part, STAMP):
                create(part / STAMP)
            yield part
            if journal:
                journal.finish(folder)
            if _is_in_the_way(place):
                _stamp(place, _OLD_STAMP)
                os.replace(place, old)
            elif status(place):
                place.rmdir()
            try:
                os.replace(part, place)
            except BaseException:
                _repair(place, old)
                raise
            (place / STAMP).unlink()  # not before: a folder without it would never be cleared away
            _discard(old)
        except BaseException as error:
            if journal is None or not journal.keeps(error):
                _clear(part, STAMP)
            raise


def _repair(place: Path, old: Path) -> None:
    """Bring the old folder back if a job was killed between its two renames, and take away stamps."""
    if _is_stamped(old, _OLD_STAMP) and not _is_in_the_way(place):
        os.replace(old, place)
    if _is_stamped(place, _OLD_STAMP):
        (place / _OLD_STAMP).unlink(missing_ok=True)


def _stamp(folder: Path, name: str) -> None:
    if not _is_stamped(folder, name):
        create(folder / name)


def _is_stamped(folder: Path, name: str) -> bool:
    """Whether `folder` is a real folder that holds this stamp, an empty regular file."""
    found, stamp = status(folder), None
    if found is not None and stat.S_ISDIR(found.st_mode):
        stamp = status(folder / name)
    return stamp is not None and stat.S_ISREG(stamp.st_mode) and stamp.st_size == 0


def _is_in_the_way(path: Path) -> bool:
    """Whether anything but an empty folder lies at `path`."""
    found = status(path)
    return found is not None and not (stat.S_ISDIR(found.st_mode) and _is_empty(path))


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _discard(old: Path) -> None:
    """Remove a folder that was replaced. Its stamp changes first, so that it is never brought back half removed."""
    if _is_stamped(old, _OLD_STAMP):
        os.replace(old / _OLD_STAMP, old / STAMP)
    if _is_stamped(old, STAMP):
        _clear(old, STAMP)


def _clear(folder: Path, stamp: str) -> None:
    """Remove a working folder, its stamp last: a job that is killed meanwhile leaves what the next one knows as ours.

    Links are removed, not followed; nothing is done where no real folder lies.
    """
    found = status(folder)
    if found is None or not stat.S_ISDIR(found.st_mode):
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        elif path.name != stamp:
            path.unlink(missing_ok=True)
    remove_tree(folder)


def crc_of_range(file: BinaryIO, start: int, stop: int, crc: int) -> int | None:
    """Return the CRC-32 that `crc` becomes with these bytes of the file, or None if the file has fewer."""
    if not 0 <= start <= stop <= file.seek(0, os.SEEK_END):
        return None
    file.seek(start)
    data = file.read(stop - start)
    return zlib.crc32(data, crc) if len(data) == stop - start else None
