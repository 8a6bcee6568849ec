"""Code files: codes.npy, a plain array that numpy maps, and codes.jsonl, its index.

codes.npy is [n, code_dim] of float32, float16 or uint8. codes.jsonl holds a header line, then, where the images have
names, a line an input in sorted path order: `row`, `path`, `width`, `height`; or `path` and the `error` that kept it
out. The header carries what ties the codes to their model and a CRC-32 of the rows.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from aekit.errors import CodesError, ModelMismatch, SourceError, reason
from aekit.images.arrays import read_rows
from aekit.images.paths import FILE, NOTHING, kind_of
from aekit.images.records import Record, check_relative
from aekit.model.bundle import Bundle
from aekit.model.codec import DTYPES, Codes
from aekit.outputs.journal import Mark
from aekit.outputs.staging import crc_of_range

FORMAT_VERSION = 1
_HEADER_BYTES = 1024
"""The index header is padded to this with spaces, so that the count can be filled in when the job ends."""
_LINE_BYTES = 64 * 1024
"""More than any path takes; a longer line is read in parts, of which none is a line of an index."""


_CHECKED_BYTES = 2**20
"""Bytes of rows read at a time where their checksum alone is wanted."""


def index_path(codes: Path) -> Path:
    """Where the index of codes.npy lies: codes.jsonl."""
    return codes.with_suffix(".jsonl")


class CodeWriter:
    """Writes codes.npy and its index row by row, in bounded memory; headers are completed by `finish`. Files that hold
    something already are those of a job that is resumed."""

    def __init__(self, array: BinaryIO, index: BinaryIO, bundle: Bundle, dtype: str, *, named: bool) -> None:
        self._array, self._index = array, index
        self._bundle, self._dtype, self._named = bundle, np.dtype(dtype), named
        self._crc = self._index_crc = 0
        self.dtype = dtype
        """What codes are kept as."""
        self.present: frozenset[str] = frozenset()
        """Paths that the file held before: none, it is always made anew."""
        self.held = 0
        """Rows that it held before: none."""
        self.count = 0
        """Rows written."""
        self._begin = self._write_headers()

    def add(self, codes: Codes, records: Sequence[Record]) -> None:
        """Append codes [k, code_dim] and the records of the inputs they came from, failed ones included."""
        rows = np.ascontiguousarray(codes, self._dtype)
        data = rows.data.cast("B") if rows.size else b""
        self._crc = zlib.crc32(data, self._crc)
        self._array.write(data)
        row, lines = self.count, []
        for record in records:
            if record.error:
                lines.append(json.dumps({"path": record.path, "error": record.error}))
            else:  # the same by hand, in half the time: there may be millions
                path = json.dumps(record.path)
                lines.append(f'{{"row": {row}, "path": {path}, "width": {record.width}, "height": {record.height}}}')
                row += 1
        text = "".join(f"{line}\n" for line in lines).encode("ascii")
        self._index_crc = zlib.crc32(text, self._index_crc)
        self._index.write(text)
        self.count += len(rows)

    def mark(self, *, sync: bool) -> Mark:
        """Hand what was added to the system, with `sync` to the disk, and sum it up for `restore`."""
        for file in (self._array, self._index):
            file.flush()
            if sync:
                os.fsync(file.fileno())
        return {"rows": self.count, "crc": self._crc, "index": self._index.tell(), "index_crc": self._index_crc}

    def restore(self, marks: Sequence[Mark]) -> int:
        """Take over what the files hold as far as the marks' sums agree, and cut off the rest; returns how many do."""
        kept, size = 0, self._dtype.itemsize * self._bundle.spec.code_dim
        ends = self._begin, _HEADER_BYTES
        for mark in marks:
            found = [
                crc_of_range(self._array, ends[0], to_rows := self._begin + mark["rows"] * size, self._crc),
                crc_of_range(self._index, ends[1], mark["index"], self._index_crc),
            ]
            if found != [mark["crc"], mark["index_crc"]]:
                break
            kept, ends = kept + 1, (to_rows, mark["index"])
            self.count, self._crc, self._index_crc = mark["rows"], mark["crc"], mark["index_crc"]
        for file, end in zip((self._array, self._index), ends, strict=True):
            file.truncate(end)
            file.seek(end)
        return kept

    def finish(self) -> None:
        """Fill in the headers' counts and bring both files to the disk."""
        self._write_headers()
        for file in (self._array, self._index):
            file.flush()
            os.fsync(file.fileno())

    def _write_headers(self) -> int:
        """Returns where the rows begin."""
        self._array.seek(0)
        shape = (self.count, self._bundle.spec.code_dim)
        # numpy pads this header for its first dimension to grow, so rewriting it moves nothing.
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._array, header)
        begin = self._array.tell()
        self._array.seek(0, os.SEEK_END)
        facts = {
            "format_version": FORMAT_VERSION,
            "model_id": self._bundle.model_id,
            "variant": self._bundle.variant,
            "dtype": self._dtype.name,
            "code_dim": self._bundle.spec.code_dim,
            "count": self.count,
            "named": self._named,
            "crc32": self._crc,
            "index_crc32": self._index_crc,
        }
        self._index.seek(0)
        self._index.write(json.dumps(facts).ljust(_HEADER_BYTES - 1).encode("ascii") + b"\n")
        self._index.seek(0, os.SEEK_END)
        return begin


