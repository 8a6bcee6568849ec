"""The report: headline figures of the codes that are stored, a PCA figure or the reason why there is none, no trust in
a stranger's model.json."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, json_output, made_images, one_line_error
from test_bundle import rewrite

from aekit.errors import OptionError
from aekit.evaluation import report
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
        report.open_test_images(str(pictures), Bundle.read(model))
    trusted = report.open_test_images(str(pictures), Bundle.read(model), "^./0")
    assert 0 < len(trusted.images) < len(images)
