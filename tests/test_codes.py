"""codes: codes.npy is a plain array, codes.jsonl its index, and neither is believed unread."""

import dataclasses
import json
import ntpath
import posixpath
import tempfile
import zlib
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spec import JUNK

from aekit.codes.npy import CodeFile
from aekit.codes.npy_format import CodeWriter
from aekit.codes.npy_index import index_path
from aekit.errors import AekitError, CodesError, ModelMismatch
from aekit.images.records import Record, check_relative
from aekit.model.arguments import DTYPES
from aekit.model.bundle import Bundle

BUNDLE = Bundle.read(TINY)
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
RECORDS = (Record("a.png", 16, 16), Record("b.png", error="empty file"), Record("ö/c.png", 20, 10))


def write(path: Path, dtype: str = "float32", *, named: bool = True) -> Path:
    """A code file of ROWS in two blocks, one input of which failed."""
    with path.open("wb") as array, index_path(path).open("wb") as index:
        writer = CodeWriter(array, index, BUNDLE, dtype, named=named)
        writer.add(ROWS[:2], RECORDS if named else ())
        writer.add(ROWS[:0], (Record("x.png", error="empty file"),) if named else ())
        writer.add(ROWS[2:], (Record("z.png", 1, 2),) if named else ())
        writer.finish()
    return path


def rewrite_header(path: Path, **changes: Any) -> None:
    """Change values of the index header."""
    first, rest = index_path(path).read_bytes().split(b"\n", 1)
    header = {**json.loads(first), **changes}
    index_path(path).write_bytes(json.dumps(header).encode() + b"\n" + rest)


def rewrite_line(path: Path, number: int, line: str) -> None:
    """Replace a line of the index; line 0 is the header."""
    lines = index_path(path).read_text().split("\n")
    lines[number] = line
    index_path(path).write_text("\n".join(lines))
    if number:
        rest = index_path(path).read_bytes().split(b"\n", 1)[1]
        rewrite_header(path, index_crc32=zlib.crc32(rest))


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    return write(tmp_path / "codes.npy")


# --- written


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("named", [True, False])
def test_what_is_written_is_a_plain_array_that_maps(tmp_path: Path, dtype: str, named: bool) -> None:
    path = write(tmp_path / "codes.npy", dtype, named=named)
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    assert isinstance(mapped, np.memmap)
    assert mapped.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(mapped, ROWS)


def test_the_index_is_a_header_and_a_line_an_input(codes: Path) -> None:
    header, *lines = map(json.loads, index_path(codes).read_text().splitlines())
    assert header == {
        "format_version": 1,
        "model_id": BUNDLE.model_id,
        "variant": "fp32",
        "dtype": "float32",
        "code_dim": 4,
        "count": 3,
        "named": True,
        "crc32": header["crc32"],
        "index_crc32": header["index_crc32"],
    }
    assert lines == [
        {"row": 0, "path": "a.png", "width": 16, "height": 16},
        {"path": "b.png", "error": "empty file"},
        {"row": 1, "path": "ö/c.png", "width": 20, "height": 10},
        {"path": "x.png", "error": "empty file"},
        {"row": 2, "path": "z.png", "width": 1, "height": 2},
    ]