@dataclass(frozen=True)
class CodeFile:
    """A code file opened for reading: its rows mapped, its index checked."""

    path: Path
    codes: Codes
    """[n, code_dim], mapped."""
    header: dict[str, Any] | None
    """The index header, or None for an array whose index was left behind."""

    @classmethod
    def open(cls, path: str | Path, *, index: bool = True) -> Self:
        """Open codes.npy and, unless `index` is False, codes.jsonl beside it.

        Raises CodesError if either is missing, damaged, of a newer format, or does not fit the other.
        """
        path = Path(path)
        kind = kind_of(path)
        if kind == NOTHING:
            raise CodesError(str(path), expected="a code file", found=NOTHING)
        if kind != FILE or path.suffix != ".npy":
            found = "a file of another kind" if kind == FILE else kind
            raise CodesError(str(path)[:300], expected="a code file, NAME.npy or NAME.aek", found=found)
        try:
            codes = np.load(path, mmap_mode="r", allow_pickle=False)
            if isinstance(codes, np.ndarray) and not codes.flags.c_contiguous:
                codes = np.load(path, allow_pickle=False)
        except Exception as error:  # numpy, zipfile and tokenize raise every kind of error on damaged bytes
            raise CodesError(str(path), expected="an array saved as .npy", found=reason(error)) from error
        if not isinstance(codes, np.ndarray) or codes.ndim != 2 or codes.dtype.name not in DTYPES:
            found = f"{codes.dtype} {list(codes.shape)}" if isinstance(codes, np.ndarray) else type(codes).__name__
            raise CodesError(str(path), expected=f"codes [n, D] of {', '.join(DTYPES)}", found=found)
        return cls(path, codes, _read_header(index_path(path), codes) if index else None)

    def check_model(self, bundle: Bundle) -> None:
        """Raise ModelMismatch or CodesError unless `bundle` can decode these codes."""
        if self.header is not None and self.header["model_id"] != bundle.model_id:
            raise ModelMismatch(str(self.path), self.header["model_id"], bundle.model_id)
        if self.codes.shape[1] != bundle.spec.code_dim:
            raise CodesError(
                str(self.path), expected=f"{bundle.spec.code_dim} numbers a code", found=str(self.codes.shape[1])
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def named(self) -> bool:
        """Whether the images have paths."""
        return self.header is not None and self.header["named"]

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Codes]:
        """Yield the codes in order, [at most `size`, code_dim] at a time; with `rows`, ascending, those rows alone.

        Raises CodesError if the codes are not those that the index was written for. That is known after the last
        batch of all of them, and before the first one where `rows` are given.
        """
        if rows is None:
            yield from self._verified(size)
            return
        for _ in self._verified(max(_CHECKED_BYTES // max(self.codes[:1].nbytes, 1), 1)):
            pass
        for start in range(0, len(rows), size):
            wanted = np.asarray(rows[start : start + size], np.int64)
            runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
            yield np.concatenate([self._read(int(run[0]), int(run[-1]) + 1) for run in runs])

    def _verified(self, size: int) -> Iterator[Codes]:
        """Yield all codes. Raises CodesError at the end if their checksum is not that of the index."""
        crc = 0
        for start in range(0, len(self.codes), size):
            batch = self._read(start, start + size)
            crc = zlib.crc32(batch.data.cast("B"), crc)
            yield batch
        if self.header is not None and self.header["crc32"] != crc:
            raise CodesError(f"{self.path} was altered", expected=f"CRC-32 {self.header['crc32']}", found=f"{crc}")

    def _read(self, start: int, stop: int) -> Codes:
        try:
            return np.ascontiguousarray(read_rows(self.codes, start, stop, str(self.path)))
        except SourceError as error:
            raise CodesError(str(self.path), expected=error.expected, found=error.found) from error

    def records(self) -> Iterator[Record]:
        """The records of the images that have a row, in row order; nothing for codes of an array.

        Raises CodesError if the index is damaged or holds a path that would leave the output folder.
        """
        if not self.named:
            return
        file, wanted = index_path(self.path), self.header.get("index_crc32") if self.header else None
        row = crc = 0
        with file.open("rb") as lines:
            next(lines)
            for number, line in enumerate(iter(lambda: lines.readline(_LINE_BYTES), b""), 2):
                crc = zlib.crc32(line, crc)
                record = _parse_record(line, f"{file}:{number}", row)
                if not record.error:
                    row += 1
                    yield record
        if row != len(self.codes):
            raise CodesError(str(file), expected=f"{len(self.codes)} rows", found=f"{row}")
        if wanted not in (None, crc):  # written since resumable jobs
            raise CodesError(f"{file} was altered", expected=f"CRC-32 {wanted}", found=f"{crc}")


def _read_header(file: Path, codes: Codes) -> dict[str, Any]:
    if (lies := kind_of(file)) not in (FILE, NOTHING):  # opening a pipe would wait for ever
        raise CodesError(str(file), expected="the index of these codes", found=lies)
    try:
        with file.open("rb") as lines:
            header = json.loads(lines.readline(_HEADER_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        raise CodesError(
            str(file),
            expected="the index of these codes",
            found="nothing there",
            fix="keep the two files together, or give --no-index to decode rows whose model can't be checked",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CodesError(str(file), expected="an index header", found=reason(error)) from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if not isinstance(version, int) or version < 1:
        raise CodesError(str(file), expected="an index with format_version", found=repr(version)[:80])
    if version > FORMAT_VERSION:
        raise CodesError(
            str(file), expected=f"format {FORMAT_VERSION} or older", found=f"{version}", fix="update aekit"
        )
    kinds = {"model_id": str, "variant": str, "dtype": str, "code_dim": int, "count": int, "named": bool, "crc32": int}
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind):
            raise CodesError(f"{file}: {name}", expected=kind.__name__, found=repr(header.get(name))[:80])
    said = header["dtype"], header["count"], header["code_dim"]
    real = codes.dtype.name, *codes.shape
    if said != real:
        raise CodesError(str(file), expected=f"the index of {real}", found=f"that of {said}")
    return header


def _parse_record(line: bytes, where: str, row: int) -> Record:
    try:
        entry = json.loads(line)
        record = Record(
            entry["path"], int(entry.get("width", 0)), int(entry.get("height", 0)), str(entry.get("error", ""))
        )
        if not isinstance(record.path, str) or (not record.error and entry["row"] != row):
            raise ValueError("row or path")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CodesError(where, expected=f"a line of the index with row {row}", found=repr(line[:80])) from error
    check_relative(record.path, where)
    return record
