"""The records of a block's images – paths, sizes, failures – packed: each path as what differs from the one before.

A path keeps the bytes it shares with the path before it, at its start and at its end, as two counts; the rest goes
into one text. Counts and sizes are stored in planes, all first bytes, then all second ones, so that deflate finds them
alike.
"""

import os
import zlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aekit.codes.archive.container import inflate
from aekit.errors import CodesError
from aekit.images.records import Record

MAX_TEXT = 4096
"""Longest path, bytes, as systems have it; longer reasons of failures are cut."""
MAX_PATHS = 1 << 22
"""Most bytes of the paths and reasons of a block, whole: what unpacking one may take."""
_MOST_SHARED = 255
_RAW_DEFLATE = -zlib.MAX_WBITS

Numbers = npt.NDArray[np.int64]


def text_bytes(record: Record) -> int:
    """Bytes that a record's path and reason count for MAX_PATHS. Raises CodesError if the path is no file's name."""
    return len(_encode_path(record.path)) + len(_encode_reason(record.error))


def pack(records: Sequence[Record]) -> bytes:
    """The records of a block as bytes."""
    paths = [_encode_path(record.path) for record in records]
    shared = [_shared(before, path) for before, path in pairwise([b"", *paths])]
    middles = [path[start : len(path) - end] for path, (start, end) in zip(paths, shared, strict=True)]
    failed = [(row, _encode_reason(record.error)) for row, record in enumerate(records) if record.error]
    sizes = np.array([(record.width, record.height) for record in records if not record.error], np.int64).reshape(-1, 2)
    width, height = sizes.T
    columns = [
        _planes([start for start, _ in shared], 1),
        _planes([end for _, end in shared], 1),
        _planes([len(middle) for middle in middles], 2),
        b"".join(middles),
        _planes([len(failed)], 2),
        _planes([row for row, _ in failed], 2),
        _planes([len(reason) for _, reason in failed], 2),
        b"".join(reason for _, reason in failed),
        _planes(np.diff(width, prepend=0), 4),
        _planes(height - width, 4),
    ]
    stream = zlib.compressobj(9, zlib.DEFLATED, _RAW_DEFLATE, 9)
    # Each column ends a deflate block, so that it gets a Huffman code of its own.
    parts = [stream.compress(column) + (stream.flush(zlib.Z_BLOCK) if column else b"") for column in columns]
    return b"".join(parts) + stream.flush()


def unpack(data: bytes, inputs: int, rows: int, where: str) -> list[Record]:
    """The records that `pack` made `data` of, `inputs` of them, `rows` of them of images that were read.

    Raises CodesError for anything else.
    """
    try:
        return _unpack(_Columns(inflate(data, MAX_PATHS + 64 * (inputs + 1), _RAW_DEFLATE)), inputs, rows)
    except (ValueError, OverflowError) as error:
        raise CodesError(where, expected=f"the records of {inputs} images", found=str(error)) from error


def _unpack(columns: "_Columns", inputs: int, rows: int) -> list[Record]:
    starts, ends, lengths = (columns.numbers(inputs, width) for width in (1, 1, 2))
    if int(lengths.max(initial=0)) > MAX_TEXT:
        raise ValueError(f"a path over {MAX_TEXT} bytes")
    text, at, path, total = columns.text(int(lengths.sum())), 0, b"", 0
    paths = []
    for start, end, length in zip(starts.tolist(), ends.tolist(), lengths.tolist(), strict=True):
        if start + end > len(path):
            raise ValueError("a path that shares more than there is with the one before it")
        path = path[:start] + text[at : at + length] + path[len(path) - end :]
        at, total = at + length, total + len(path)
        if total > MAX_PATHS or len(path) > MAX_TEXT:
            raise ValueError(f"paths over {MAX_TEXT} bytes, or over {MAX_PATHS} in all")
        paths.append(os.fsdecode(path))
    (count,) = columns.numbers(1, 2).tolist()
    failed, reason_lengths = (columns.numbers(count, 2).tolist() for _ in range(2))
    reasons = {row: columns.text(length).decode("utf-8") for row, length in zip(failed, reason_lengths, strict=True)}
    if (
        count != inputs - rows
        or failed != sorted(reasons)
        or not all(reasons.values())
        or max(failed, default=0) >= inputs
    ):
        raise ValueError("failures that are not those of the block")
    width = np.cumsum(columns.numbers(rows, 4)) & 0xFFFFFFFF
    height = (width + columns.numbers(rows, 4)) & 0xFFFFFFFF
    columns.end()
    sizes = zip(width.tolist(), height.tolist(), strict=True)
    return [
        Record(path, error=reasons[row]) if row in reasons else Record(path, *next(sizes))
        for row, path in enumerate(paths)
    ]


class _Columns:
    """Inflated bytes, taken column by column; raises ValueError where they end too soon or not at all."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def text(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise ValueError("a column that is cut short")
        self._at += size
        return found

    def numbers(self, count: int, width: int) -> Numbers:
        """`count` numbers of `width` bytes, stored in planes, the low bytes first."""
        planes = np.frombuffer(self.text(count * width), np.uint8).reshape(width, count)
        shifts = np.arange(0, 8 * width, 8)[:, None]
        return (planes.astype(np.int64) << shifts).sum(axis=0)

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError("bytes after the last column")


def _planes(values: Sequence[int] | Numbers, width: int) -> bytes:
    """Numbers modulo 256**width as planes of bytes, the low ones first."""
    return b"".join(
        (np.asarray(values, np.int64) >> shift & 255).astype(np.uint8).tobytes() for shift in range(0, 8 * width, 8)
    )


def _shared(before: bytes, path: bytes) -> tuple[int, int]:
    """How many bytes two paths share at their starts, and then at their ends, each at most 255."""
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
