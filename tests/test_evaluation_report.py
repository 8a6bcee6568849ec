"""The report: headline figures of the codes that are stored, a PCA figure or the reason why there is none, no trust in
a stranger's model.json."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, json_output, made_images, one_line_error
from PIL import Image
from test_bundle import rewrite

from aekit import jobs
from aekit.codes.tables import pack_tables
from aekit.errors import OptionError
from aekit.evaluation import report
from aekit.evaluation.figures import on_canvas
from aekit.evaluation.metrics import mse
from aekit.evaluation.opening import open_test_images
from aekit.images.sources import fingerprint, open_source, read_all
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec

GOLDEN = Path(__file__).parent / "data" / "golden" / "0.1.0"


def figures_of(model: Path, images: Any) -> dict[str, Any]:
    return report.evaluate(Codec.load(model, "cpu"), report.TestImages(images, "images")).figures


def test_headline_figures_are_of_the_codes_that_the_model_stores() -> None:
    images = np.load(GOLDEN / "train.npy")[:20]
    rate, plain = (figures_of(GOLDEN / name / "model", images) for name in ("rate", "plain"))
    assert (rate["headline_codes"], plain["headline_codes"]) == ("uint8", "float32")
    assert (rate["mse"], rate["psnr"]) == (rate["uint8_mse"], rate["uint8_psnr"])
    assert rate["mse"] != rate["float_mse"] and rate["bytes_per_image"] == rate["code_dim"]
    assert (plain["mse"], plain["psnr"]) == (plain["float_mse"], plain["float_psnr"])
    assert plain["bytes_per_image"] == 4 * plain["code_dim"]


def test_the_picture_shows_the_codes_that_the_model_stores() -> None:
    images = np.load(GOLDEN / "train.npy")[:5]
    codec = Codec.load(GOLDEN / "rate" / "model", "cpu")
    shown = report.evaluate(codec, report.TestImages(images, "images")).reconstructions
    np.testing.assert_array_equal(np.stack(shown), codec.reconstruct(images, "uint8"))


def test_pca_comes_from_model_json_where_the_run_is_not_at_hand(model: Path) -> None:
    training = Bundle.read(model).manifest["training"]
    rewrite(model, training={**training, "pca_mse": {"mse": 0.0125, "code_dim": 4, "images": 50}})
    figures = figures_of(model, made_images(9))
    assert (figures["pca_mse"], figures["pca_code_dim"]) == (0.0125, 4)
    assert figures["pca_note"] == "on the 50 images that training held out, as model.json says"


@pytest.mark.parametrize("stored", [None, 3, {}, {"mse": "x", "code_dim": 4, "images": 5}, {"mse": -1, "code_dim": 4}])
def test_a_missing_pca_figure_is_never_a_silent_null(model: Path, stored: object, aekit: Run, tmp_path: Path) -> None:
    rewrite(model, training={**Bundle.read(model).manifest["training"], "pca_mse": stored})
    np.save(tmp_path / "in.npy", made_images(9))
    found = json_output(aekit("evaluate", "in.npy", "--model", model, "--json"))
    assert found["pca_mse"] is None and "name the model's run with --run" in str(found["pca_note"])
    said = aekit("evaluate", "in.npy", "--model", model, "--overwrite").stdout
    assert "PCA of 4 numbers: unknown: it is not in model.json" in said


def test_a_strangers_model_json_names_no_path_to_read(model: Path, aekit: Run, pictures: Path) -> None:
    for data in (str(pictures), "pictures", "/etc"):
        rewrite(model, training={"data": data, "run_id": "x"})
        assert "SOURCE: expected images to evaluate on" in one_line_error(aekit("evaluate", "--model", model))


def test_a_strangers_expression_is_not_run(model: Path, pictures: Path) -> None:
    bundle = Bundle.read(model)
    images, names, _ = read_all(open_source(str(pictures), "test"), bundle.spec.geometry)
    evil = {"fingerprint": fingerprint(images, names), "group_by": "(a|a?)+$"}
    rewrite(model, training=evil)
    with pytest.raises(OptionError, match=r"--group-by: .* in model.json only; name the model's run with --run"):
        open_test_images(str(pictures), Bundle.read(model))
    trusted = open_test_images(str(pictures), Bundle.read(model), "^./0")
    assert 0 < len(trusted.images) < len(images)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of 20 colour pictures of eight sizes."""
    from grid_models import made_pictures

    folder = tmp_path / "mixed"
    folder.mkdir()
    for row, picture in enumerate(made_pictures(20, seed=5)):
        Image.fromarray(picture).save(folder / f"{row:02d}.png")
    return folder