def test_what_is_written_is_read(codes: Path) -> None:
    opened = CodeFile.open(codes)
    np.testing.assert_array_equal(opened.codes, ROWS)
    assert isinstance(opened.codes, np.memmap)
    assert list(opened.records()) == [RECORDS[0], RECORDS[2], Record("z.png", 1, 2)]
    opened.check_model(BUNDLE)


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1), max_size=5))
def test_any_name_survives_the_index(names: list[str]) -> None:
    names = [f"x{name}" for name in names]
    names = [name for name in names if is_safe(name)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.npy"
        with path.open("wb") as array, index_path(path).open("wb") as index:
            writer = CodeWriter(array, index, BUNDLE, "uint8", named=True)
            writer.add(np.zeros((len(names), 4)), tuple(Record(name, 1, 1) for name in names))
            writer.finish()
        if names:
            assert [record.path for record in CodeFile.open(path).records()] == names


def is_safe(name: str) -> bool:
    try:
        check_relative(name, "here")
    except CodesError:
        return False
    return True


# --- read


def test_codes_of_another_model_are_refused_with_both_ids(codes: Path) -> None:
    other = dataclasses.replace(BUNDLE, model_id="0123456789abcdef")
    with pytest.raises(ModelMismatch, match=f"codes of model 0123456789abcdef, found codes of model {BUNDLE.model_id}"):
        CodeFile.open(codes).check_model(other)


def test_codes_of_another_width_are_refused_even_without_an_index(codes: Path) -> None:
    np.save(codes, np.zeros((3, 5), np.float32))
    with pytest.raises(CodesError, match="expected the index of"):
        CodeFile.open(codes)
    with pytest.raises(CodesError, match="expected 4 numbers a code, found 5"):
        CodeFile.open(codes, index=False).check_model(BUNDLE)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 4)), np.zeros((3, 4), np.int8), np.zeros(12, np.float32), np.zeros((3, 4, 1), np.uint8), np.uint8(3)],
)
def test_arrays_that_are_no_codes_are_refused(codes: Path, array: Any) -> None:
    np.save(codes, array)
    with pytest.raises(
        CodesError, match=r"expected codes \[n, D\] or \[n, h, w, K\] of float32, float16, uint8, found"
    ):
        CodeFile.open(codes)


@pytest.mark.parametrize("data", [b"", b"junk", b"PK\3\4junk", b"\x93NUMPY\1\0\xff\xffjunk"])
def test_files_that_are_no_arrays_are_refused(codes: Path, data: bytes) -> None:
    codes.write_bytes(data)
    with pytest.raises(CodesError, match="expected an array saved as"):
        CodeFile.open(codes)


def test_an_npz_and_pickled_objects_are_refused(codes: Path) -> None:
    with codes.open("wb") as file:
        np.savez(file, ROWS)
    with pytest.raises(CodesError, match="found NpzFile"):
        CodeFile.open(codes)
    np.save(codes, np.array([[object()]]))
    with pytest.raises(CodesError, match="expected an array saved as"):
        CodeFile.open(codes)


def test_a_missing_file_or_index_is_refused_with_what_to_do(codes: Path) -> None:
    index_path(codes).unlink()
    with pytest.raises(CodesError, match=r"codes\.jsonl: .*keep the two files together, or give --no-index"):
        CodeFile.open(codes)
    opened = CodeFile.open(codes, index=False)
    assert (opened.header, list(opened.records())) == (None, [])
    codes.unlink()
    with pytest.raises(CodesError, match="nothing there"):
        CodeFile.open(codes)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"format_version": 3}, "expected format 2 or older, found 3; update aekit"),
        ({"format_version": 2}, "stride: expected int, found None"),
        ({"format_version": "1"}, "an index with format_version"),
        ({"model_id": 3}, "model_id: expected str"),
        ({"crc32": "x"}, "crc32: expected int"),
        ({"named": 1}, "named: expected bool"),
        ({"count": 4}, "expected the index of"),
        ({"code_dim": 5}, "expected the index of"),
        ({"dtype": "float16"}, "expected the index of"),
    ],
)
def test_an_index_of_another_format_or_file_is_refused(codes: Path, changes: dict[str, Any], found: str) -> None:
    rewrite_header(codes, **changes)
    with pytest.raises(CodesError, match=found):
        CodeFile.open(codes)


@pytest.mark.parametrize("header", ["", "{", "[]", "null", "[" * 100_000, "{}"])
def test_an_index_header_that_is_none_is_refused(codes: Path, header: str) -> None:
    rewrite_line(codes, 0, header)
    with pytest.raises(CodesError, match=r"codes\.jsonl"):
        CodeFile.open(codes)


