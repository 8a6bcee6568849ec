"""The code format .npy: writing codes.npy with its index, codes.jsonl, and what the registry of formats needs."""

import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from aekit.codes.formats import Description
from aekit.codes.npy import CodeFile
from aekit.codes.npy_index import HEADER_BYTES, index_lines, index_path
from aekit.errors import CodesError, ShapeError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.codec import Codes
from aekit.model.grids import GridCodes
from aekit.outputs.journal import Journal
from aekit.outputs.marks import Mark, Written
from aekit.outputs.staging import crc_of_range, open_part, staged_file


@contextlib.contextmanager
def open_stored(path: Path, *, index: bool, salvage: bool) -> Iterator[CodeFile]:
    """Yield the code file at `path`, as CodeFile.open; this format has no salvage."""
    yield CodeFile.open(path, index=index)


@contextlib.contextmanager
def staged(
    out: Path, bundle: Bundle, dtype: str, journal: Journal, *, named: bool, append: bool
) -> Iterator["CodeWriter"]:
    """Yield the writer of `out` and its index, which take their names when the block ends; this format has no append.

    Raises OutputError if they can't be written.
    """
    # The index takes its name first: codes without their index would be of no use.
    with (
        staged_file(out, journal) as part,
        staged_file(index_path(out), journal) as index_part,
        open_part(part, journal) as array,
        open_part(index_part, journal) as index,
    ):
        writer = CodeWriter(array, index, bundle, dtype, named=named)
        journal.restore(writer)
        yield writer
        writer.finish()
        journal.finish(out, index_path(out))


def describe(path: Path) -> Description:
    """Describe a code file by the header of its index. Raises CodesError if a file is missing or damaged."""
    opened = CodeFile.open(path)
    count, *shape = opened.codes.shape
    header = opened.header or {}
    numbers = f"{shape[0]:,}" if len(shape) == 1 else "x".join(map(str, shape))
    first = f"{path}: {count:,} {'code' if count == 1 else 'codes'} of {numbers} {opened.codes.dtype} numbers"
    lines = [f"  model {header['model_id']}, {header['variant']}", f"  index format {header['format_version']}"]
    lines.append("  the images have paths" if header["named"] else "  the images have no paths")
    return Description({"path": str(path), **header}, (first, *lines))


class _Sums(NamedTuple):
    """What a mark says of the two files."""

    rows: int
    """Rows of the array."""
    crc: int
    """CRC-32 of these rows."""
    index_end: int
    """Size of the index, bytes."""
    index_crc: int
    """CRC-32 of the index behind its header."""


