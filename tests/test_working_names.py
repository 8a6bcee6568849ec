"""What lies at the working name of an output – a link, a FIFO, a user's file – is neither followed nor removed."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from attacked import COMMANDS, FEW, MINE, invoke, stopped
from conftest import TINY, tree

from aekit import jobs
from aekit.errors import OutputError, OutputExists
from aekit.images.sources import open_source
from aekit.model.codec import Codec
from aekit.outputs.staging import staged_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX systems")
JOURNALED = ("o.npy", "o.aek", "b", "i.npy")


def working_names(out: str) -> list[str]:
    names = [f"{out}.part", f"{out}.journal"] if out in JOURNALED else [f"{out}.part"] if out == "r" else []
    return [*names, "o.jsonl.part"] if out == "o.npy" else names


NAMES = [(out, name) for out in COMMANDS for name in working_names(out)]


@pytest.mark.parametrize("kind", ["link", "link to a folder", "dangling link", "fifo", "file", "folder"])
@pytest.mark.parametrize(("out", "name"), NAMES, ids=[f"{out}-{name}" for out, name in NAMES])
def test_what_lies_at_a_working_name_is_neither_followed_nor_removed(
    work: Path, out: str, name: str, kind: str
) -> None:
    path = work / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "file":
        path.write_bytes(MINE)
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_bytes(MINE)
    else:
        path.symlink_to(work / "else" / {"link": "mine", "link to a folder": ""}.get(kind, "nothing"))
    before, status = tree(work), os.lstat(path)
    for options in ((), ("--overwrite",), ("--resume",)):
        if out == "r" and options == ("--resume",):
            continue
        with pytest.raises(OutputError, match=name.replace(".", r"\.")) as caught:
            invoke(*COMMANDS[out], *options)
        assert "\n" not in str(caught.value)
        assert tree(work) == before
        assert os.lstat(path).st_ino == status.st_ino
        assert not (work / "else" / "nothing").exists()


def test_a_picture_of_sample_has_no_working_name_that_anyone_knows(work: Path) -> None:
    (work / "p.png.part").symlink_to("else/mine")
    invoke(*COMMANDS["p.png"])
    assert (work / "else" / "mine").read_bytes() == MINE
    assert [path.name for path in work.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_process_left_under_a_random_name_is_removed(tmp_path: Path) -> None:
    code = "import os, pathlib; from aekit.outputs.staging import staged_file\n"
    code += "with staged_file(pathlib.Path('a.png')) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".aekit-mine.part").write_bytes(MINE)
    with staged_file(tmp_path / "a.png") as part:
        part.write_text("new")
    assert tree(tmp_path) == {"a.png": b"new", ".aekit-mine.part": MINE}


def test_a_link_put_into_a_folder_that_is_resumed_is_not_followed(work: Path) -> None:
    stopped(Path("made"))
    assert (work / "made.part/a").is_dir()
    (work / "made.part/b").symlink_to(work / "else")
    before = tree(work)
    with pytest.raises(OutputError, match=r"made\.part/b: expected files and folders that aekit wrote, found a link"):
        invoke("denoise", "in", "--out", "made", "--resume", "--batch-size", "2", "--workers", "0", "--threads", "1")
    assert {name: data for name, data in tree(work).items() if "journal" not in name} == {
        name: data for name, data in before.items() if "journal" not in name
    }


def test_a_part_swapped_for_another_file_is_not_ours(work: Path) -> None:
    stopped(Path("c.npy"), "compress")
    part = work / "c.npy.part"
    part.rename(work / "kept")
    part.write_bytes(MINE)
    with pytest.raises(OutputExists, match=r"c\.npy\.part.*did not make it"):
        jobs.compress(open_source("in"), Path("c.npy"), Codec.load(TINY, "cpu", 1), FEW)
    assert part.read_bytes() == MINE


def test_a_job_that_was_moved_to_another_folder_is_resumed(work: Path) -> None:
    stopped(Path("c.npy"), "compress")
    (work / "there").mkdir()
    for path in work.glob("c.*"):
        shutil.copy(path, work / "there" / path.name)
        path.unlink()
    codec = Codec.load(TINY, "cpu", 1)
    done = jobs.compress(open_source("in"), Path("there/c.npy"), codec, replace(FEW, resume=True))
    assert done.resumed == 2
    assert sorted(path.name for path in (work / "there").iterdir()) == ["c.jsonl", "c.npy"]
