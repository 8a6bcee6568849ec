"""Options of jobs, which are bounded where they are made, and code formats, whose facts make help and errors."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, Run

from aekit.codes import formats
from aekit.codes.formats import FORMATS, CodeFormat
from aekit.errors import OptionError
from aekit.jobs import JobOptions
from aekit.jobs.options import MAX_BATCH_SIZE, MAX_WORKERS
from aekit.model.arguments import DTYPES
from aekit.model.codec import BATCH_SIZE

HUGE = int("9" * 31)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "--batch-size: expected 1 or more, and at most 65,536, found 0"),
        ({"batch_size": MAX_BATCH_SIZE + 1}, "found 65,537"),
        ({"batch_size": HUGE}, "found a number of more than 12 digits"),
        ({"workers": -1}, "--workers: expected 0 or more, and at most 1,024, found -1"),
        ({"workers": MAX_WORKERS + 1}, "found 1,025"),
        ({"workers": HUGE}, "--workers: .* found a number of more than 12 digits"),
        ({"max_failures": "9" * 16}, "--max-failures: expected a number, or a percentage"),
        ({"max_failures": "9" * 5000}, "--max-failures: .* found '9{40}…'$"),
        ({"max_failures": "101%"}, "--max-failures"),
        ({"max_failures": "\u0663"}, "--max-failures"),
        ({"on_error": "stop"}, "skip or fail"),
    ],
)
def test_options_out_of_bounds_are_one_error(options: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        JobOptions(**options)  # type: ignore[arg-type]


def test_the_bounds_themselves_are_fine() -> None:
    for options in (JobOptions(1, 0), JobOptions(MAX_BATCH_SIZE, MAX_WORKERS)):
        assert options.most_failures(7) == 7
    assert JobOptions().batch_size == BATCH_SIZE
    assert JobOptions(max_failures="5%").most_failures(200) == 10
    assert JobOptions(max_failures="9" * 15).most_failures(200) == 10**15 - 1


@pytest.mark.parametrize("option", ["--workers", "--batch-size", "--threads"])
@pytest.mark.parametrize("value", [str(HUGE), "9" * 5000])
def test_huge_numbers_end_the_command_at_once(
    aekit: Run, pictures: Path, tmp_path: Path, option: str, value: str
) -> None:
    for command in ("compress", "denoise"):
        done = aekit(command, "pictures", "--out", "out.npy", "--model", TINY, option, value)
        assert done.returncode == 2 and f"Invalid value for '{option}'" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_help_and_errors_follow_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert formats.suffixes() == ".npy or .aek"
    assert formats.suffixes("appends") == ".aek"
    third = CodeFormat(".third", "a third form", "none", ("uint8", "float16"), (".side",), appends=True)
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, third))
    assert formats.suffixes() == ".npy, .aek or .third"
    assert formats.suffixes("appends") == ".aek or .third"
    assert formats.out_help().endswith("; or NAME.third, a third form.")
    assert ".third files store uint8 or float16 only" in formats.dtype_help()
    assert formats.owner_of(Path("x.side")) == Path("x.third")
    assert third.files(Path("a/x.third")) == (Path("a/x.third"), Path("a/x.side"))
    with pytest.raises(OptionError, match=r"ends in \.npy, \.aek or \.third"):
        formats.format_to_write(Path("x.txt"))


def test_every_format_stores_what_a_codec_gives_and_has_its_functions() -> None:
    for entry in FORMATS:
        assert set(entry.dtypes) <= set(DTYPES)
        assert all(callable(getattr(entry.module, name)) for name in ("open_stored", "staged", "describe"))


def test_importing_jobs_and_formats_loads_no_numpy() -> None:
    code = "import sys, aekit.jobs, aekit.jobs.options, aekit.codes.formats; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
