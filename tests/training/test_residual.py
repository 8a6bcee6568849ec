"""The residual network: it starts as PCA, and folded it computes the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_images

from aekit.exporting.exporter import export_run
from aekit.images.decode import Pixels
from aekit.pca import Pca
from aekit.spec import Geometry
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.data import load_training_data
from aekit.training.networks import Autoencoder, components_wanted, make_network
from aekit.training.objectives import OBJECTIVES
from aekit.training.trainer import train


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("code_dim", [1, 5, 30])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_starts_as_clipped_pca(code_dim: int, channels: int) -> None:
    images, held_out = coloured(made_images(300, 12, 10), channels), coloured(made_images(50, 12, 10, seed=5), channels)
    config = make_config("default", code_dim=code_dim, hidden=(16, 16))
    geometry = Geometry(12, 10, channels)
    principal = Pca.fit(images, components_wanted(config, geometry))
    network = make_network(config, geometry, principal)
    x = torch.from_numpy(held_out).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        found = network.objective.validate(network, x, rng())["mse"]
    assert found == pytest.approx(principal.leading(code_dim).mse(held_out), rel=1e-4)


def coloured(images: Pixels, channels: int) -> Pixels:
    """Gray images, or RGB ones whose channels differ in brightness and place."""
    return images if channels == 1 else np.concatenate([images, images[:, ::-1] // 2, 255 - images], axis=3)


def stirred(network: Autoencoder) -> Autoencoder:
    """The network with weights that are not zero anywhere, as training leaves them."""
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng(number)))
    return network


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(("count", "code_dim"), [(200, 6), (9, 6), (9, 40), (200, 250)])
def test_folded_computes_the_same(objective: str, count: int, code_dim: int) -> None:
    """With components enough, with fewer than wanted, with fewer than numbers in a code, and with fewer pixels."""
    options = {"active": "4"} if objective == "sparse" else {}
    config = make_config("default", objective=objective, options=options, code_dim=code_dim, hidden=(24, 24))
    images, geometry = made_images(count, 8, 14), Geometry(8, 14, 1)
    wanted = components_wanted(config, geometry)
    assert wanted == 112
    network = stirred(make_network(config, geometry, Pca.fit(images, wanted))).eval()
    folded = network.folded()
    x = torch.from_numpy(made_images(40, 8, 14, seed=3)).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        z = network.encode(x)
        assert z.shape == (40, code_dim) and bool(torch.isfinite(z).all())
        scale = float(z.abs().max())
        torch.testing.assert_close(folded.encode(x) / scale, z / scale, atol=1e-4, rtol=0)
        torch.testing.assert_close(folded.decode(z), network.decode(z), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("count", "code_dim"), [(12, 20), (160, 100)])
def test_more_numbers_than_components_train_and_export(tmp_path: Path, count: int, code_dim: int) -> None:
    np.save(tmp_path / "images.npy", made_images(count, 8, 8))
    data = load_training_data(str(tmp_path / "images.npy"))
    config = make_config("default", code_dim=code_dim, hidden=(16,), epochs=2, batch_size=16)
    principal = Pca.fit(data.train, components_wanted(config, data.geometry))
    assert len(principal.scales) < code_dim
    run = Run.create(tmp_path / "run", config, data.geometry, data.facts())
    train(run, data, principal=principal)
    assert export_run(run, data, tmp_path / "model").spec.code_dim == code_dim


def test_small_preset_has_halves_well_under_a_megabyte() -> None:
    network = make_network(make_config("small"), Geometry(28, 28, 1)).folded()
    for half in (network.encoder, network.decoder):
        assert 4 * sum(parameter.numel() for parameter in half.parameters()) < 900_000  # bytes of float32
