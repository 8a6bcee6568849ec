"""The records of a block's inputs, packed: their paths and sizes, and why an input could not be read.

A path shares bytes with the path before it, at its start and at its end. Two counts say how many. The other bytes of
all paths go into one text.
"""

import os
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from aekit.codes.archive.columns import Columns, Numbers, deflated, planes
from aekit.errors import CodesError
from aekit.images.records import Record

MAX_TEXT = 4096
"""Longest path in bytes, as operating systems allow. Longer reasons of failures are cut to this."""
MAX_PATHS = 1 << 22
"""Largest number of bytes of all paths and reasons of a block. It bounds the memory of a reader."""
_MOST_SHARED = 255
"""Largest number of bytes that a path shares with the start or the end of the path before it."""


def text_bytes(record: Record) -> int:
    """Return how many bytes of MAX_PATHS a record takes. Raises CodesError if its path can't be a file's name."""
    return len(_encode_path(record.path)) + len(_encode_reason(record.error))


def most_bytes(inputs: int) -> int:
    """Return how many bytes the columns of a block of so many inputs can have."""
    return MAX_PATHS + 64 * (inputs + 1)


def pack(records: Sequence[Record]) -> bytes:
    """Return the records of a block of vector codes as bytes."""
    width, height = own_sizes(records).T
    return deflated([*path_columns(records), *size_columns(width, height, 4)])


def unpack(data: bytes, inputs: int, rows: int, where: str) -> list[Record]:
    """Return the records that `pack` packed: `inputs` of them, `rows` of them read.

    Raises CodesError for other bytes.
    """
    try:
        columns = Columns(data, most_bytes(inputs))
        paths, reasons = take_paths(columns, inputs, rows)
        width, height = take_sizes(columns, rows, 4)
        columns.end()
    except (ValueError, OverflowError) as error:
        raise CodesError(where, expected=f"the records of {inputs} images", found=str(error)) from error
    return joined(paths, reasons, width, height)


def own_sizes(records: Sequence[Record]) -> Numbers:
    """Return (width, height) of the inputs that could be read, [rows, 2]."""
    sizes = [(record.width, record.height) for record in records if not record.error]
    return np.array(sizes, np.int64).reshape(-1, 2)


def size_columns(width: Numbers, height: Numbers, count: int) -> list[bytes]:
    """Return the columns of sizes, with `count` bytes for each number.

    The first column has differences of a width and the width before it, the second of a height and its width.
    """
    return [planes(np.diff(width, prepend=0), count), planes(height - width, count)]


def take_sizes(columns: Columns, rows: int, count: int) -> tuple[Numbers, Numbers]:
    """Return the widths and heights of `size_columns`. Raises ValueError if the columns end before."""
    most = (1 << 8 * count) - 1
    width = np.cumsum(columns.numbers(rows, count)) & most
    return width, (width + columns.numbers(rows, count)) & most


def path_columns(records: Sequence[Record]) -> list[bytes]:
    """Return the columns of the records' paths and failures."""
    paths = [_encode_path(record.path) for record in records]
    shared = [_shared(before, path) for before, path in pairwise([b"", *paths])]
    middles = [path[start : len(path) - end] for path, (start, end) in zip(paths, shared, strict=True)]
    failed = [(row, _encode_reason(record.error)) for row, record in enumerate(records) if record.error]
    return [
        planes([start for start, _ in shared], 1),
        planes([end for _, end in shared], 1),
        planes([len(middle) for middle in middles], 2),
        b"".join(middles),
        planes([len(failed)], 2),
        planes([row for row, _ in failed], 2),
        planes([len(reason) for _, reason in failed], 2),
        b"".join(reason for _, reason in failed),
    ]


def take_paths(columns: Columns, inputs: int, rows: int) -> tuple[list[str], dict[int, str]]:
    """Return the path of every input, and for each failed one its number in the block and the reason.

    Raises ValueError if the columns hold something else.
    """
    starts, ends, lengths = (columns.numbers(inputs, width) for width in (1, 1, 2))
    if int(lengths.max(initial=0)) > MAX_TEXT:
        raise ValueError(f"a path over {MAX_TEXT} bytes")
    text, at, path, total = columns.text(int(lengths.sum())), 0, b"", 0
    paths = []
    for start, end, length in zip(starts.tolist(), ends.tolist(), lengths.tolist(), strict=True):
        if start + end > len(path):
            raise ValueError("a path that shares more bytes than the path before it has")
        path = path[:start] + text[at : at + length] + path[len(path) - end :]
        at, total = at + length, total + len(path)
        if total > MAX_PATHS or len(path) > MAX_TEXT:
            raise ValueError(f"paths over {MAX_TEXT} bytes, or over {MAX_PATHS} in all")
        paths.append(os.fsdecode(path))
    (count,) = columns.numbers(1, 2).tolist()
    failed, sizes = (columns.numbers(count, 2).tolist() for _ in range(2))
    reasons = {number: columns.text(size).decode("utf-8") for number, size in zip(failed, sizes, strict=True)}
    is_ordered = failed == sorted(reasons) and max(failed, default=0) < inputs
    if count != inputs - rows or not is_ordered or not all(reasons.values()):
        raise ValueError("other failures than the block has")
    return paths, reasons


def joined(paths: Sequence[str], reasons: dict[int, str], width: Numbers, height: Numbers) -> list[Record]:
    """Return a record for each path; `width` and `height` are those of the inputs that have no reason."""
    sizes = zip(width.tolist(), height.tolist(), strict=True)
    return [
        Record(path, error=reasons[number]) if number in reasons else Record(path, *next(sizes))
        for number, path in enumerate(paths)
    ]


def _shared(before: bytes, path: bytes) -> tuple[int, int]:
    """Return how many bytes two paths share at their starts, and then at their ends, each at most 255."""
    room = min(len(before), len(path))
    start = 0
    while start < min(room, _MOST_SHARED) and before[start] == path[start]:
        start += 1
    end = 0
    while end < min(room - start, _MOST_SHARED) and before[-1 - end] == path[-1 - end]:
        end += 1
    return start, end


def _encode_path(path: str) -> bytes:
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        data = b""
    if not 0 < len(data) <= MAX_TEXT:
        raise CodesError(repr(path)[:120], expected=f"a file's path of 1 to {MAX_TEXT} bytes", found="another")
    return data


def _encode_reason(reason: str) -> bytes:
    return reason.encode("utf-8", "backslashreplace")[:MAX_TEXT].decode("utf-8", "ignore").encode()
