"""Write outputs whole or not at all: what is being written has another name until it is finished.

A file is written as `NAME.part`, a folder as `NAME.part/`, and renamed at the end. A folder is replaced only if it
holds the marker file of its kind, so that --overwrite can never remove a folder that aekit did not make; nor can the
working folders `NAME.part` and `NAME.old`, where a killed job may have left its own.
"""

import contextlib
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aekit.errors import OutputError, OutputExists
from aekit.outputs.journal import Journal, part_of

_STAMP = ".aekit-part"
"""Lies in a folder while it is being written, and tells what a killed job left from what is another's."""


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputExists if a file lies at `path` and may not be replaced, or a folder does."""
    if path.is_dir():
        raise OutputError(str(path), expected="a file's path", found="a folder", fix="choose another --out")
    if path.exists() and not overwrite:
        raise OutputExists(path)


def check_apart(out: Path, source: Path, *, is_folder: bool = False) -> None:
    """Raise OutputError if `out` would replace `source`, which is read, or if the folder `out` lies inside `source`,
    where the next job would read it."""
    here, there = out.resolve(), source.resolve()
    inside = is_folder and there.is_dir() and there in here.parents
    if here == there or here in there.parents or inside:
        raise OutputError(str(out), expected=f"a place apart from {source}, which is read", fix="choose another --out")


def check_folder_free(folder: Path, marker: str, *, overwrite: bool) -> None:
    """Raise OutputExists unless `folder` is absent, empty, or made by aekit (it holds `marker`) and replaceable.

    Raises OutputError for `.`, `..` and `/`, which can't be renamed into place.
    """
    if folder.name in ("", ".."):
        raise OutputError(str(folder), expected="the name of a folder to make", found="none", fix="name it in --out")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / marker).is_file():
        raise OutputExists(folder, f"it holds no {marker}, so aekit did not make it and will not replace it")
    if not overwrite:
        raise OutputExists(folder)


@contextlib.contextmanager
def staged_file(path: Path, journal: Journal | None = None) -> Iterator[Path]:
    """Yield the path to write; on success it takes the final name in one step, on any error it is removed, unless the
    journal says that the job can be resumed."""
    part = part_of(path)
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            # Without this a power cut may keep the new name and lose what it names.
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException as error:
            if journal is None or not journal.keeps(error):
                part.unlink(missing_ok=True)
            raise


def open_part(part: Path, journal: Journal) -> BinaryIO:
    """The file to write: empty, or, where the journal has marks, as the earlier job left it."""
    return part.open("r+b" if journal.marks and part.exists() else "w+b")


@contextlib.contextmanager
def staged_folder(folder: Path, marker: str, *, overwrite: bool, journal: Journal | None = None) -> Iterator[Path]:
    """Yield a folder to fill, empty but for its stamp, or, where the journal has marks, as the earlier job left it; on
    success it takes the final name, on any error it is removed, unless the journal says that the job can be resumed.

    Raises OutputExists as check_folder_free does, before anything is written.
    """
    if folder.name in ("", ".."):
        check_folder_free(folder, marker, overwrite=overwrite)
    part, old = part_of(folder), folder.with_name(folder.name + ".old")
    if (old / marker).is_file() and not folder.exists():  # a job was killed between its two renames, at the end
        os.replace(old, folder)
    check_folder_free(folder, marker, overwrite=overwrite)
    if journal is None or not journal.marks:  # else it is a job's own, which may have lost its stamp already
        check_folder_free(part, _STAMP, overwrite=True)
    check_folder_free(old, marker, overwrite=True)
    with _write_errors(folder):
        _clear(old, marker)
        if journal is None or not journal.marks:
            _clear(part, _STAMP)
        try:
            part.mkdir(parents=True, exist_ok=True)
            (part / _STAMP).touch()
            yield part
            if journal:
                journal.finish(folder)
            try:
                if folder.exists():
                    os.replace(folder, old)
                os.replace(part, folder)
            except BaseException:
                if old.exists() and not folder.exists():
                    os.replace(old, folder)
                raise
            (folder / _STAMP).unlink()  # not before: a folder without it would never be cleared away
            _clear(old, marker)
        except BaseException as error:
            if journal is None or not journal.keeps(error):
                _clear(part, _STAMP)
            raise


def _clear(folder: Path, marker: str) -> None:
    """Remove a folder, its marker last: a job that is killed meanwhile leaves what the next one knows as ours."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != marker:
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(f"{path} could not be written", found=error.strerror or str(error)) from error


def crc_of_range(file: BinaryIO, start: int, stop: int, crc: int) -> int | None:
    """The CRC-32 that `crc` becomes with these bytes, or None if the file has fewer."""
    file.seek(start)
    data = file.read(stop - start)
    return zlib.crc32(data, crc) if len(data) == stop - start else None
