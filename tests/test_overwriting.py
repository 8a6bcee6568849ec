"""What --overwrite may replace: what aekit made, and nothing that is being read."""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacked import COMMANDS, FEW, MINE, invoke
from conftest import TINY, made_images, tree
from PIL import Image

from aekit import jobs
from aekit.codes.archive.container import MAGIC
from aekit.errors import OutputError, OutputExists
from aekit.evaluation.report import PICTURE, REPORT
from aekit.model.codec import Codec
from aekit.outputs import ours
from aekit.outputs.staging import check_free, staged_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX systems")


def foreign_file(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, made_images(3))
    elif path.suffix == ".png":
        Image.new("L", (4, 4)).save(path)
    else:
        path.write_bytes(MINE)


@pytest.mark.parametrize("out", ["o.npy", "o.aek", "i.npy", "p.png"])
def test_overwrite_replaces_our_files_and_no_others(work: Path, out: str) -> None:
    foreign_file(work / out)
    before = tree(work)
    with pytest.raises(
        OutputExists, match=f"{out}.*aekit did not make it.*remove it yourself, or choose another --out"
    ):
        invoke(*COMMANDS[out], "--overwrite")
    assert tree(work) == before
    (work / out).unlink()
    invoke(*COMMANDS[out])
    invoke(*COMMANDS[out], "--overwrite")
    (work / out).write_bytes(b"")
    invoke(*COMMANDS[out], "--overwrite")  # nothing is lost with an empty file


def test_an_index_of_somebody_else_stays(work: Path) -> None:
    (work / "o.jsonl").write_bytes(b'{"a line": "of my own"}\n')
    with pytest.raises(OutputExists, match=r"o\.jsonl.*aekit did not make it"):
        invoke(*COMMANDS["o.npy"], "--overwrite")
    assert (work / "o.jsonl").read_bytes() == b'{"a line": "of my own"}\n'


@pytest.mark.parametrize("marker", ["model.json", "report.json", "aekit.json"])
@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON", '{"name": "my own app", "files": {}, "images": 3}'])
def test_a_folder_with_a_marker_of_that_name_alone_is_not_ours(tmp_path: Path, marker: str, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / marker).write_text(text)
    before = tree(tmp_path)
    opened = staged_folder(tmp_path / "out", marker, overwrite=True)
    with pytest.raises(OutputExists, match=f"holds no {marker} of aekit's"), opened:
        pass
    assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["b", "r"])
def test_a_file_that_was_added_to_a_folder_of_ours_is_named(work: Path, out: str) -> None:
    invoke(*COMMANDS[out])
    invoke(*COMMANDS[out], "--overwrite")
    for name in ("notes.txt", "deep/er.png"):
        path = work / out / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(MINE)
        before = tree(work)
        with pytest.raises(OutputExists, match=name):
            invoke(*COMMANDS[out], "--overwrite")
        assert tree(work) == before
        path.unlink()


def nest(folder: Path, levels: int) -> int:
    """Make folders in folders; returns a descriptor of the innermost, whose path may be too long for the system."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    return place


def test_a_folder_of_ours_with_folders_1100_deep_is_replaced_whole(work: Path) -> None:
    invoke(*COMMANDS["b"])
    os.close(nest(work / "b", 1100))
    invoke(*COMMANDS["b"], "--overwrite")
    assert not (work / "b" / "d").exists()
    assert not list(work.glob("b.*"))


@pytest.mark.parametrize("levels", [1100, 2500])
def test_a_file_of_somebody_else_stays_however_deep_it_lies(work: Path, levels: int) -> None:
    invoke(*COMMANDS["b"])
    place = nest(work / "b", levels)
    os.close(os.open("mine", os.O_WRONLY | os.O_CREAT, dir_fd=place))
    try:
        with pytest.raises(OutputError, match=r"aekit did not write d/|File name too long"):
            invoke(*COMMANDS["b"], "--overwrite")
        assert os.listdir(place) == ["mine"]
    finally:
        os.close(place)
        subprocess.run(["rm", "-rf", str(work / "b")], check=True)  # pytest would recurse


def test_models_of_earlier_versions_are_known_and_a_file_beside_the_graphs_is_not(tmp_path: Path) -> None:
    golden = sorted((Path(__file__).parent / "data" / "golden").glob("*/*/model"))
    assert golden
    for number, model in enumerate([TINY, *golden]):
        copy = Path(shutil.copytree(model, tmp_path / f"model-{number}"))
        assert ours.foreign_part(copy, "model.json") is None
        (copy / "README.md").write_bytes(MINE)
        assert ours.foreign_part(copy, "model.json") == "aekit did not write README.md in it"
    for folder in {model.parent for model in golden}:
        for path in [*folder.glob("*.aek"), *folder.glob("*.jsonl"), *map(folder.joinpath, ("named.npy", "small.npy"))]:
            check_free(path, overwrite=True)
    assert ours.ARCHIVE_MAGIC == MAGIC and {"report.json", "reconstructions.png"} == {REPORT, PICTURE}


def test_images_of_ours_are_read_by_numpy(work: Path) -> None:
    invoke(*COMMANDS["i.npy"])
    assert np.load("i.npy", mmap_mode="r").shape == (4, 16, 16, 1)


def test_overwrite_never_replaces_an_input(work: Path) -> None:
    invoke("sample", "--n", 2, "--out", "a.png")
    invoke("evaluate", "in", "--out", "r")
    invoke("reconstruct", "codes.npy", "--out", "b")
    shutil.copytree(TINY, "b/model")
    for number, path in enumerate(sorted((work / "in").rglob("*.png"))):
        shutil.copy(path, work / "r" / f"{number}.png")
    shutil.copy("codes.jsonl", "idx.jsonl")
    before = tree(work)
    for arguments in (
        ["sample", "--interpolate", "a.png", "in/a/000.png", "--out", "a.png"],
        ["sample", "--interpolate", "in/a/000.png", "a.png", "--out", "./b/../a.png"],
        ["evaluate", "r", "--out", "r"],
        ["evaluate", "in", "--out", "in/r"],
        ["reconstruct", "codes.npy", "--out", "b", "--model", "b/model"],
        ["reconstruct", "codes.npy", "--out", "codes.npy"],
    ):
        with pytest.raises(OutputError):
            invoke(*arguments, "--overwrite")
        assert tree(work) == before
    with pytest.raises(OutputError, match=r"idx\.jsonl: expected a place apart from idx\.jsonl"):
        jobs_out = Path("idx.npy")
        jobs.compress(Named("idx.jsonl"), jobs_out, Codec.load(TINY, "cpu", 1), replace(FEW, overwrite=True))  # type: ignore[arg-type]
    assert tree(work) == before


class Named:
    """An idx source as far as `compress` looks at it before it reads: its name, and that it has no paths."""

    paths = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __len__(self) -> int:
        return 3
