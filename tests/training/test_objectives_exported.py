"""Objectives trained and exported: parity, and what each promises of its codes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_images

from aekit.exporting.exporter import export_run
from aekit.exporting.graphs import CodeUnits
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.pca import Pca
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.data import TrainingData, load_training_data
from aekit.training.networks import components_wanted
from aekit.training.trainer import load_network, train

CASES: dict[str, dict[str, str]] = {
    "plain": {},
    "denoising": {},
    "denoising masking": {"noise": "masking", "strength": "0.3"},
    "denoising salt-and-pepper": {"noise": "salt-and-pepper"},
    "denoising warp": {"noise": "warp", "strength": "1"},
    "variational": {},
    "variational bernoulli": {"likelihood": "bernoulli"},
    "sparse": {"active": "3"},
    "sparse kl": {"penalty": "kl"},
    "rate": {"lambda": "0.001"},
    "rate bytes": {"bytes": "2"},
}


def exported(folder: Path, case: str, network: str, code_dim: int = 6) -> tuple[Bundle, Run, TrainingData]:
    np.save(folder / "images.npy", made_images(160, 12, 12))
    data = load_training_data(str(folder / "images.npy"))
    settings = {"network": network, "hidden": (16,), "epochs": 2, "batch_size": 32, "code_dim": code_dim}
    config = make_config("default", objective=case.split()[0], options=CASES[case], **settings)
    run = Run.create(folder / "run", config, data.geometry, data.facts())
    last = train(run, data, principal=Pca.fit(data.train, components_wanted(config, data.geometry) or 1)).kept
    assert all(math.isfinite(value) for value in last.validation.values())
    return export_run(run, data, folder / "model"), run, data


@pytest.mark.parametrize(
    ("case", "network"),
    [*((case, "residual") for case in CASES), ("variational bernoulli", "conv"), ("sparse", "conv")],
)
def test_each_objective_trains_and_exports_with_parity(tmp_path: Path, case: str, network: str) -> None:
    bundle, _, data = exported(tmp_path, case, network)
    parity = bundle.manifest["parity"]
    assert parity["image_levels"] <= 1 and parity["latent_difference"] <= 1e-3
    assert bundle.spec.objective == case.split()[0]
    codec = Codec.load(bundle.path, "cpu", 1)
    codes = codec.encode(data.validation)
    assert codes.shape == (len(data.validation), 6)
    np.testing.assert_array_equal(codec.encode(data.validation), codes)  # no chance is left in it
    assert bundle.manifest["latent"]["source"] == ("prior" if "variational" in case else "training")


def test_bernoulli_thresholds_in_the_exported_encoder(tmp_path: Path) -> None:
    bundle, _, data = exported(tmp_path, "variational bernoulli", "residual")
    codec = Codec.load(bundle.path, "cpu", 1)
    black_and_white = np.where(data.validation >= 128, 255, 0).astype(np.uint8)  # 127 / 255 is below 0.5
    assert (black_and_white != data.validation).any()
    np.testing.assert_array_equal(codec.encode(data.validation), codec.encode(black_and_white))


def test_sparse_codes_have_few_numbers_that_are_not_the_code_of_0(tmp_path: Path) -> None:
    bundle, run, data = exported(tmp_path, "sparse", "residual", code_dim=40)
    network = load_network(run)
    with torch.no_grad():
        z = network.encode(torch.from_numpy(data.train).permute(0, 3, 1, 2) / 255)
        units = CodeUnits.calibrated(z)
        zero = units(torch.zeros(1, 40)).numpy()
    assert ((z > 0).sum(1) <= 3).all() and (z > 0).any()
    # Units that are on for some images and off for others: 0 is their least, so the code of "off" is 0.
    mixed = ((z > 0).any(0) & (z == 0).any(0)).numpy()
    assert mixed.any() and (zero[0, mixed] == 0).all()
    codec = Codec.load(bundle.path, "cpu", 1)
    for images in (data.train, data.validation):
        assert ((codec.encode(images) != zero).sum(axis=1) <= 3).all()


def test_a_unit_that_is_always_off_is_kept_at_128() -> None:
    z = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    units = CodeUnits.calibrated(z)
    torch.testing.assert_close(units(z), torch.tensor([[128.0, 0.0], [128.0, 255.0]]))
    torch.testing.assert_close(units(torch.zeros(1, 2)), units.offset[None])  # off is the offset, whatever the scale
