"""json_files: untrusted JSON is read within bounds or refused in one line; what is written appears whole."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aekit.errors import BundleError, CodesError, OutputError
from aekit.files import open_regular
from aekit.json_files import MAX_VALUES, parse_json, read_json, versioned, write_json
from aekit.model.bundle import Bundle

POSIX = pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")


def read(path: Path) -> object:
    return read_json(path, CodesError, "an index", newest=2, most=10_000_000)


def test_what_is_written_is_read_with_nan_as_null(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"format_version": 1, "psnr": math.inf, "ö": [math.nan, 1.5]})
    assert read(tmp_path / "a.json") == {"format_version": 1, "psnr": None, "ö": [None, 1.5]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected JSON, found"),
        (b"\xff\xfe", "expected JSON, found"),
        (b"[" * 50_000, "expected JSON, found values nested too deeply"),
        (b'{"a":' * 30_000, "expected JSON, found values nested too deeply"),
        (b"1" * 5000, "expected JSON, found Exceeds the limit"),
        (b"[" + b"[]," * MAX_VALUES, "expected JSON of at most 100,000 values, found more"),
        (b"[]", "expected an index with format_version, found None"),
        (b'{"format_version": true}', "expected an index with format_version, found True"),
        (b'{"format_version": 1.0}', "expected an index with format_version, found 1.0"),
        (b'{"format_version": -1}', "expected an index with format_version, found -1"),
        (b'{"format_version": 3}', "expected format 2 or older, found 3; update aekit"),
        (b'{"format_version": %s}' % (b"9" * 4000), "expected format 2 or older, found 9999"),
    ],
    ids=str,
)
def test_what_is_no_such_file_is_refused_in_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(CodesError, match=rf"a\.json: {said}") as caught:
        read(tmp_path / "a.json")
    assert len(str(caught.value)) < 400 + len(str(tmp_path)) and "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room on the disk, but would not fit into memory
    with pytest.raises(CodesError, match=r"found 1,099,511,627,776 bytes, more than the 10,000,000 allowed"):
        read(tmp_path / "a.json")


def test_what_is_absent_is_for_the_caller_to_explain(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "a.json", tmp_path / "file" / "a.json"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            read(path)


@POSIX
def test_pipes_devices_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, found in (("pipe", "a named pipe"), ("link", "a named pipe"), (".", "Is a directory")):
        with pytest.raises(CodesError, match=f"expected an index, found {found}"):
            read(tmp_path / name)
    with pytest.raises(CodesError, match="/dev/zero: expected an index, found a device"):
        read(Path("/dev/zero"))
    with pytest.raises(CodesError, match="found Too many levels"):
        (tmp_path / "loop").symlink_to("loop")
        read(tmp_path / "loop")
    with pytest.raises(CodesError, match="found File name too long"):
        read(tmp_path / ("x" * 300))
    with pytest.raises(OSError, match="pipe"):
        open_regular(tmp_path / "pipe")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_values_take_no_more_memory_than_the_text_allows(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"format_version": 1, "a": [' + b"[]," * 3_000_000 + b"0]}")
    code = (
        "import re\nfrom pathlib import Path\nfrom aekit.errors import CodesError\n"
        "from aekit.json_files import read_json\n"
        f"try: read_json(Path({str(tmp_path / 'a.json')!r}), CodesError, 'an index', newest=1)\n"
        "except CodesError: pass\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80_000  # KB; the values alone would take 200 MB


def test_values_nested_a_thousand_deep_are_refused_and_usual_ones_are_read(tmp_path: Path, model: Path) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        assert parse_json(opening * 100 + "1" + closing * 100, BundleError, "x")
        with pytest.raises(BundleError, match="x: expected JSON, found values nested too deeply"):
            parse_json(opening * 101 + "1" + closing * 101, BundleError, "x")
    manifest = json.loads((model / "model.json").read_text())
    deep = json.dumps({**manifest, "more": "@"}).replace('"@"', "[" * 900 + "]" * 900)
    (model / "model.json").write_text(deep)  # `aekit info` prints all values, and recursed
    with pytest.raises(BundleError, match="nested too deeply"):
        Bundle.read(model)


@given(st.text(max_size=50) | st.binary(max_size=50))
def test_any_text_is_json_or_a_named_error(text: str | bytes) -> None:
    try:
        values = parse_json(text, BundleError, "x")
        versioned(values, BundleError, "x", "a file", newest=1)
    except BundleError as error:
        assert str(error).startswith("x: ")


def test_a_write_replaces_the_whole_file_or_leaves_it_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"format_version": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"format_version": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"format_version": 1}
    with pytest.raises(OutputError, match=r"a\.json could not be written: found"):
        write_json(tmp_path / "nowhere" / "a.json", {})
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OutputError, match=r"folder\.json could not be written: found Is a directory"):
        write_json(tmp_path / "folder.json", {})
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "folder.json"}
