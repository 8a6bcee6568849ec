"""paths: any path, however odd, costs one line; deep folders are walked; files cut short while read are errors."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from PIL import Image

from aekit.codes.archive import Archive
from aekit.codes.npy import CodeFile
from aekit.errors import AekitError, SourceError
from aekit.images.arrays import load_images, read_idx
from aekit.images.decode import decode_file
from aekit.images.paths import find_images, kind_of
from aekit.images.sources import open_source
from aekit.spec import Geometry

GRAY = Geometry(16, 16, 1)


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "file/x", "\udfff\ud800", "p" * 5000, "loop/x"])
@pytest.mark.parametrize("suffix", ["", ".png", ".npy", ".npz", ".aek"])
def test_odd_paths_cost_one_line(tmp_path: Path, name: str, suffix: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / f"{name}{suffix}"
    readers = (lambda path: open_source(str(path)), load_images, read_idx, CodeFile.open, Archive.open, find_images)
    for read in (*readers, lambda path: decode_file(path, GRAY)):
        with pytest.raises(AekitError) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["p.npy", "p.npz", "p.aek", "p.png", "p"])
def test_pipes_are_refused_before_they_are_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert kind_of(tmp_path / name) == "a pipe"
    for read in (load_images, read_idx, CodeFile.open, Archive.open, lambda path: open_source(str(path))):
        with pytest.raises(AekitError, match="a pipe"):
            read(tmp_path / name)


def test_a_pipe_for_an_index_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "codes.npy", np.zeros((2, 4), np.uint8))
    os.mkfifo(tmp_path / "codes.jsonl")
    with pytest.raises(AekitError, match="a pipe"):
        CodeFile.open(tmp_path / "codes.npy")


def test_1500_nested_folders_are_walked(tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        Image.new("L", (4, 4)).save("x.png")
        os.chdir(here)
        assert find_images(tmp_path) == ["d/" * 1500 + "x.png"]
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # too deep for pytest to remove on Python 3.11


CUT = """
import os, sys
from aekit.errors import AekitError
from aekit.images.sources import open_source
from aekit.codes.npy import CodeFile
from aekit.spec import Geometry
path, kind = sys.argv[1:]
opened = open_source(path) if kind == "images" else CodeFile.open(path, index=False)
os.truncate(path, 4096)
try:
    if kind == "images":
        opened.read(900, 1000, Geometry(16, 16, 1))
    else:
        list(opened.batches(100, None if kind == "codes" else [5, 900]))
except AekitError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["images", "codes", "rows"])
def test_a_mapped_file_cut_short_while_it_is_read_is_an_error_and_no_death(tmp_path: Path, kind: str) -> None:
    array = np.zeros((1000, 16, 16) if kind == "images" else (1000, 256), np.uint8)
    np.save(tmp_path / "a.npy", array)
    command = [sys.executable, "-c", CUT, str(tmp_path / "a.npy"), kind]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cut short while it was read" in done.stdout and done.stdout.count("\n") == 1


def test_rows_of_a_mapped_slice_are_the_slices_own(tmp_path: Path) -> None:
    from aekit.images.arrays import read_rows

    images = np.random.default_rng(0).integers(0, 256, (500, 16, 16, 1), np.uint8)
    np.save(tmp_path / "a.npy", images)
    part = load_images(tmp_path / "a.npy")[100:400]
    np.testing.assert_array_equal(read_rows(part, 7, 50, "a"), images[107:150])
    np.testing.assert_array_equal(read_rows(part, 290, 999, "a"), images[390:400])


@pytest.mark.parametrize("last", [3, 4])
def test_an_array_that_is_one_colour_image_or_many_gray_ones_is_refused(tmp_path: Path, last: int) -> None:
    array = np.zeros((20, 30, last), np.uint8)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(SourceError, match=r"one colour image or 20 gray ones.*array\[None\].*array\[\.\.\., None\]"):
        load_images(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", array[..., None])
    assert load_images(tmp_path / "a.npy").shape == (20, 30, last, 1)
    np.save(tmp_path / "a.npy", made_images(2).repeat(3, axis=3))
    assert load_images(tmp_path / "a.npy").shape == (2, 16, 16, 3)
