"""Training data: geometry, held-out images, and sets that can't be trained on."""

from pathlib import Path

import numpy as np
import pytest
from conftest import made_images, write_pictures
from PIL import Image

from aekit.errors import OptionError, SourceError
from aekit.training.data import load_training_data


def test_folder_of_one_size_needs_no_size(pictures: Path) -> None:
    data = load_training_data(str(pictures))
    assert data.geometry.shape == (16, 16, 1)
    assert (len(data.train), len(data.validation)) == (11, 1)


def test_held_out_images_are_none_of_the_others(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 40)
    data = load_training_data(str(tmp_path / "p"))
    train = {image.tobytes() for image in data.train}
    assert len(data.validation) == 4
    assert not any(image.tobytes() in train for image in data.validation)


def test_differing_sizes_ask_for_a_size(pictures: Path) -> None:
    Image.new("L", (20, 18)).save(pictures / "odd.png")
    with pytest.raises(OptionError, match=r"16x16 to 18x20; say what to train at, for example --size"):
        load_training_data(str(pictures))
    assert load_training_data(str(pictures), (24, 12)).geometry.shape == (24, 12, 1)


def test_colour_is_as_the_images_are_or_as_asked(pictures: Path) -> None:
    Image.new("RGB", (16, 16), (200, 10, 10)).save(pictures / "red.png")
    with pytest.raises(
        OptionError, match=r"differ in colour: found 1 in colour, 12 gray; say what to train on, --rgb or"
    ):
        load_training_data(str(pictures))
    assert load_training_data(str(pictures), channels=3).geometry.channels == 3
    assert load_training_data(str(pictures), channels=1).geometry.channels == 1


def test_bad_files_are_listed_and_left_out(pictures: Path) -> None:
    (pictures / "bad.png").write_bytes(b"")
    data = load_training_data(str(pictures))
    assert [(record.path, record.error) for record in data.skipped] == [("bad.png", "empty file")]
    assert len(data.train) + len(data.validation) == 12


def test_one_image_is_no_set(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 1)
    with pytest.raises(SourceError, match="at least 2"):
        load_training_data(str(tmp_path / "p"))


@pytest.mark.parametrize("side", [4, 300])
def test_sides_outside_8_to_256_are_refused(tmp_path: Path, side: int) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, side, side, 1), np.uint8))
    with pytest.raises(OptionError, match="sides from 8 to 256"):
        load_training_data(str(tmp_path / "a.npy"))


def test_groups_need_paths(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", made_images(10))
    for source in (str(tmp_path / "a.npy"), "mnist-5k"):
        with pytest.raises(OptionError, match="--group-by"):
            load_training_data(source, group_by=r"^\d+")


def test_named_sets_bring_their_own_split(data_dir: Path) -> None:
    data = load_training_data("mnist")
    assert (len(data.train), len(data.validation)) == (55_000, 5_000)
    assert len(load_training_data("mnist-5k").train) == 3_500


def test_tracks_of_signs_stay_on_one_side(gtsrb: Path) -> None:
    """Frames of a track are near duplicates: held out by class and track, none has a twin in training."""
    from aekit.images.held_out import hold_out
    from aekit.images.sources import open_source

    paths = open_source(str(gtsrb)).paths
    assert paths is not None
    held = hold_out(paths, r"^(\d+/\d+)_")
    tracks = [path.rsplit("_", 1)[0] for path in paths]
    sides = [{track for track, is_held in zip(tracks, held, strict=True) if is_held == side} for side in (True, False)]
    assert not sides[0] & sides[1]
    assert 0.09 < held.mean() < 0.12


@pytest.mark.parametrize(("level", "what"), [(0, "of one constant colour"), (None, "the same")])
def test_images_that_do_not_differ_are_no_set(tmp_path: Path, level: int | None, what: str) -> None:
    image = made_images(1) if level is None else np.full((1, 16, 16, 1), level, np.uint8)
    np.save(tmp_path / "a.npy", image.repeat(2000, axis=0))
    with pytest.raises(SourceError, match=f"2,000 that are all {what}"):
        load_training_data(str(tmp_path / "a.npy"))


def test_a_set_larger_than_memory_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images either way, the large ones mapped and never copied whole."""
    np.save(tmp_path / "a.npy", made_images(3000))
    small = load_training_data(str(tmp_path / "a.npy"))
    monkeypatch.setattr("os.sysconf", lambda _: 700)  # 490,000 bytes of memory
    large = load_training_data(str(tmp_path / "a.npy"))
    assert isinstance(large.train, np.memmap) and not isinstance(small.train, np.memmap)
    assert np.array_equal(large.train, small.train) and np.array_equal(large.validation, small.validation)
    assert large.facts() == small.facts()


def test_partition_keeps_every_image_once(tmp_path: Path) -> None:
    images = made_images(2500)
    np.save(tmp_path / "a.npy", images)
    data = load_training_data(str(tmp_path / "a.npy"))
    together = np.concatenate([data.train, data.validation])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in images)
