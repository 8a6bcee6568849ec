"""Write outputs whole or not at all: what is being written has another name until it is finished.

A file is written as `NAME.part`, a folder as `NAME.part/`, and renamed at the end. A folder is replaced only if it
holds the marker file of its kind, so that --overwrite can never remove a folder that aekit did not make; nor can the
working folders `NAME.part` and `NAME.old`, where a killed job may have left its own.
"""

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from aekit.errors import OutputError, OutputExists

if sys.platform != "win32":
    import fcntl

_STAMP = ".aekit-part"
"""Lies in a folder while it is being written, and tells what a killed job left from what is another's."""


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputExists if a file lies at `path` and may not be replaced, or a folder does."""
    if path.is_dir():
        raise OutputError(str(path), expected="a file's path", found="a folder", fix="choose another --out")
    if path.exists() and not overwrite:
        raise OutputExists(path)


def check_apart(out: Path, source: Path) -> None:
    """Raise OutputError if `out` would replace what is read from `source`, or lie where the next job reads it back."""
    here, there = out.resolve(), source.resolve()
    into = there.is_dir() and out.suffix not in (".npy", ".aek") and there in here.parents
    if here == there or here in there.parents or into:
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


def finite(values: Any) -> Any:
    """The values with infinities and NaN, which JSON has no word for, as null."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """Yield the path to write; on success it takes the final name in one step, on any error it is removed."""
    part = path.with_name(path.name + ".part")
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            # Without this a power cut may keep the new name and lose what it names.
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[BinaryIO]:
    """Yield an empty file to write, which takes the name `path` at the end; on any error it is removed.

    It is locked, so that of two jobs that write `path` the second fails, with OutputError, before it changes anything.
    Windows has no such lock: there, run one job at a time.
    """
    part = path.with_name(path.name + ".part")
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(part, path)
        try:
            file.truncate(0)
            yield file
            if path.exists():
                shutil.copymode(path, part)
            if sys.platform == "win32":
                file.close()  # an open file can't be renamed there; elsewhere it stays locked until it has its name
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            file.close()


def _open_locked(part: Path, path: Path) -> BinaryIO:
    while True:
        file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666), "r+b")
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                return file
        except BlockingIOError:
            file.close()
            fix = "wait until it has ended"
            raise OutputError(str(path), expected="one job that writes it", found="another at work", fix=fix) from None
        except FileNotFoundError:
            pass
        file.close()  # the other job ended, and renamed or removed its file, between the opening and the lock


@contextlib.contextmanager
def staged_folder(folder: Path, marker: str, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to fill, empty but for its stamp; on success it takes the final name, on any error it is removed.

    Raises OutputExists as check_folder_free does, before anything is written.
    """
    check_folder_free(folder, marker, overwrite=overwrite)
    part, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    if (old / marker).is_file() and not folder.exists():  # a job was killed between its two renames, at the end
        os.replace(old, folder)
        check_folder_free(folder, marker, overwrite=overwrite)
    check_folder_free(part, _STAMP, overwrite=True)
    check_folder_free(old, marker, overwrite=True)
    with _write_errors(folder):
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            (part / _STAMP).touch()
            yield part
            try:
                if folder.exists():
                    os.replace(folder, old)
                os.replace(part, folder)
            except BaseException:
                if old.exists() and not folder.exists():
                    os.replace(old, folder)
                raise
            (folder / _STAMP).unlink()  # not before: a folder without it would never be cleared away
            shutil.rmtree(old, ignore_errors=True)
        finally:
            for _ in range(100):  # what was interrupted may still write a file or two
                shutil.rmtree(part, ignore_errors=True)
                if not part.exists():
                    break
                time.sleep(0.02)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno is None:
            raise
        raise OutputError(f"{path} could not be written", found=error.strerror or str(error)) from error
