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
    assert load_training_data(str(pictures)).geometry.channels == 3
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
    np.save(tmp_path / "a.npy", np.zeros((4, side, side), np.uint8))
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
    from aekit.sources import open_source
    from aekit.splits import hold_out

    paths = open_source(str(gtsrb)).paths
    assert paths is not None
    held = hold_out(paths, r"^(\d+/\d+)_")
    tracks = [path.rsplit("_", 1)[0] for path in paths]
    sides = [{track for track, is_held in zip(tracks, held, strict=True) if is_held == side} for side in (True, False)]
    assert not sides[0] & sides[1]
    assert 0.09 < held.mean() < 0.12
