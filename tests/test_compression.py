"""The benchmark of compression: exported models of grid codes beside codecs, on a folder, from models to results."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import common
import compression
import envelope
from grid_models import made_pictures
from PIL import Image

from aekit import jobs
from aekit.evaluation.metrics import mse
from aekit.images.sources import open_source
from aekit.model.codec import Codec


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for results; codecs are WebP and JPEG at few qualities."""
    folder = tmp_path / "results"
    for module in (common, compression):
        monkeypatch.setattr(module, "RESULTS", folder)
    few = {"JPEG": (5, 40, 90), "WebP": (0, 20, 60, 90)}
    for module in (envelope, compression):
        monkeypatch.setattr(module, "QUALITIES", few)
    return folder


@pytest.fixture
def test_pictures() -> list[np.ndarray]:
    """Colour pictures of eight sizes, none of them shorter than eight pixels."""
    return [picture for picture in made_pictures(24, seed=3) if min(picture.shape[:2]) >= 8]


def test_a_model_is_compared_with_codecs_on_the_same_pictures(
    results: Path, grid_model: Path, grid_codec: Codec, test_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    compression.run("made", test_pictures, [grid_model], 6, [])
    found = json.loads((results / "compression-made.json").read_text(encoding="utf-8"))
    back = grid_codec.reconstruct(test_pictures, "uint8")
    errors = [mse(picture, other) for picture, other in zip(test_pictures, back, strict=True)]
    (model,), (row,) = found["models"], found["compared"]
    assert model["MSE"] == pytest.approx(np.mean(errors)) and model["pictures"] == len(test_pictures)
    shared = np.linspace(0, len(test_pictures) - 1, 6).astype(int)
    assert row["MSE"] == pytest.approx(np.mean([errors[place] for place in shared]))
    assert found["pictures codecs were tried on"] == 6
    for size in ("files", "without headers"):
        assert row[f"ratio, {size}"] == pytest.approx(row[f"aekit, {size}"] / row[f"envelope, {size}"])
    assert row["who wins"].startswith("aekit") == (row["ratio, files"] < 1)
    assert {entry["against"] for entry in found["BD-rate"]} >= {"envelope", "WebP, all scales", "JPEG, native"}
    said = (results / "compression-made.md").read_text(encoding="utf-8")
    assert row["who wins"] in said and row["best setting"] in said
    for picture in ("compression-made.png", "compression-made-pictures.png"):
        assert Image.open(results / picture).size[0] > 500
        assert f"({picture})" in said


def test_its_bytes_are_those_of_a_real_archive(
    results: Path, grid_model: Path, grid_codec: Codec, test_pictures: list[np.ndarray], tmp_path: Path
) -> None:
    measured = compression.Measured(grid_model, test_pictures, range(len(test_pictures)))
    for row, picture in enumerate(test_pictures):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / f"{row:02d}.png")
    made = jobs.compress(open_source(str(tmp_path / "in")), tmp_path / "codes.aek", grid_codec)
    names = made.bytes / len(test_pictures) - measured.row["bytes"]
    assert 0 < names < 12
    assert measured.shared.bytes == pytest.approx(measured.row["bytes"])
    assert measured.shared.payload == measured.row["payload"] < measured.row["bytes"]


def test_halved_copies_of_a_folder_are_half_as_large(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    picture = made_pictures(1)[0]
    Image.fromarray(picture).save(tmp_path / "in" / "deep" / "a.bmp")
    compression.halve_folder(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out" / "deep" / "a.png") as found:
        np.testing.assert_array_equal(np.asarray(found), compression.halved(picture))
