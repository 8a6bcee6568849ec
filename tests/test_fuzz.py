"""A quick form of benchmarks/fuzz.py: some hundred changed files of each kind; and that it finds what is planted."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parent.parent / "benchmarks")
sys.path.insert(0, BENCHMARKS)
import fuzz  # noqa: E402
import fuzz_targets  # noqa: E402

sys.path.remove(BENCHMARKS)

INPUTS = 200


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_changed_files_are_read_right_or_refused_by_name(tmp_path: Path, name: str) -> None:
    if name in ("config", "checkpoint", "resume"):
        pytest.importorskip("torch")
    made = fuzz.hunt(fuzz_targets.TARGETS[name], tmp_path, INPUTS, seed=1)
    assert made.findings == {}
    assert made.inputs == INPUTS
    assert made.outcomes["read"] >= 1 and sum(made.outcomes.values()) == INPUTS
    assert made.outcomes.total() - made.outcomes["read"] >= INPUTS // 4  # most changes are noticed


def stumbles(data: bytes) -> None:
    raise KeyError("planted")


def errs(data: bytes) -> None:
    raise fuzz_targets.Wrong("planted")


def hangs(data: bytes) -> None:
    while True:
        pass


@pytest.mark.parametrize(("plant", "found"), [(stumbles, "KeyError at"), (errs, "Wrong at"), (hangs, "Hang at")])
def test_what_is_planted_is_found_with_its_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[bytes], None], found: str
) -> None:
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    made = fuzz.hunt(lambda folder: fuzz_targets.Target([b"seed"], plant), tmp_path, 1, seed=0)
    (what, file), *_ = made.findings.items()
    assert what.startswith(found)
    assert Path(file).read_bytes() == b"seed"


SWELLS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import fuzz, fuzz_targets
fuzz.RESIDENT = 2**25
print(fuzz.hunt(lambda folder: fuzz_targets.Target([b"seed"], lambda data: b"x" * 2**27), Path("."), 1, 0).findings)
"""


def test_memory_that_swells_is_found(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", SWELLS, BENCHMARKS], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("{'memory: "), done.stderr


def test_the_docs_tell_the_figures_of_the_last_whole_run() -> None:
    results = json.loads((Path(BENCHMARKS) / "results" / "fuzz.json").read_text())
    rows, page = results["targets"], (Path(BENCHMARKS).parent / "docs/reliability.md").read_text()
    assert {row["target"] for row in rows} == set(fuzz_targets.TARGETS)
    assert all(row["inputs"] >= 10_000 for row in rows)
    total = results["total"]
    said = f"{total['inputs']:,} changed files, {total['targets']} kinds: {total['refused']:,} refused by name, "
    assert f"{said}{total['read']:,} read right, {total['findings']} findings" in " ".join(page.split())