@pytest.mark.parametrize(
    "line",
    [
        "junk",
        "3",
        "null",
        "{}",
        '{"row": 1, "path": "a.png"}',
        '{"row": 0, "path": 3}',
        '{"path": "a.png"}',
        '{"row": 0, "path": "a.png", "width": "wide"}',
        '{"row": 0, "path": "a.png", "width": 1e999}',
        '{"row": 0, "path": "a.png", "width": null}',
        "[" * 100_000,
        '{"row": 0, "path": "' + "x" * 70_000 + '.png", "width": 1, "height": 1}',
    ],
)
def test_a_damaged_line_is_refused_with_its_number(codes: Path, line: str) -> None:
    rewrite_line(codes, 1, line)
    with pytest.raises(CodesError, match=r"codes\.jsonl:2: expected a line of the index with row 0"):
        list(CodeFile.open(codes).records())


def test_an_index_with_too_few_or_too_many_rows_is_refused(codes: Path) -> None:
    lines = index_path(codes).read_text().splitlines(keepends=True)
    for changed in (lines[:-1], [*lines, '{"row": 3, "path": "more.png", "width": 1, "height": 1}\n']):
        index_path(codes).write_text("".join(changed))
        with pytest.raises(CodesError, match="expected 3 rows"):
            list(CodeFile.open(codes).records())


HOSTILE = ["/etc/x.png", "../x.png", "a/../../x.png", "a/..", "..", ".", "", "a\0b.png", "//x/y", "\ud800.png"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_leads_away_is_refused(codes: Path, path: str) -> None:
    rewrite_line(codes, 1, json.dumps({"row": 0, "path": path, "width": 1, "height": 1}))
    with pytest.raises(CodesError, match=r"codes\.jsonl:2: expected a path below the output folder"):
        list(CodeFile.open(codes).records())


@pytest.mark.parametrize("path", ["~/x.png", "~root/x.png", "$HOME/x.png", "a..b/x.png", "-rf", "C:\\x.png", " .png"])
def test_a_path_that_only_looks_odd_is_a_plain_name(path: str) -> None:
    check_relative(path, "here")


WINDOWS = ["C:\\x.png", "C:x.png", "\\\\server\\share\\x.png", "\\x.png", "a\\..\\..\\x.png", "..\\x.png"]


@pytest.mark.parametrize("path", WINDOWS)
def test_by_the_rules_of_windows_drives_shares_and_backslashes_lead_away(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("aekit.images.records.PurePath", PureWindowsPath)
    with pytest.raises(CodesError, match="below the output folder"):
        check_relative(path, "here")
    check_relative("a\\b.png", "here")


@given(st.text(st.sampled_from("./\\:~a\0\ud800é ")), st.sampled_from([PurePosixPath, PureWindowsPath]))
def test_a_path_that_is_accepted_stays_below_its_folder(path: str, system: type[PurePath]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aekit.images.records.PurePath", system)
        try:
            check_relative(path, "here")
        except CodesError:
            return
    joined = (posixpath if system is PurePosixPath else ntpath).normpath(str(system("/base/out") / path))
    assert system(joined).is_relative_to(system("/base/out")) and "\0" not in path


@settings(max_examples=40)
@given(JUNK, st.sampled_from(["row", "path", "width", "height", "error"]))
def test_junk_in_a_line_never_raises_anything_but_a_named_error(junk: Any, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "codes.npy")
        entry = {"row": 0, "path": "a.png", "width": 16, "height": 16, name: junk}
        rewrite_line(path, 1, json.dumps(entry))
        try:
            list(CodeFile.open(path).records())
        except AekitError as error:
            assert "codes.jsonl" in str(error)


@settings(max_examples=60)
@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_in_the_array_never_raise_anything_but_a_named_error(place: int, patch: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "codes.npy")
        data = bytearray(path.read_bytes())
        place %= len(data)
        data[place : place + len(patch)] = patch
        path.write_bytes(data)
        try:
            assert CodeFile.open(path).codes.shape == (3, 4)
        except CodesError as error:
            assert "\n" not in str(error)
