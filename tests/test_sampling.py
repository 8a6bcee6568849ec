"""sampling: what latents are drawn from, kept in model.json and read back as what it is, untrusted; without torch."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, made_images
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_bundle import rewrite
from test_spec import JUNK

from aekit.errors import AekitError, BundleError, ImageError, OptionError
from aekit.evaluation.figures import check_grid, grid
from aekit.model.bundle import Bundle
from aekit.model.codec import BATCH_SIZE, Codec
from aekit.model.interpolation import interpolate
from aekit.model.sampling import MOST, MOST_COVARIANCE, LatentGaussian, sample
from aekit.spec import Geometry


def drawn(latents: LatentGaussian, count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.concatenate(list(latents.draw(count, seed)))


def packed(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


# --- the distribution


def test_the_fitted_gaussian_has_the_latents_mean_and_covariance() -> None:
    rng = np.random.default_rng(0)
    latents = (rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) * 40 + 128).astype(np.float32)
    fitted = LatentGaussian.fitted(latents)
    np.testing.assert_allclose(fitted.mean, latents.mean(axis=0), rtol=1e-5)
    covariance = np.cov(latents.T, bias=True)
    np.testing.assert_allclose(fitted.spread @ fitted.spread.T, covariance, atol=1e-4 * covariance.max())
    np.testing.assert_allclose(fitted.spread, np.linalg.cholesky(covariance), atol=1e-3)
    many = drawn(fitted, 50_000)
    np.testing.assert_allclose(many.mean(axis=0), fitted.mean, atol=2)
    np.testing.assert_allclose(np.cov(many.T), covariance, atol=0.03 * covariance.max())


def test_a_singular_covariance_moves_nothing_that_never_moved() -> None:
    """A still dimension, two that move as one, and fewer images than dimensions."""
    line = np.linspace(0, 255, 5, dtype=np.float32)
    latents = np.stack([line, np.full(5, 128, np.float32), 255 - line, *(np.eye(5, dtype=np.float32) * 9)], axis=1)
    many = drawn(LatentGaussian.fitted(latents), 200)
    assert np.isfinite(many).all()
    np.testing.assert_allclose(many[:, 1], 128, atol=1e-2)
    np.testing.assert_allclose(many[:, 0] + many[:, 2], 255, atol=1e-2)


def test_one_image_is_drawn_again_and_again() -> None:
    np.testing.assert_array_equal(drawn(LatentGaussian.fitted(np.array([[3, 4]], np.float32)), 3), [[3, 4]] * 3)


def test_of_long_codes_the_deviations_alone_are_kept() -> None:
    size = MOST_COVARIANCE + 1
    latents = np.random.default_rng(0).normal(5, np.arange(size), (400, size)).astype(np.float32)
    fitted = LatentGaussian.fitted(latents)
    assert fitted.to_dict().keys() == {"source", "mean", "std"}
    np.testing.assert_allclose(fitted.spread, latents.std(axis=0), rtol=1e-4)
    assert LatentGaussian.fitted(latents[:, :-1]).to_dict().keys() == {"source", "mean", "cholesky"}


def test_the_prior_is_n01_in_code_units() -> None:
    scale, offset = np.array([20, -3, 1e9], np.float32), np.array([128, 0, 128], np.float32)
    prior = LatentGaussian.prior(scale, offset)
    np.testing.assert_array_equal((prior.mean, prior.spread), (offset, [20, 3, 1e9]))
    z = (drawn(prior, 20_000) - offset) / scale  # what the decoder makes of them
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=0.03)


def test_the_same_seed_draws_the_same_and_a_longer_draw_begins_with_it() -> None:
    latents = LatentGaussian.fitted(made_images(60, 8, 8).reshape(60, 64).astype(np.float32))
    few, many = drawn(latents, 5), drawn(latents, BATCH_SIZE + 5)
    assert many.shape == (BATCH_SIZE + 5, 64) and many.dtype == np.float32
    np.testing.assert_allclose(many[:5], few, rtol=1e-4)
    np.testing.assert_array_equal(drawn(latents, 5), few)
    assert not np.allclose(drawn(latents, 5, seed=1), few)


# --- in model.json


@pytest.mark.parametrize("kind", ["prior", "training", "long"])
def test_what_is_written_is_read_to_the_same_bits(model: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    if kind == "prior":
        wanted = LatentGaussian.prior(rng.normal(size=4).astype(np.float32), np.ones(4, np.float32))
    elif kind == "training":
        wanted = LatentGaussian.fitted(rng.normal(size=(9, 4)).astype(np.float32))
    else:
        wanted = LatentGaussian("training", np.ones(4, np.float32), np.arange(4, dtype=np.float32))
    rewrite(model, latent=wanted.to_dict())
    found = LatentGaussian.of_model(Bundle.read(model))
    assert found.source == wanted.source
    np.testing.assert_array_equal(found.mean, wanted.mean)
    np.testing.assert_array_equal(found.spread, wanted.spread)


def test_a_model_without_it_says_to_export_again(model: Path) -> None:
    rewrite(model, latent=None)
    with pytest.raises(BundleError, match=r"model\.json: latent: .*found nothing; export the run again"):
        sample(Codec.load(model), 4)


GOOD = {"source": "training", "mean": packed(1, 2, 3, 4), "std": packed(1, 2, 3, 4)}


@pytest.mark.parametrize(
    "change",
    [
        {"source": None},
        {"source": "elsewhere"},
        {"source": []},
        {"mean": 3},
        {"mean": "not base64!"},
        {"mean": "ümlaut"},
        {"mean": ""},
        {"mean": packed(1, 2, 3)},
        {"mean": packed(1, 2, 3, np.nan)},
        {"mean": packed(1, 2, 3, np.inf)},
        {"mean": packed(1, 2, 3, -1e20)},
        {"std": packed(1, 2, 3, -1)},
        {"std": packed(*range(10))},
        {"cholesky": packed(*range(10))},
        {"std": None, "cholesky": packed(*range(4))},
        {"std": None, "cholesky": packed(*[1] * 9, -1)},
        {"std": None, "cholesky": [1] * 10},
        {"std": None},
        {"more": 1},
    ],
    ids=str,
)
def test_each_hostile_value_is_refused(model: Path, change: dict[str, Any]) -> None:
    values = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    rewrite(model, latent=values)
    with pytest.raises(BundleError, match=r"model\.json: latent"):
        sample(Codec.load(model), 2)


@given(JUNK)
def test_junk_never_raises_anything_but_a_named_error(tmp_path_factory: pytest.TempPathFactory, junk: Any) -> None:
    folder = tmp_path_factory.mktemp("junk")
    manifest = json.loads((TINY / "model.json").read_text())
    for latent in (junk, {**GOOD, "mean": junk}, {**GOOD, "source": junk}):
        (folder / "model.json").write_text(json.dumps({**manifest, "latent": latent}))
        with pytest.raises(AekitError):
            LatentGaussian.of_model(Bundle.read(folder))


@given(st.lists(st.floats(-(2.0**43), 2.0**43, width=32, allow_subnormal=False), min_size=14, max_size=14))
def test_what_is_accepted_is_drawn_and_finite(values: list[float]) -> None:
    bundle = Bundle.read(TINY)
    std = packed(*map(abs, values[4:8]))
    entry = {"source": "training", "mean": packed(*values[:4]), "std": std}
    gaussian = LatentGaussian.of_model(Bundle(TINY, bundle.spec, bundle.model_id, "fp32", {"latent": entry}))
    assert np.isfinite(drawn(gaussian, 3)).all()


# --- images


def test_samples_look_like_the_training_images(tiny_codec: Codec) -> None:
    images = sample(tiny_codec, 200)
    assert images.shape == (200, 16, 16, 1) and images.dtype == np.uint8
    real = made_images(200)
    assert abs(images.mean() - real.mean()) < 0.2 * real.mean()
    assert images.std(axis=0).mean() > 0.5 * real.std(axis=0).mean()  # they differ from one another
    np.testing.assert_array_equal(sample(tiny_codec, 5), sample(tiny_codec, 5))
    assert (sample(tiny_codec, 5, seed=1) != images[:5]).any()


@pytest.mark.parametrize("count", [-1, 0, MOST + 1])
def test_counts_out_of_range_are_refused(tiny_codec: Codec, tmp_path: Path, count: int) -> None:
    with pytest.raises(OptionError, match=r"--n: expected 1 to 10,000"):
        sample(tiny_codec, count)
    with pytest.raises(OptionError, match=r"--n: expected 2 to 10,000"):
        interpolate(tiny_codec, tmp_path, tmp_path, count or 1)
    with pytest.raises(OptionError, match="--seed"):
        sample(tiny_codec, 1, -1)


def test_interpolation_goes_straight_from_one_end_to_the_other(tiny_codec: Codec, tmp_path: Path) -> None:
    originals = made_images(2)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(paths, originals, strict=True):
        Image.fromarray(image[..., 0]).save(path)
    ends, between = interpolate(tiny_codec, paths[0], paths[1], 5)
    np.testing.assert_array_equal(ends, originals)
    np.testing.assert_array_equal(between[[0, -1]], tiny_codec.reconstruct(originals))
    a, b = tiny_codec.encode(originals)
    np.testing.assert_array_equal(between[2], tiny_codec.decode((a / 2 + b / 2)[None])[0])
    np.testing.assert_array_equal(interpolate(tiny_codec, paths[0], paths[1], 2)[1], tiny_codec.reconstruct(originals))
    with pytest.raises(ImageError, match=r"none\.png: No such file"):
        interpolate(tiny_codec, paths[0], tmp_path / "none.png", 5)


def test_a_grid_may_end_in_a_short_row_and_is_never_too_large() -> None:
    images = made_images(5, 64, 64)
    picture = np.asarray(grid([images[:3], images[3:]]))
    assert picture.shape == (2 * 66 + 2, 3 * 66 + 2)
    assert (picture[68:, 134:] == 255).all() and (picture[2:66, 2:66] == images[0, :, :, 0]).all()
    check_grid(100, 100, Geometry(28, 28, 1))
    with pytest.raises(OptionError, match=r"at most 1,\d\d\d images, found 40 x 40"):
        check_grid(40, 40, Geometry(256, 256, 3))


def test_sampling_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from aekit.cli import app; "
        f"app(['sample', '--n', '4', '--out', 'a.png', '--model', {str(TINY)!r}], standalone_mode=False); "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "onnxruntime" in loaded and not loaded & {"torch", "onnx", "sklearn", "matplotlib"}
    assert "aekit.training" not in done.stdout
