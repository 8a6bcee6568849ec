"""resume at the very end of an append, and journals that can't be resumed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Run, json_output, made_images, one_line_error, tree, write_pictures

from aekit.outputs.log import to_line
from aekit.outputs.marks import Failure, Mark, Step, Written

OPTIONS = ["--model", str(TINY), "--batch-size", "8", "--threads", "1", "--provider", "cpu", "--workers", "0"]
KILLED_AFTER_RENAME = """
import os, runpy, signal, sys
real = os.replace
def replace(source, target):
    real(source, target)
    if str(target).endswith(".aek"):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
sys.argv = ["aekit", *sys.argv[1:]]
runpy.run_module("aekit", run_name="__main__")
"""
"""The command, killed when an archive has taken its name and the journal is still there."""
APPEND = ["compress", "new", "--out", "codes.aek", "--append", *OPTIONS]


@pytest.fixture(params=["array", "folder"])
def source(tmp_path: Path, aekit: Run, request: pytest.FixtureRequest) -> str:
    """Two sources of the same kind, of which the first is in codes.aek; returns the name of the second."""
    if request.param == "array":
        np.save(tmp_path / "old.npy", made_images(30))
        np.save(tmp_path / "new.npy", made_images(20, seed=1))
        suffix = ".npy"
    else:
        write_pictures(tmp_path / "old", 30)
        write_pictures(tmp_path / "new", 50)  # 30 of them have paths of the old ones
        (tmp_path / "new/bad.png").write_bytes(b"no picture")
        suffix = ""
    assert aekit("compress", f"old{suffix}", "--out", "codes.aek", *OPTIONS).returncode == 0
    return f"new{suffix}"


def killed(folder: Path, source: str) -> None:
    """Append, and be killed between the renaming and the removal of the journal."""
    arguments = [sys.executable, "-c", KILLED_AFTER_RENAME, "compress", source, *APPEND[2:]]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "codes.aek.journal").exists() and not (folder / "codes.aek.part").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_an_append_killed_after_its_renaming_is_resumed_and_adds_nothing_twice(
    tmp_path: Path, aekit: Run, source: str
) -> None:
    before = (tmp_path / "codes.aek").read_bytes()
    whole = aekit("compress", source, *APPEND[2:], "--json")
    wanted = (tmp_path / "codes.aek").read_bytes()
    (tmp_path / "codes.aek").write_bytes(before)
    killed(tmp_path, source)
    again = one_line_error(aekit("compress", source, *APPEND[2:]))
    assert "codes.aek holds these inputs already" in again and "give --resume" in again
    assert (tmp_path / "codes.aek").read_bytes() == wanted and (tmp_path / "codes.aek.journal").exists()
    done = aekit("compress", source, *APPEND[2:], "--resume", "--json")
    assert done.returncode == whole.returncode
    ignored = {"seconds", "resumed"}
    first, second = ({**json.loads(run.stdout), **dict.fromkeys(ignored)} for run in (whole, done))
    assert first == second
    assert json.loads(done.stdout)["resumed"] == 20 + (source == "new")
    assert (tmp_path / "codes.aek").read_bytes() == wanted
    assert not list(tmp_path.glob("codes.aek.*"))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("how", [shutil.copy2, shutil.copy], ids=["same times", "new times"])
def test_a_copy_of_an_append_killed_after_its_renaming_does_not_get_the_rows_twice(
    tmp_path: Path, aekit: Run, how: Callable[[str, str], str]
) -> None:
    """Inode numbers are others in a copy, and times of change may be: only the content tells what was done."""
    first, copy, run = tmp_path / "first", tmp_path / "copy", ["compress", "new.npy", *APPEND[2:]]
    first.mkdir()
    np.save(first / "old.npy", made_images(30))
    np.save(first / "new.npy", made_images(20, seed=1))
    assert aekit("compress", "old.npy", "--out", "codes.aek", *OPTIONS, cwd=first).returncode == 0
    killed(first, "new.npy")
    shutil.copytree(first, copy, copy_function=how)
    wanted = (first / "codes.aek").read_bytes()
    shutil.rmtree(first)
    said = one_line_error(aekit(*run, cwd=copy))
    assert "codes.aek holds these inputs already" in said and "give --resume" in said
    assert (copy / "codes.aek").read_bytes() == wanted
    made = json_output(aekit(*run, "--resume", "--json", cwd=copy))
    assert (made["images"], made["total"]) == (20, 50)
    assert (copy / "codes.aek").read_bytes() == wanted and not list(copy.glob("codes.aek.*"))


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_an_archive_that_took_the_place_of_a_finished_append_is_appended_to(tmp_path: Path, aekit: Run) -> None:
    """The journal of the killed append speaks of other bytes, whatever inode number they have."""
    np.save(tmp_path / "old.npy", made_images(30))
    np.save(tmp_path / "new.npy", made_images(20, seed=1))
    assert aekit("compress", "old.npy", "--out", "codes.aek", *OPTIONS).returncode == 0
    before = (tmp_path / "codes.aek").read_bytes()
    killed(tmp_path, "new.npy")
    (tmp_path / "codes.aek").write_bytes(before)  # the same file, and so the same inode number
    made = json_output(aekit("compress", "new.npy", *APPEND[2:], "--json"))
    assert (made["images"], made["total"]) == (20, 50)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("options", [[], ["--resume"]])
def test_a_copied_journal_that_tells_no_content_does_not_cost_the_archive(
    tmp_path: Path, aekit: Run, options: list[str]
) -> None:
    np.save(tmp_path / "old.npy", made_images(30))
    np.save(tmp_path / "new.npy", made_images(20, seed=1))
    assert aekit("compress", "old.npy", "--out", "codes.aek", *OPTIONS).returncode == 0
    killed(tmp_path, "new.npy")
    journal, archive = tmp_path / "codes.aek.journal", tmp_path / "codes.aek"
    wanted = archive.read_bytes()
    lines = [json.loads(line[9:]) for line in journal.read_bytes().splitlines()]
    for line in lines:
        line.pop("contents", None)
    for path in (journal, archive):  # the new files get other inode numbers, as in a copy
        path.rename(tmp_path / f"kept-{path.suffix}")
    journal.write_bytes(b"".join(map(to_line, lines)))
    archive.write_bytes(wanted)
    done = aekit("compress", "new.npy", *APPEND[2:], *options, "--json")
    if options:
        assert "the archive to append to" in one_line_error(done)
        assert archive.read_bytes() == wanted
    else:
        assert json_output(done)["total"] == 70  # nothing tells any more that the rows are there


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_another_append_after_such_a_kill_simply_starts(tmp_path: Path, aekit: Run, source: str) -> None:
    killed(tmp_path, source)
    suffix = Path(source).suffix
    if suffix:
        np.save(tmp_path / "third.npy", made_images(5, seed=2))
    else:
        write_pictures(tmp_path / "third/more", 5)
    made = json_output(aekit("compress", f"third{suffix}", *APPEND[2:], "--json"))
    assert (made["images"], made["total"]) == (5, 55)


def test_a_journal_of_another_format_gives_one_error_and_is_left_alone(tmp_path: Path, aekit: Run) -> None:
    np.save(tmp_path / "new.npy", made_images(20))

    def line(entry: object) -> bytes:
        text = json.dumps(entry).encode()
        return b"%08x %s\n" % (zlib.crc32(text), text)

    mark = {"inputs": 8, "skipped": [], "rows": 8, "crc": 1, "index": 1024, "index_crc": 0}
    old = line({"pid": 1}) + line({"facts": {"--batch-size": 8}}) + line({"mark": mark})
    (tmp_path / "codes.npy.journal").write_bytes(old)
    (tmp_path / "codes.npy.part").write_bytes(b"rows")
    before = tree(tmp_path)
    run = ["compress", "new.npy", "--out", "codes.npy", *OPTIONS]
    said = one_line_error(aekit(*run, "--resume"))
    assert "expected format 3, found format 1" in said and said.endswith("start anew without --resume")
    assert tree(tmp_path) == before
    assert aekit(*run).returncode == 0
    assert sorted(path.name for path in tmp_path.glob("codes*")) == ["codes.jsonl", "codes.npy"]


MARK = Mark(Step(8, (Failure(3, "a.png", "empty file"),)), Written(4, (7, 8)))


def test_a_mark_survives_json_and_what_is_no_mark_is_refused() -> None:
    made = json.loads(json.dumps(MARK.to_json()))
    assert Mark.from_json(made) == MARK
    for wrong in (
        {},
        [],
        None,
        {**made, "more": 1},
        {**made, "inputs": -1},
        {**made, "kept": True},
        {**made, "sums": [1.5]},
        {**made, "sums": 7},
        {**made, "failures": [[1, "a.png"]]},
        {**made, "failures": [["1", "a.png", "bad"]]},
        {**made, "failures": [[1, None, "bad"]]},
        {name: value for name, value in made.items() if name != "sums"},
    ):
        with pytest.raises(ValueError, match=r"a mark|a failure"):
            Mark.from_json(wrong)
