"""Recognise by content what aekit wrote, so that --overwrite never removes anything else.

A file or folder is ours only if its content says so:

    NAME.aek      begins with the magic bytes of an archive
    NAME.jsonl    begins with the header of an index of codes
    NAME.npy      the index beside it describes this very array; or images, whose header has a size that only we write
    NAME.png      names aekit in its first text chunk
    NAME.aem      begins, behind its first byte, with the mark of the model that the folder's marker names
    a folder      its marker (model.json, report.json, aekit.json) has our keys, and it holds nothing but our files

An empty file may always be replaced: nothing is lost with it.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aekit.files import walk

ARCHIVE_MAGIC = b"\x89AEK\r\n\x1a\n"
PNG_MARK = ("Software", "aekit")
"""Text chunk of a PNG file, keyword and text, by which a picture of aekit is recognised."""
IMAGES_HEADER_BYTES = 448
"""Size of the header of an .npy file of images, in bytes. numpy writes 128 and accepts any multiple of 64, so this size
marks the file as ours without changing what readers see."""

_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(rb"\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(([\d, ]+)\), \} *\n")
_DTYPES = {"float32": b"<f4", "float16": b"<f2", "uint8": b"|u1"}
_MAX_JSON = 16 * 2**20
_CLUTTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", ".aekit-part", ".aekit-old"})
"""Names of files that file managers, or jobs that were killed, leave in a folder."""


def images_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file of uint8 images [n, H, W, C] that `is_our_file` recognises."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    size = IMAGES_HEADER_BYTES - len(_NPY_MAGIC) - 2
    return _NPY_MAGIC + size.to_bytes(2, "little") + text.ljust(size - 1).encode("ascii") + b"\n"


def is_our_file(path: Path) -> bool:
    """Return whether the regular file `path`, or the one that a link there points to, is empty or written by aekit.

    Raises OSError if it can't be read.
    """
    test = FILES.get(path.suffix)
    return os.stat(path).st_size == 0 or (test is not None and test(path))


def foreign_part(folder: Path, marker: str) -> str | None:
    """Return what shows that aekit did not make all of `folder`, in words, or None if it is ours.

    `marker` is the file that folders of this kind hold. Raises OSError if the folder can't be read.
    """
    facts = _json(folder / marker)
    if facts is None or not FOLDERS[marker][0](facts):
        return f"it holds no {marker} of aekit's"
    return FOLDERS[marker][1](folder, facts)


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a regular file, or None if there is none."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_JSON:
            return None
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _index_header(path: Path) -> dict[str, Any] | None:
    try:
        line, _, _ = _head(path, 1024).partition(b"\n")
        values = json.loads(line)
    except (OSError, ValueError, RecursionError):
        return None
    keys = {"format_version", "model_id", "variant", "dtype", "code_dim", "count", "crc32"}
    return values if isinstance(values, dict) and keys <= values.keys() else None


def _is_array(path: Path) -> bool:
    head = _head(path, IMAGES_HEADER_BYTES)
    size = 10 + int.from_bytes(head[8:10], "little")
    found = _NPY_HEADER.fullmatch(head[10:size]) if head.startswith(_NPY_MAGIC) else None
    if found is None:
        return False
    shape = [int(side) for side in found[2].split(b",") if side.strip()]
    if size == IMAGES_HEADER_BYTES and len(shape) == 4 and found[1] == b"|u1":
        return True
    index = _index_header(path.with_suffix(".jsonl"))
    if index is None or not isinstance(index["dtype"], str):
        return False
    code_shape = index.get("code_shape", [index["code_dim"]])  # grid codes have one, [h, w, code_dim]
    return [[index["count"]], code_shape] == [shape[:1], shape[1:]] and _DTYPES.get(index["dtype"]) == found[1]


def _is_picture(path: Path) -> bool:
    keyword, text = (part.encode("ascii") for part in PNG_MARK)
    head = _head(path, 4096)
    return head.startswith(b"\x89PNG\r\n\x1a\n") and b"tEXt" + keyword + b"\0" + text in head


FILES: dict[str, Callable[[Path], bool]] = {
    ".npy": _is_array,
    ".jsonl": lambda path: _index_header(path) is not None,
    ".aek": lambda path: _head(path, len(ARCHIVE_MAGIC)) == ARCHIVE_MAGIC,
    ".png": _is_picture,
}
"""For each suffix of a file, the test that recognises ours."""


def _files(folder: Path) -> Iterator[str]:
    """Yield the path below `folder` of everything in it that is no folder, sorted within each folder."""
    for place, _, others in walk(folder):
        for name in others:
            if name not in _CLUTTER:
                yield os.path.relpath(os.path.join(place, name), folder)


def _only(*names: str) -> Callable[[Path, dict[str, Any]], str | None]:
    def test(folder: Path, facts: dict[str, Any]) -> str | None:
        entries = facts.get("files")
        known = {*names, *(entries if isinstance(entries, dict) else ())}
        return next((f"aekit did not write {path} in it" for path in _files(folder) if path not in known), None)

    return test


def _written(folder: Path, facts: dict[str, Any]) -> str | None:
    """Return why the folder is not ours, or None if it holds PNG files or messages, at most as many as aekit wrote.

    If there are more, another program wrote some of them. The newest file is probably one of those.
    """
    mark = facts.get("messages")
    suffix, what = (".png", "PNG files") if mark is None else (".aem", "messages")
    count, newest, when = 0, "", -1
    for path in _files(folder):
        found = os.lstat(folder / path)
        if path == "aekit.json":
            continue
        is_ours = path.endswith(suffix) and stat.S_ISREG(found.st_mode)
        if not is_ours or (mark is not None and _head(folder / path, 3)[1:].hex() != mark):
            return f"aekit did not write {path} in it"
        count += 1
        if found.st_mtime_ns > when:
            newest, when = path, found.st_mtime_ns
    if count > facts["images"]:
        return f"it holds {count:,} {what} and aekit wrote {facts['images']:,}; the newest is {newest}"
    return None


def _has(**kinds: type) -> Callable[[dict[str, Any]], bool]:
    return lambda facts: all(isinstance(facts.get(name), kind) for name, kind in kinds.items())


FOLDERS: dict[str, tuple[Callable[[dict[str, Any]], bool], Callable[[Path, dict[str, Any]], str | None]]] = {
    "model.json": (_has(format_version=int, model_id=str, variant=str, spec=dict, files=dict), _only("model.json")),
    "report.json": (
        _has(images=int, test_images=str, geometry=str, code_dim=int, model_id=str),
        _only("report.json", "reconstructions.png"),
    ),
    "aekit.json": (
        lambda facts: _has(made_by=str, images=int)(facts) and facts["made_by"].startswith("aekit "),
        _written,
    ),
}
"""For each marker of a folder: the test of what the marker says, and the test that names what is not ours."""
