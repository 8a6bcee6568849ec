"""codes.npy of a model of grid codes: one array [n, h, w, K], and an index that knows the pictures' sizes."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid_archives import GRID, assert_same, made_codes
from test_codes import BUNDLE, rewrite_header, rewrite_line
from test_codes import write as write_vectors

from aekit.codes import npy_format
from aekit.codes.npy import CodeFile
from aekit.codes.npy_format import CodeWriter
from aekit.codes.npy_index import index_path
from aekit.errors import CodesError, ModelMismatch, ShapeError
from aekit.images.records import Record
from aekit.model.grids import GridCodes
from aekit.outputs.marks import Mark, Step
from aekit.outputs.ours import is_our_file

SIZES = ((20, 33), (24, 40), (17, 34))
"""(height, width) of pictures whose codes have 3 lines of 5 places."""
CODES = made_codes(GRID, SIZES)
RECORDS = (
    Record("a.png", 33, 20),
    Record("b.png", error="empty file"),
    Record("ö/c.png", 400, 240),
    Record("d.png", 34, 17),
)


def write(
    path: Path,
    codes: GridCodes = CODES,
    records: Sequence[Record] = RECORDS,
    dtype: str = "uint8",
    *,
    named: bool = True,
) -> Path:
    with path.open("wb") as array, index_path(path).open("wb") as index:
        writer = CodeWriter(array, index, GRID, dtype, named=named)
        writer.add(codes[:1], records[:2] if named else ())
        writer.add(codes[1:], records[2:] if named else ())
        writer.finish()
    return path


def read(path: Path, size: int = 2, rows: Sequence[int] | None = None, *, index: bool = True) -> GridCodes:
    opened, found = CodeFile.open(path, index=index), GridCodes((), ())
    opened.check_model(GRID)
    for batch in opened.batches(size, rows):
        assert isinstance(batch, GridCodes) and len(batch) <= size
        found += batch
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("named", [True, False])
def test_what_is_written_is_a_plain_array_and_is_read_with_its_sizes(tmp_path: Path, dtype: str, named: bool) -> None:
    path = write(tmp_path / "codes.npy", dtype=dtype, named=named)
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    assert isinstance(mapped, np.memmap) and mapped.offset == 128
    assert (mapped.dtype, mapped.shape) == (np.dtype(dtype), (3, 3, 5, 5))
    wanted = GridCodes(tuple(code.astype(dtype) for code in CODES.codes), CODES.sizes)
    assert_same(read(path), wanted)
    assert_same(read(path, 2, [0, 2]), GridCodes((wanted[0], wanted[2]), (SIZES[0], SIZES[2])))
    records = list(CodeFile.open(path).records())
    assert records == ([record for record in RECORDS if not record.error] if named else [])
    assert is_our_file(path) and is_our_file(index_path(path))
    about = npy_format.describe(path)
    assert f"3 codes of 3x5x5 {dtype} numbers" in about.lines[0] and about.facts["code_shape"] == [3, 5, 5]


def test_the_index_has_a_coded_size_where_it_differs(tmp_path: Path) -> None:
    header, *lines = map(json.loads, index_path(write(tmp_path / "codes.npy")).read_text().splitlines())
    assert (header["format_version"], header["code_shape"], header["stride"]) == (2, [3, 5, 5], 8)
    assert lines == [
        {"row": 0, "path": "a.png", "width": 33, "height": 20},
        {"path": "b.png", "error": "empty file"},
        {"row": 1, "path": "ö/c.png", "width": 400, "height": 240, "coded_width": 40, "coded_height": 24},
        {"row": 2, "path": "d.png", "width": 34, "height": 17},
    ]
    _, *lines = map(json.loads, index_path(write(tmp_path / "x.npy", named=False)).read_text().splitlines())
    assert lines[1] == {"row": 1, "width": 40, "height": 24}


def test_without_an_index_the_codes_are_those_of_whole_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.npy")
    index_path(path).unlink()
    assert_same(read(path, index=False), GridCodes(CODES.codes, ((24, 40),) * 3))
    with pytest.raises(CodesError, match="call check_model first"):
        next(CodeFile.open(path, index=False).batches(2))


def test_a_picture_of_another_size_is_named_with_what_to_do(tmp_path: Path) -> None:
    odd = made_codes(GRID, [(480, 640)])
    for codes, records in (
        (CODES[:1] + odd, [RECORDS[0], Record("big.png", 640, 480)]),
        (odd, [Record("big.png", 640, 480)]),
    ):
        path = tmp_path / "codes.npy"
        with path.open("wb") as array, index_path(path).open("wb") as index:
            writer = CodeWriter(array, index, GRID, "uint8", named=True)
            writer.add(CODES[:1], RECORDS[:1])
            said = r"big\.png: expected a code \[3, 5, 5\] .*one shape"
            said += r", found 640x480 pixels, a code \[60, 80, 5\]; give --out NAME\.aek"
            with pytest.raises(CodesError, match=said):
                writer.add(codes, records)
    with pytest.raises(CodesError, match=r"picture 2: expected a code"):
        write(path, CODES[:1] + odd, named=False)


def test_no_picture_gives_an_empty_array(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.npy", GridCodes((), ()), ())
    assert np.load(path).shape == (0, 0, 0, 5)
    assert_same(read(path), GridCodes((), ()))


def test_large_codes_come_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "codes.npy")
    monkeypatch.setattr("aekit.codes.npy._BATCH_NUMBERS", 100)
    opened = CodeFile.open(path)
    assert [len(batch) for batch in opened.batches(256)] == [1, 1, 1]
    monkeypatch.setattr("aekit.codes.npy._BATCH_NUMBERS", 150)
    assert [len(batch) for batch in opened.batches(256)] == [2, 1]


def test_codes_of_the_other_kind_of_model_are_refused(tmp_path: Path) -> None:
    grids, vectors = write(tmp_path / "grids.npy"), write_vectors(tmp_path / "vectors.npy")
    with pytest.raises(
        ModelMismatch, match=r"codes of model 0123456789abcdef, found codes of model .*; give the model"
    ):
        CodeFile.open(grids).check_model(dataclasses.replace(GRID, model_id="0123456789abcdef"))
    with pytest.raises(
        CodesError, match=r"expected grid codes \[n, h, w, 5\], .* found an array \[3, 4\]; give the model"
    ):
        CodeFile.open(vectors, index=False).check_model(GRID)
    with pytest.raises(
        CodesError, match=r"expected vector codes \[n, 4\], .* found an array \[3, 3, 5, 5\]; give the model"
    ):
        CodeFile.open(grids, index=False).check_model(BUNDLE)
    other = dataclasses.replace(GRID, spec=dataclasses.replace(GRID.spec, code_dim=6))
    with pytest.raises(CodesError, match="expected 6 numbers at each place of a code, found 5"):
        CodeFile.open(grids, index=False).check_model(other)
    with (tmp_path / "x").open("wb") as array, (tmp_path / "y").open("wb") as index:
        with pytest.raises(ShapeError, match=r"expected grid codes .*, found an array"):
            CodeWriter(array, index, GRID, "uint8", named=False).add(np.zeros((1, 3, 5, 5)), ())
        with pytest.raises(ShapeError, match=r"expected \[3, 5, 5\] for a picture of 33x20 pixels, found \[3, 4, 5\]"):
            wrong = GridCodes((CODES[0][:, :4],), SIZES[:1])
            CodeWriter(array, index, GRID, "uint8", named=False).add(wrong, ())
        with pytest.raises(ShapeError, match="expected an array of vector codes, found grid codes"):
            CodeWriter(array, index, BUNDLE, "uint8", named=False).add(CODES, ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 1}, "expected the index of uint8"),
        ({"format_version": 3}, "expected format 2 or older, found 3; update aekit"),
        ({"code_shape": [5, 3, 5]}, "expected the index of uint8"),
        ({"code_shape": []}, "expected the index of uint8"),
        ({"code_shape": None}, "code_shape: expected list"),
        ({"code_dim": 6}, "expected the index of uint8"),
        ({"stride": 0}, "stride: expected 1 to 64"),
        ({"stride": 10**30}, "stride: expected 1 to 64"),
        ({"stride": True}, "stride: expected int"),
        ({"index_crc32": None}, "index_crc32: expected int"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "codes.npy")
    rewrite_header(path, **changes)
    with pytest.raises(CodesError, match=rf"codes\.jsonl.*{said}"):
        CodeFile.open(path)


def test_a_stride_that_is_not_the_models_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.npy")
    rewrite_header(path, stride=9)
    with pytest.raises(CodesError, match=r"codes\.jsonl: stride: expected 8, as the model has, found 9"):
        CodeFile.open(path).check_model(GRID)


@pytest.mark.parametrize(
    "entry",
    [
        {"width": 32, "height": 20},
        {"width": 41, "height": 20},
        {"width": 33, "height": 0},
        {"width": 33, "height": -4},
        {"width": 33},
        {"width": 33, "height": 20, "coded_width": 10**400, "coded_height": 20},
        {"width": 33, "height": 20, "coded_width": None},
    ],
)
def test_a_size_that_has_another_code_is_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    for named in (True, False):
        path = write(tmp_path / "codes.npy", named=named)
        rewrite_line(path, 1, json.dumps({"row": 0, **({"path": "a.png"} if named else {}), **entry}))
        with pytest.raises(CodesError, match=r"codes\.jsonl:2: expected a line .* row 0 and the size of a picture"):
            read(path)


def test_altered_rows_and_lines_are_found(tmp_path: Path) -> None:
    path = write(tmp_path / "codes.npy")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CodesError, match="was altered"):
        read(path)
    with pytest.raises(CodesError, match="was altered"):
        next(CodeFile.open(path).batches(1, [0]))
    path = write(tmp_path / "codes.npy", named=False)
    lines = index_path(path).read_text()
    index_path(path).write_text(lines.replace('"width": 33', '"width": 34'))
    with pytest.raises(CodesError, match=r"codes\.jsonl was altered"):
        read(path)
    index_path(path).write_text(lines + '{"row": 3, "width": 33, "height": 20}\n')
    with pytest.raises(CodesError, match="expected 3 rows, found 4"):
        read(path)


def test_a_job_that_was_cut_off_anywhere_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.npy")
    path, ends = tmp_path / "codes.npy", list[tuple[int, int]]()
    with path.open("w+b") as array, index_path(path).open("w+b") as index:
        writer, marks = CodeWriter(array, index, GRID, "uint8", named=True), list[Mark]()
        for row, first, last in ((0, 0, 0), (0, 0, 2), (1, 2, 3), (2, 3, 4)):
            writer.add(CODES[row : row + (last > first)], RECORDS[first:last])
            marks.append(Mark(Step(last), writer.written(last, sync=False)))
            ends.append((array.seek(0, 2), index.seek(0, 2)))
    data, lines = path.read_bytes(), index_path(path).read_bytes()
    for cut in range(100, len(data) + 1, 9):
        path.write_bytes(data[:cut])
        index_path(path).write_bytes(lines)
        with path.open("r+b") as array, index_path(path).open("r+b") as index:
            writer = CodeWriter(array, index, GRID, "uint8", named=True)
            count = writer.restore(marks)
            assert count == sum(end <= max(cut, 128) for end, _ in ends)
            row, first = writer.count, marks[count - 1].step.inputs if count else 0
            writer.add(CODES[row:], RECORDS[first:])
            writer.finish()
        assert path.read_bytes() == whole.read_bytes()
        assert index_path(path).read_bytes() == index_path(whole).read_bytes()
