"""Code files: codes.npy, a plain array that numpy maps, and codes.jsonl, its index (aekit.codes.npy_index).

codes.npy holds float32, float16 or uint8 numbers: vector codes [n, code_dim], or grid codes of one shape, [n, h, w, K].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from aekit.codes.checksums import crc_of
from aekit.codes.mismatch import mismatch
from aekit.codes.npy_index import index_path, read_header, read_lines
from aekit.errors import CodesError, SourceError, reason
from aekit.images.arrays import read_rows
from aekit.images.paths import FILE, NOTHING, kind_of
from aekit.images.records import Record
from aekit.model.arguments import DTYPES
from aekit.model.bundle import Bundle
from aekit.model.codec import Codes
from aekit.model.grids import GridCodes

_CHECKED_BYTES = 2**20
"""Bytes of rows read at a time when only their checksum is needed."""
_BATCH_NUMBERS = 2**22
"""Largest number of numbers in a batch of grid codes, unless one code has more."""


@dataclass
class CodeFile:
    """A code file opened for reading: its rows mapped, its index checked."""

    path: Path
    codes: Codes
    """[n, code_dim] or [n, h, w, code_dim], mapped."""
    header: dict[str, Any] | None
    """The index header, or None for an array whose index was left behind."""
    loss: None = None
    """Always None: what is left of a damaged file of this format can't be read."""
    _stride: int = 0
    """Stride of the model that `check_model` was called with, or 0."""

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
        if not isinstance(codes, np.ndarray) or codes.ndim not in (2, 4) or codes.dtype.name not in DTYPES:
            found = f"{codes.dtype} {list(codes.shape)}" if isinstance(codes, np.ndarray) else type(codes).__name__
            expected = f"codes [n, D] or [n, h, w, K] of {', '.join(DTYPES)}"
            raise CodesError(str(path), expected=expected, found=found)
        return cls(path, codes, read_header(index_path(path), codes) if index else None)

    @property
    def is_grid(self) -> bool:
        """Whether the codes are grid codes."""
        return self.codes.ndim == 4

    def check_model(self, bundle: Bundle) -> None:
        """Raise ModelMismatch or CodesError unless `bundle` can decode these codes."""
        spec = bundle.spec
        if self.header is not None and self.header["model_id"] != bundle.model_id:
            raise mismatch(self.path, self.header["model_id"], self.is_grid, bundle)
        if self.is_grid != spec.is_grid:
            wanted, other = f"grid codes [n, h, w, {spec.code_dim}]", f"vector codes [n, {spec.code_dim}]"
            expected = f"{wanted if spec.is_grid else other}, which model {bundle.model_id} makes"
            fix = "give the model that made them with --model"
            raise CodesError(str(self.path), expected=expected, found=f"an array {list(self.codes.shape)}", fix=fix)
        if self.codes.shape[-1] != spec.code_dim:
            what = "numbers at each place of a code" if spec.is_grid else "numbers a code"
            raise CodesError(str(self.path), expected=f"{spec.code_dim} {what}", found=str(self.codes.shape[-1]))
        if spec.is_grid:
            if self.header is not None and self.header["stride"] != spec.grid.stride:
                where, found = f"{index_path(self.path)}: stride", str(self.header["stride"])
                raise CodesError(where, expected=f"{spec.grid.stride}, as the model has", found=found)
            self._stride = spec.grid.stride

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def named(self) -> bool:
        """Whether the images have paths."""
        return self.header is not None and self.header["named"]

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Codes | GridCodes]:
        """Yield all codes in order, or those of the ascending `rows`, at most `size` at a time.

        Each batch is [k, code_dim]. Grid codes come as a GridCodes, fewer at a time where they are large. Codes read
        without their index come as codes of whole blocks; `check_model` must have been called then.

        Raises CodesError if the codes are not those that the index was written for. That is known after the last
        batch of all of them, and before the first one where `rows` are given.
        """
        if self.is_grid:
            size = max(min(size, _BATCH_NUMBERS // max(self.codes[:1].size, 1)), 1)
        sizes = self._sizes() if self.is_grid else None
        if rows is not None:
            for _ in self._verified(max(_CHECKED_BYTES // max(self.codes[:1].nbytes, 1), 1)):
                pass
        batches = self._verified(size) if rows is None else self._chosen(size, rows)
        done = 0
        for batch in batches:
            numbers = range(done, done + len(batch)) if rows is None else rows[done : done + len(batch)]
            done += len(batch)
            if sizes is None:
                yield batch
            else:
                yield GridCodes(tuple(batch), tuple((int(sizes[row, 0]), int(sizes[row, 1])) for row in numbers))

    def _chosen(self, size: int, rows: Sequence[int]) -> Iterator[Codes]:
        """Yield the codes of the ascending `rows`."""
        for start in range(0, len(rows), size):
            wanted = np.asarray(rows[start : start + size], np.int64)
            runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1)
            yield np.concatenate([self._read(int(run[0]), int(run[-1]) + 1) for run in runs])

    def _verified(self, size: int) -> Iterator[Codes]:
        """Yield all codes. Raises CodesError at the end if their checksum differs from the one in the index."""
        crc = 0
        for start in range(0, len(self.codes), size):
            batch = self._read(start, start + size)
            crc = crc_of([batch], crc)
            yield batch
        if self.header is not None and self.header["crc32"] != crc:
            raise CodesError(f"{self.path} was altered", expected=f"CRC-32 {self.header['crc32']}", found=f"{crc}")

    def _read(self, start: int, stop: int) -> Codes:
        try:
            return np.ascontiguousarray(read_rows(self.codes, start, stop, str(self.path)))
        except SourceError as error:
            raise CodesError(str(self.path), expected=error.expected, found=error.found) from error

    def _sizes(self) -> Codes:
        """Return (height, width) of the pictures as they were encoded, int32 [n, 2]. Raises CodesError for damage."""
        if self.header is None:
            if not self._stride:
                fix = "call check_model first, which knows how many pixels a place of a code stands for"
                raise CodesError(str(self.path), expected="an index with the sizes of pictures", found="none", fix=fix)
            whole = [side * self._stride for side in self.codes.shape[1:3]]
            return np.broadcast_to(np.array(whole, np.int32), (len(self.codes), 2))
        sizes = np.zeros((len(self.codes), 2), np.int32)
        for row, (_, size) in enumerate(read_lines(index_path(self.path), self.header)):
            if row < len(sizes):  # for too many lines read_lines raises CodesError in the end
                sizes[row] = size
        return sizes

    def records(self) -> Iterator[Record]:
        """Yield the records of the images that have a row, in row order; nothing for codes of an array.

        Raises CodesError if the index is damaged or holds a path that would leave the output folder.
        """
        if self.header is not None and self.named:
            for record, _ in read_lines(index_path(self.path), self.header):
                yield record
