"""Code files: codes.npy, a plain array that numpy maps, and codes.jsonl, its index.

codes.npy is [n, code_dim] of float32, float16 or uint8. codes.jsonl holds a header line, then, where the images have
names, a line an input in sorted path order: `row`, `path`, `width`, `height`; or `path` and the `error` that kept it
out. The header carries what ties the codes to their model and a CRC-32 of the rows.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from aekit.errors import CodesError, ModelMismatch, SourceError, reason
from aekit.files import open_regular
from aekit.images.arrays import read_rows
from aekit.images.paths import FILE, NOTHING, kind_of
from aekit.images.records import Record, check_relative
from aekit.json_files import parse_json, versioned
from aekit.model.bundle import Bundle
from aekit.model.codec import DTYPES, Codes

FORMAT_VERSION = 1
HEADER_BYTES = 1024
"""The index header is padded to this with spaces, so that the count can be filled in when the job ends."""
_LINE_BYTES = 64 * 1024
"""Longest index line accepted, in bytes. A longer line is read in parts, and each part is refused."""


_CHECKED_BYTES = 2**20
"""Bytes of rows read at a time where their checksum alone is wanted."""


def index_path(codes: Path) -> Path:
    """Where the index of codes.npy lies: codes.jsonl."""
    return codes.with_suffix(".jsonl")


@dataclass(frozen=True)
class CodeFile:
    """A code file opened for reading: its rows mapped, its index checked."""

    path: Path
    codes: Codes
    """[n, code_dim], mapped."""
    header: dict[str, Any] | None
    """The index header, or None for an array whose index was left behind."""
    loss: None = None
    """Nothing is ever lost: this format can't be salvaged."""

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
            raise CodesError(str(path)[:300], expected="a code file, NAME.npy", found=found)
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
        """Yield all codes. Raises CodesError at the end if their checksum differs from the one in the index."""
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
        with open_regular(file) as lines:
            line = lines.readline(HEADER_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise CodesError(
            str(file),
            expected="the index of these codes",
            found="nothing there",
            fix="keep the two files together, or give --no-index to decode rows whose model can't be checked",
        ) from None
    except OSError as error:
        raise CodesError(str(file), expected="an index", found=error.strerror or reason(error)) from error
    values = parse_json(line, CodesError, str(file))
    header = versioned(values, CodesError, str(file), "an index", newest=FORMAT_VERSION)
    kinds = {"model_id": str, "variant": str, "dtype": str, "code_dim": int, "count": int, "named": bool, "crc32": int}
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind):
            raise CodesError(f"{file}: {name}", expected=kind.__name__, found=repr(header.get(name))[:80])
    said = header["dtype"], header["count"], header["code_dim"]
    real = codes.dtype.name, *codes.shape
    if said != real:
        raise CodesError(str(file), expected=f"the index of {real}", found=f"the index of {said}")
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