class CodeWriter:
    """Writes codes.npy and its index row by row, in bounded memory. `finish` completes the headers.

    Grid codes must all have the shape of the first one. The two files may hold what an earlier job wrote; then call
    `restore` before `add`.
    """

    def __init__(self, array: BinaryIO, index: BinaryIO, bundle: Bundle, dtype: str, *, named: bool) -> None:
        self._array, self._index = array, index
        self._bundle, self._dtype, self._named = bundle, np.dtype(dtype), named
        self._is_grid, code_dim = bundle.spec.is_grid, bundle.spec.code_dim
        self._shape: tuple[int, ...] = (0, 0, code_dim) if self._is_grid else (code_dim,)
        """Shape of a code. A grid code's height and width are 0 until the first code is added."""
        self._crc = self._index_crc = 0
        self.present_paths: frozenset[str] = frozenset()
        """Paths that the file held before this job: always empty, because the file is always made anew."""
        self.count_before = 0
        """Rows that the file held before this job: always 0."""
        self.count = 0
        """Rows written."""
        self._begin = self._write_headers()

    def add(self, codes: Codes | GridCodes, records: Sequence[Record]) -> None:
        """Append codes [k, code_dim], or GridCodes, and the records of their inputs, failed ones included.

        Raises CodesError, which names the picture, if a grid code has another shape than the first one; ShapeError if
        the codes do not fit the model or their pictures.
        """
        if isinstance(codes, GridCodes) != self._is_grid:
            kinds = {True: "grid codes with the sizes of their pictures", False: "an array of vector codes"}
            raise ShapeError("codes to write", expected=kinds[self._is_grid], found=kinds[not self._is_grid])
        read = [record for record in records if not record.error]
        if isinstance(codes, GridCodes):
            self._check_shapes(codes, read)
        for code in codes.codes if isinstance(codes, GridCodes) else (codes,):
            rows = np.ascontiguousarray(code, self._dtype)
            data = rows.data.cast("B") if rows.size else b""
            self._crc = zlib.crc32(data, self._crc)
            self._array.write(data)
        sizes = codes.sizes if isinstance(codes, GridCodes) else None
        lines = index_lines(records, self.count, sizes) if self._named or sizes else []
        text = "".join(f"{line}\n" for line in lines).encode("ascii")
        self._index_crc = zlib.crc32(text, self._index_crc)
        self._index.write(text)
        self.count += len(codes)

    def written(self, inputs: int, *, sync: bool) -> Written:
        """Hand what was added to the system, and bring it to the disk if `sync`; return how far the files go.

        `inputs` is how many inputs the job has done.
        """
        for file in (self._array, self._index):
            file.flush()
            if sync:
                os.fsync(file.fileno())
        sums = _Sums(self.count, self._crc, self._index.tell(), self._index_crc)
        return Written(inputs, (*sums, *self._shape[:2]) if self._is_grid else sums)

    def restore(self, marks: Sequence[Mark]) -> int:
        """Keep what the files hold as far as it agrees with the marks, and cut off the rest.

        Returns how many marks agree.
        """
        kept, rows_end, index_end = 0, self._begin, HEADER_BYTES
        for mark in marks:
            numbers, shape = mark.written.sums, self._shape
            if self._is_grid:  # its marks end with the height and width of a code
                numbers, shape = numbers[:-2], (*numbers[-2:], shape[-1])
            if len(numbers) != len(_Sums._fields) or len(shape) != len(self._shape):
                break
            sums = _Sums(*numbers)
            stop = self._begin + sums.rows * self._dtype.itemsize * math.prod(shape)
            if crc_of_range(self._array, rows_end, stop, self._crc) != sums.crc:
                break
            if crc_of_range(self._index, index_end, sums.index_end, self._index_crc) != sums.index_crc:
                break
            kept, rows_end, index_end, self._shape = kept + 1, stop, sums.index_end, shape
            self.count, self._crc, self._index_crc = sums.rows, sums.crc, sums.index_crc
        for file, end in ((self._array, rows_end), (self._index, index_end)):
            file.truncate(end)
            file.seek(end)
        return kept

    def finish(self) -> None:
        """Write the counts into the headers and bring both files to the disk."""
        self._write_headers()
        for file in (self._array, self._index):
            file.flush()
            os.fsync(file.fileno())

    def _check_shapes(self, codes: GridCodes, records: Sequence[Record]) -> None:
        """Raise ShapeError if a code does not fit its picture, CodesError if it is not of the first code's shape."""
        for row, (code, (height, width)) in enumerate(zip(codes.codes, codes.sizes, strict=True)):
            own = *self._bundle.spec.grid.code_shape(height, width), self._bundle.spec.code_dim
            if code.shape != own:
                expected = f"{list(own)} for a picture of {width}x{height} pixels"
                raise ShapeError("codes to write", expected=expected, found=str(list(code.shape)))
            if not self.count and not row:
                self._shape = code.shape
            if code.shape != self._shape:
                what = records[row].path if row < len(records) else f"picture {self.count + row + 1}"
                expected = f"a code {list(self._shape)} as before, because an .npy file holds codes of one shape"
                found = f"{width}x{height} pixels, a code {list(code.shape)}"
                fix = "give --out NAME.aek, which holds pictures of any sizes"
                raise CodesError(what, expected=expected, found=found, fix=fix)

    def _write_headers(self) -> int:
        """Write both headers with the counts so far; return the byte at which the rows begin."""
        self._array.seek(0)
        shape = (self.count, *self._shape)
        # numpy pads this header for its first dimension to grow, and 128 bytes hold any shape of a code.
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._array, header)
        begin = self._array.tell()
        self._array.seek(0, os.SEEK_END)
        spec = self._bundle.spec
        facts: dict[str, object] = {
            "format_version": 2 if self._is_grid else 1,
            "model_id": self._bundle.model_id,
            "variant": self._bundle.variant,
            "dtype": self._dtype.name,
            "code_dim": spec.code_dim,
            "count": self.count,
            "named": self._named,
            "crc32": self._crc,
            "index_crc32": self._index_crc,
        }
        if self._is_grid:
            facts |= {"code_shape": list(self._shape), "stride": spec.grid.stride}
        self._index.seek(0)
        self._index.write(json.dumps(facts).ljust(HEADER_BYTES - 1).encode("ascii") + b"\n")
        self._index.seek(0, os.SEEK_END)
        return begin