def test_pictures_of_any_size_are_measured_one_by_one(mixed: Path, grid_codec: Codec) -> None:
    test = open_test_images(str(mixed), grid_codec.bundle)
    assert isinstance(test.images, list) and len({image.shape for image in test.images}) == 8
    found = report.evaluate(grid_codec, test)
    figures = found.figures
    back = grid_codec.reconstruct(test.images, "uint8")
    errors = [mse(image, other) for image, other in zip(test.images, back, strict=True)]
    assert figures["mse"] == figures["uint8_mse"] == pytest.approx(np.mean(errors))
    codes = grid_codec.encode(test.images, "uint8")
    assert figures["uint8_bytes_per_image"] == sum(code.size for code in codes) / 20
    assert figures["pca_mse"] is None and "PCA of whole images needs images of one size" in figures["pca_note"]
    pixels = sum(image.shape[0] * image.shape[1] for image in test.images)
    assert figures["archive_bits_per_pixel"] * pixels == pytest.approx(8 * 20 * figures["archive_bytes_per_image"])
    assert figures["codecs"]["mse"] == pytest.approx(np.mean(errors))  # all of them are tried on all codecs
    assert [image.shape for image in found.shown] == [image.shape for image in found.reconstructions]


def test_the_bytes_of_grid_codes_are_those_that_compress_writes(mixed: Path, tmp_path: Path, grid_codec: Codec) -> None:
    figures = report.evaluate(grid_codec, open_test_images(str(mixed), grid_codec.bundle)).figures
    made = jobs.compress(open_source(str(mixed)), tmp_path / "codes.aek", grid_codec)
    assert figures["archive_bytes_per_image_with_names"] == made.bytes / 20
    named, unnamed = figures["archive_bytes_per_image_with_names"], figures["archive_bytes_per_image"]
    assert 0 < named - unnamed < 12
    assert figures["entropy_bytes_per_image"] < unnamed - figures["archive_header_bytes"] / 20


def test_what_a_grid_model_was_trained_on_is_left_out(mixed: Path, grid_model: Path) -> None:
    bundle = Bundle.read(grid_model)
    images, names, _ = read_all(open_source(str(mixed)), bundle.spec.geometry)
    rewrite(grid_model, training={"fingerprint": fingerprint(images, names)})
    found = open_test_images(str(mixed), Bundle.read(grid_model))
    assert 0 < len(found.images) < 20 and len(found.paths) == len(found.images)
    assert "the held-out part" in found.description


def test_the_command_measures_a_grid_model_and_draws_pictures_of_all_sizes(
    mixed: Path, grid_model: Path, aekit: Run, tmp_path: Path
) -> None:
    done = aekit("evaluate", "mixed", "--model", grid_model)
    assert done.returncode == 0, done.stderr
    assert "20 images: all of mixed" in done.stdout
    assert "bits a pixel" in done.stdout and "best of codecs and scales: " in done.stdout
    with Image.open(tmp_path / "report" / "reconstructions.png") as picture:
        assert picture.mode == "RGB"
        # Ten columns as wide as the widest picture, two rows as high as the highest one, and gaps of 2 pixels.
        assert picture.size == (10 * 72 + 2, 2 * 66 + 2)


def test_pictures_of_differing_sizes_lie_in_the_middle_of_a_canvas() -> None:
    small, large = np.zeros((2, 4, 1), np.uint8), np.full((700, 10, 1), 9, np.uint8)
    first, second = on_canvas([small, large])
    assert first.shape == second.shape == (512, 10, 1)
    assert first[255:257, 3:7].max() == 0 and first.sum(dtype=int) == 255 * (5120 - 8)
    assert (second == 9).all()


def test_bytes_of_a_model_with_a_context_model_are_those_of_its_archive(
    mixed: Path, tmp_path: Path, grid_model: Path, grid_codec: Codec
) -> None:
    from context_models import random_model

    test = open_test_images(str(mixed), grid_codec.bundle)
    assert report.evaluate(grid_codec, test).figures["entropy_model"] == "tables"
    rewrite(grid_model, context=pack_tables(random_model((2, 4), seed=1)))
    codec = Codec.load(grid_model, "cpu", threads=1)
    figures = report.evaluate(codec, test).figures
    assert figures["entropy_model"] == "context"
    made = jobs.compress(open_source(str(mixed)), tmp_path / "codes.aek", codec)
    assert figures["archive_bytes_per_image_with_names"] == made.bytes / 20
