"""outputs: whole or not at all, and nothing is removed that aekit did not make."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import tree

from aekit.errors import OutputError, OutputExists
from aekit.outputs.staging import check_folder_free, check_free, staged_file, staged_folder

MARKER = "aekit.json"


OLD = json.dumps({"made_by": "aekit 0.1 denoise", "model_id": "0123456789abcdef", "images": 2})
"""The marker of a folder of pictures that aekit made."""


def fill(folder: Path, text: str = OLD, marker: str = MARKER) -> Path:
    folder.mkdir(parents=True)
    (folder / marker).write_text(text)
    return folder


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.npy"
    with staged_file(path) as part:
        part.write_text("half")
        assert not path.exists()
    assert tree(tmp_path) == {"new/a.npy": b"half"}


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged_file(tmp_path / "a.npy") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert tree(tmp_path) == {"a.npy": b"old"}


def test_a_file_where_something_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    check_free(tmp_path / "free", overwrite=False)
    check_free(tmp_path / "file", overwrite=True)
    with pytest.raises(OutputExists, match="give --overwrite to replace it"):
        check_free(tmp_path / "file", overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="found a folder"):
            check_free(tmp_path / "folder", overwrite=overwrite)


@pytest.mark.parametrize("state", ["absent", "empty", "ours"])
def test_a_folder_takes_its_name_when_it_is_whole(tmp_path: Path, state: str) -> None:
    out = tmp_path / "out"
    if state == "empty":
        out.mkdir()
    if state == "ours":
        fill(out)
        (out / "left.png").touch()
    with staged_folder(out, MARKER, overwrite=True) as part:
        (part / MARKER).write_text("new")
        assert "out/new.png" not in tree(tmp_path)
    assert tree(tmp_path) == {"out/aekit.json": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out", MARKER, overwrite=True) as part:
        (part / "a.png").touch()
        raise KeyboardInterrupt
    assert tree(tmp_path) == {"out/aekit.json": OLD.encode()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_ours_needs_overwrite(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    check_folder_free(tmp_path / "out", MARKER, overwrite=True)
    with pytest.raises(OutputExists, match="--overwrite"):
        check_folder_free(tmp_path / "out", MARKER, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_aekit_did_not_make_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    fill(tmp_path / "folder", marker="thesis.tex")
    fill(tmp_path / "other", marker="model.json")  # aekit's, but of another kind
    (tmp_path / "file").write_text("mine")
    before = tree(tmp_path)
    for name in ("folder", "other", "file"):
        opened = staged_folder(tmp_path / name, MARKER, overwrite=overwrite)
        with pytest.raises(OutputExists, match="aekit did not make it"), opened:
            pass
    assert tree(tmp_path) == before


@pytest.mark.parametrize("inside", ["thesis.tex", MARKER])  # a user may keep an older output of aekit's there
@pytest.mark.parametrize("name", ["out.part", "out.old"])
def test_a_neighbour_with_a_working_name_is_never_removed(tmp_path: Path, name: str, inside: str) -> None:
    fill(tmp_path / "out")
    fill(tmp_path / name, marker=inside)
    before = tree(tmp_path)
    opened = staged_folder(tmp_path / "out", MARKER, overwrite=True)
    with pytest.raises(OutputExists, match=rf"{name}.*aekit did not make it"), opened as part:
        (part / MARKER).write_text("new")
    assert tree(tmp_path) == before


def test_what_a_killed_job_left_is_cleared(tmp_path: Path) -> None:
    fill(tmp_path / "out")
    staging = staged_folder(tmp_path / "out", MARKER, overwrite=True)
    killed = staging.__enter__()  # and never left
    (killed / "half.png").touch()
    (fill(tmp_path / "out.old") / ".aekit-old").touch()
    with staged_folder(tmp_path / "out", MARKER, overwrite=True) as part:
        assert not (part / "half.png").exists()
        (part / MARKER).write_text("new")
    assert tree(tmp_path) == {"out/aekit.json": b"new"}


KILLED = """
import os, sys
from pathlib import Path
from aekit.outputs import staging as outputs

def replace(*names):
    global left
    if not left:
        os.kill(os.getpid(), 9)
    left -= 1
    os.rename(*names)

left, os.replace = int(sys.argv[1]), replace
with outputs.staged_folder(Path("out"), "aekit.json", overwrite=True) as part:
    (part / "aekit.json").write_text("new")
"""


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_at_a_rename_loses_neither_the_old_folder_nor_the_next_job(tmp_path: Path, renames: int) -> None:
    """A real process, killed before its first and its second rename."""
    fill(tmp_path / "out")
    old = tree(tmp_path / "out")
    done = subprocess.run([sys.executable, "-c", KILLED, str(renames)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with pytest.raises(OutputExists, match="--overwrite"), staged_folder(tmp_path / "out", MARKER, overwrite=False):
        pass
    assert tree(tmp_path / "out") == old
    with staged_folder(tmp_path / "out", MARKER, overwrite=True) as part:
        (part / MARKER).write_text("new")
    assert tree(tmp_path) == {"out/aekit.json": b"new"}


def test_links_in_an_old_folder_are_never_followed_and_aekit_did_not_make_them(tmp_path: Path) -> None:
    (tmp_path / "else" / "where").mkdir(parents=True)
    (tmp_path / "else" / "where" / "x.png").write_text("mine")
    fill(tmp_path / "out")
    (tmp_path / "out" / "a").symlink_to(tmp_path / "else" / "where", target_is_directory=True)
    (tmp_path / "out" / "b.png").symlink_to(tmp_path / "else" / "where" / "x.png")
    before = tree(tmp_path)
    for link in ("a", "b.png"):
        opened = staged_folder(tmp_path / "out", MARKER, overwrite=True)
        with pytest.raises(OutputExists, match=f"aekit did not write {link}"), opened:
            pass
        assert tree(tmp_path) == before
        (tmp_path / "out" / link).unlink()
    (tmp_path / "out.part").mkdir()  # left by a killed job, where links were put in afterwards
    (tmp_path / "out.part" / ".aekit-part").touch()
    (tmp_path / "out.part" / "a").symlink_to(tmp_path / "else" / "where", target_is_directory=True)
    with staged_folder(tmp_path / "out", MARKER, overwrite=True) as part:
        (part / MARKER).write_text("new")
        (part / "a").mkdir()
        for name in ("a/x.png", "b.png"):
            (part / name).write_text("new")
    assert tree(tmp_path) == {
        "else/where/x.png": b"mine",
        **{f"out/{name}": b"new" for name in (MARKER, "a/x.png", "b.png")},
    }


def test_a_place_that_has_no_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("."), Path("/")):
        with pytest.raises(OutputError), staged_folder(path, MARKER, overwrite=True):
            pass
    assert tmp_path.is_dir()


@pytest.mark.parametrize("staged", [staged_file, lambda path: staged_folder(path, MARKER, overwrite=False)])
def test_a_place_that_can_not_be_written_is_one_error(tmp_path: Path, staged: Any) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(OutputError, match=r"could not be written: found (Not a dir|File ex)"), staged(out):
        pass
    assert tree(tmp_path) == {"file": b""}
