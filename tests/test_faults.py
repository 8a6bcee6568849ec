"""Quick forms of parts of benchmarks/faults.py: names under attack and too little memory; and that faults are found."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)
import faults_memory  # noqa: E402
import faults_names  # noqa: E402
import faults_page  # noqa: E402

sys.path.remove(BENCHMARKS)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, FIFOs and limits of POSIX systems")
QUICK = ("link to a file", "hard link", "FIFO")


@pytest.fixture
def attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    faults_names.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", faults_names.COMMANDS)
def test_what_lies_at_any_name_is_refused_or_left_alone(attacked: Path, command: str) -> None:
    states = ("nothing, --overwrite", "old output", "stopped job, --resume")
    row = faults_names.attack(command, QUICK, states)
    assert row["cases"] == row["refused"] + row["done"]
    assert row["refused"] and row["done"]


def test_a_command_that_writes_through_a_link_is_found(attacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def follows(*arguments: str) -> None:
        Path("p.png").write_bytes(b"through the link")

    monkeypatch.setattr(faults_names, "command", follows)
    with pytest.raises(faults_names.Broken, match=r"link to a file at p\.png, .*: else/mine was changed"):
        faults_names.attack("sample", ("link to a file",), ("nothing",))


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (lambda *_: "an error that names nothing", "the error names no path"),
        (lambda *_: (Path("more").touch(), "o.npy is in the way")[1], r"refused, but \['more'\] appeared"),
        (lambda *_: None, "done, but the output differs"),
    ],
)
def test_what_a_command_promises_is_held_against_it(
    attacked: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., str | None], found: str
) -> None:
    whole, ran = faults_names.command, []

    def first_right(*arguments: str) -> str | None:
        ran.append(arguments)
        return whole(*arguments) if len(ran) == 1 else command(*arguments)

    monkeypatch.setattr(faults_names, "command", first_right)
    with pytest.raises(faults_names.Broken, match=found):
        faults_names.attack("compress to .npy", ("FIFO",), ("nothing",))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that holds")
def test_too_little_memory_is_one_line_or_a_job_that_is_resumed(tmp_path: Path) -> None:
    faults_memory.prepare(tmp_path)
    row = faults_memory.limit_one(tmp_path, "compress a folder", 0, (1, 24, 2000))
    assert row["limits"] == 3 and row["done"] >= 1 and row["one_line"] >= 1


def test_the_page_tells_the_sums_of_the_rows() -> None:
    rows = [{"command": "x", "names": 1, "cases": 3, "refused": 1, "done": 2, "seconds": 0.5}] * 2
    total = faults_page.totals(rows)
    assert total == {"names": 2, "cases": 6, "refused": 2, "done": 4}
    text = faults_page.page({"names": {"rows": rows, "total": total, "machine": {"cores": 2}}})
    assert "6 cases: 2 refused in one line, 4 done" in text and "Random" not in text
