"""codes.jsonl, the index of codes.npy: a header line, then a line for each input.

The header ties the codes to their model and holds a CRC-32 of the array's rows. Lines follow where images have paths,
in the order of the sorted paths: `row`, `path`, `width`, `height`; or `path` and the `error` that kept the image out.

Version 2 is for grid codes. Its header also has `code_shape` [h, w, K] and `stride`. Every row has a line, without
`path` if images have none. `coded_width` and `coded_height` are there if the picture was encoded at another size.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aekit.errors import CodesError, reason
from aekit.files import open_regular
from aekit.images.paths import FILE, NOTHING, kind_of
from aekit.images.records import Record, check_relative
from aekit.json_files import parse_json, versioned
from aekit.model.codec import Codes
from aekit.spec import MAX_PICTURE_SIDE, MAX_STRIDE

NEWEST = 2
"""Newest version of the index that this aekit reads. Vector codes have version 1, grid codes version 2."""
HEADER_BYTES = 1024
"""Size of the header line in bytes. It is padded with spaces, so that the counts can be written when the job ends."""
_LINE_BYTES = 64 * 1024
"""Longest index line accepted, in bytes. A longer line is read in parts, and each part is refused."""

Size = tuple[int, int]
"""(height, width) in pixels."""


def index_path(codes: Path) -> Path:
    """Return where the index of codes.npy lies: codes.jsonl."""
    return codes.with_suffix(".jsonl")


def read_header(file: Path, codes: Codes) -> dict[str, Any]:
    """Return the header of the index `file`. Raises CodesError if it is missing, damaged, or does not fit `codes`."""
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
    header = versioned(values, CodesError, str(file), "an index", newest=NEWEST)
    is_grid = header["format_version"] == 2
    kinds = {"model_id": str, "variant": str, "dtype": str, "code_dim": int, "count": int, "named": bool, "crc32": int}
    kinds |= {"index_crc32": int, "stride": int, "code_shape": list} if is_grid else {}
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind) or (kind is int and isinstance(header.get(name), bool)):
            raise CodesError(f"{file}: {name}", expected=kind.__name__, found=repr(header.get(name))[:80])
    shape = header["code_shape"] if is_grid else [header["code_dim"]]
    said = header["dtype"], [header["count"], *shape]
    real = codes.dtype.name, list(codes.shape)
    if said != real or shape[-1:] != [header["code_dim"]]:
        found = f"the index of {said[0]} {str(said[1])[:80]}"
        raise CodesError(str(file), expected=f"the index of {real[0]} {real[1]}", found=found)
    if is_grid and not 1 <= header["stride"] <= MAX_STRIDE:
        raise CodesError(f"{file}: stride", expected=f"1 to {MAX_STRIDE}", found=str(header["stride"])[:80])
    return header


def index_lines(records: Sequence[Record], row: int, sizes: Sequence[Size] | None) -> list[str]:
    """Return the lines of inputs, the first that was read being row `row`.

    `sizes` are the sizes at which the pictures of grid codes were encoded, None for vector codes. `records` is empty
    where images have no paths.
    """
    lines, first = [], row
    for record in records or [Record("", width, height) for height, width in sizes or ()]:
        if record.error:
            lines.append(json.dumps({"path": record.path, "error": record.error}))
            continue
        # formatted by hand, which takes half the time of json.dumps: there may be millions
        path, coded = f'"path": {json.dumps(record.path)}, ' if records else "", ""
        if sizes is not None and sizes[row - first] != (record.height, record.width):
            height, width = sizes[row - first]
            coded = f', "coded_width": {width}, "coded_height": {height}'
        lines.append(f'{{"row": {row}, {path}"width": {record.width}, "height": {record.height}{coded}}}')
        row += 1
    return lines


def read_lines(file: Path, header: dict[str, Any]) -> Iterator[tuple[Record, Size]]:
    """Yield for each row its record, and the size of the picture as it was encoded. A record without path has path "".

    Raises CodesError if the index is damaged or holds a path that would leave the output folder. That its lines are all
    there and unaltered is known after the last one.
    """
    row = crc = 0
    with file.open("rb") as lines:
        next(lines)
        for number, line in enumerate(iter(lambda: lines.readline(_LINE_BYTES), b""), 2):
            crc = zlib.crc32(line, crc)
            record, size = _parse_line(line, f"{file}:{number}", row, header)
            if not record.error:
                row += 1
                yield record, size
    if row != header["count"]:
        raise CodesError(str(file), expected=f"{header['count']} rows", found=f"{row}")
    wanted = header.get("index_crc32")  # written since resumable jobs
    if wanted not in (None, crc):
        raise CodesError(f"{file} was altered", expected=f"CRC-32 {wanted}", found=f"{crc}")


def _parse_line(line: bytes, where: str, row: int, header: dict[str, Any]) -> tuple[Record, Size]:
    named, is_grid = header["named"], header["format_version"] == 2
    try:
        entry = json.loads(line)
        width, height, error = int(entry.get("width", 0)), int(entry.get("height", 0)), str(entry.get("error", ""))
        record = Record(entry["path"] if named else "", width, height, error)
        size = (int(entry.get("coded_height", height)), int(entry.get("coded_width", width))) if is_grid else (0, 0)
        if not isinstance(record.path, str) or (not error and entry["row"] != row) or (error and not named):
            raise ValueError("row or path")
        if is_grid and not error and not _is_of_shape(size, header):
            raise ValueError("size")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
        expected = f"a line of the index with row {row}"
        if is_grid:
            expected += f" and the size of a picture with a code of {header['code_shape'][0]}x{header['code_shape'][1]}"
        raise CodesError(where, expected=expected, found=repr(line[:80])) from problem
    if named:
        check_relative(record.path, where)
    return record, size


def _is_of_shape(size: Size, header: dict[str, Any]) -> bool:
    """Return whether a picture of this size has a code of the header's shape."""
    shape = [-(-side // header["stride"]) for side in size]
    return shape == header["code_shape"][:2] and min(size) >= 1 and max(size) <= MAX_PICTURE_SIDE
