"""Objectives, each against its formula in plain numpy or a case worked out by hand; then trained and exported."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_images
from torch import Tensor, nn

from aekit.bundle import Bundle
from aekit.codec import Codec
from aekit.errors import AekitError, OptionError
from aekit.evaluation.baselines import Pca
from aekit.export.exporter import export_run
from aekit.export.graphs import CodeUnits
from aekit.images import Pixels
from aekit.spec import Geometry
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.data import TrainingData, load_training_data
from aekit.training.networks import Autoencoder, components_wanted, make_network
from aekit.training.objectives import OBJECTIVES, make_objective
from aekit.training.objectives.denoising import Denoising
from aekit.training.objectives.objective import Objective, clipped_mse
from aekit.training.objectives.plain import Plain
from aekit.training.objectives.sparse import Sparse
from aekit.training.objectives.variational import Variational
from aekit.training.trainer import load_network, train


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Fixed(nn.Module):
    """Gives what it was told to, whatever it is given."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: Tensor) -> Tensor:
        return self.output


def fixed(objective: Objective, features: Tensor, outputs: Tensor) -> Autoencoder:
    return Autoencoder(Fixed(features), Fixed(outputs), objective)


X = torch.rand((6, 1, 3, 4), generator=rng(1))
OUTPUTS = torch.randn((6, 1, 3, 4), generator=rng(2))
FEATURES = torch.randn((6, 10), generator=rng(3))


# --- the error every objective reports


def test_clipped_mse_is_the_clipped_error() -> None:
    wanted = np.square(np.clip(OUTPUTS.numpy(), 0, 1) - X.numpy()).mean()
    assert float(clipped_mse(OUTPUTS, X)) == pytest.approx(wanted)


def test_clipped_mse_pulls_where_clipping_leaves_an_error_and_nowhere_else() -> None:
    x_hat = torch.tensor([1.5, 1.5, -0.5, -0.5, 0.25], requires_grad=True)
    clipped_mse(x_hat, torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5])).backward()
    # 2 (clip(x̂) − x) / 5, also for pixels beyond the bounds, where the clip's own gradient would be 0
    torch.testing.assert_close(x_hat.grad, torch.tensor([0.0, 0.4, 0.0, -0.4, -0.1]))


def test_plain_is_the_mean_squared_error() -> None:
    network = fixed(Plain(), FEATURES, OUTPUTS)
    wanted = np.square(np.clip(OUTPUTS.numpy(), 0, 1) - X.numpy()).mean()
    assert float(Plain().loss(network, X, rng(), 0.5)) == pytest.approx(wanted)
    assert Plain().validate(network, X, rng()) == {"mse": pytest.approx(wanted)}


# --- denoising

GRAY = torch.full((40, 1, 50, 50), 0.5)


def test_gaussian_noise_has_its_deviation_and_is_clipped() -> None:
    noisy = Denoising(strength=0.1).corrupt(GRAY, rng())
    assert float(noisy.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(noisy.std()) == pytest.approx(0.1, abs=0.002)
    strong = Denoising(strength=0.5).corrupt(GRAY, rng())
    assert (float(strong.min()), float(strong.max())) == (0, 1)
    # N(0.5, 0.5²) is below 0 and above 1 with probability Φ(−1) each
    for end in (0.0, 1.0):
        assert float((strong == end).float().mean()) == pytest.approx(0.1587, abs=0.01)
    assert float(GRAY.min()) == 0.5  # the images themselves are left alone


def test_masking_puts_a_share_of_the_pixels_at_0_whole() -> None:
    colour = torch.full((40, 3, 50, 50), 0.5)
    noisy = Denoising("masking", 0.3).corrupt(colour, rng())
    assert set(noisy.unique().tolist()) == {0, 0.5}
    assert float((noisy == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(noisy[:, 0], noisy[:, 1]) and torch.equal(noisy[:, 0], noisy[:, 2])


def test_salt_and_pepper_puts_half_of_a_share_at_either_end() -> None:
    noisy = Denoising("salt-and-pepper", 0.4).corrupt(GRAY, rng())
    assert {value: round(float((noisy == value).float().mean()), 2) for value in (0, 0.5, 1)} == {
        0: 0.2,
        0.5: 0.6,
        1: 0.2,
    }


def test_denoising_is_held_against_the_clean_image() -> None:
    class Identity(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    objective = Denoising("masking", 0.5)
    network = Autoencoder(Identity(), Identity(), objective)
    noisy = objective.corrupt(GRAY, rng(7))
    assert float(objective.loss(network, GRAY, rng(7), 0)) == pytest.approx(float((noisy - GRAY).square().mean()))
    figures = objective.validate(network, GRAY, rng(7))
    assert figures == {"mse": 0, "denoised_mse": pytest.approx(0.25 * 0.5, abs=0.002)}


# --- variational


def test_kl_is_the_closed_form() -> None:
    """Against numerical integration of q log(q / p) over each dimension."""
    objective = Variational(likelihood="bernoulli")
    z = np.linspace(-30, 30, 200_001)
    wanted = 0.0
    for mean, log_variance in zip(FEATURES[:, :5].flatten().tolist(), FEATURES[:, 5:].flatten().tolist(), strict=True):
        log_q = -0.5 * ((z - mean) ** 2 / math.exp(log_variance) + math.log(2 * math.pi) + log_variance)
        log_p = -0.5 * (z**2 + math.log(2 * math.pi))
        wanted += np.trapezoid(np.exp(log_q) * (log_q - log_p), z) / len(X)
    figures = objective.validate(fixed(objective, FEATURES, OUTPUTS), X, rng())
    assert figures["kl"] == pytest.approx(wanted, rel=1e-5)


def test_kl_of_the_prior_itself_is_0() -> None:
    objective = Variational()
    assert objective.validate(fixed(objective, torch.zeros(6, 10), OUTPUTS), X, rng())["kl"] == 0


def test_bernoulli_likelihood_is_in_nats_an_image() -> None:
    objective = Variational(likelihood="bernoulli")
    figures = objective.validate(fixed(objective, FEATURES, OUTPUTS), X, rng())
    p, black_and_white = objective.image(OUTPUTS.double()).numpy(), X.numpy() >= 0.5  # p is what is exported
    assert p.min() > 0 and p.max() < 1
    wanted = -np.log(np.where(black_and_white, p, 1 - p)).sum() / len(X)
    assert figures["neg_elbo"] - figures["kl"] == pytest.approx(wanted, rel=1e-5)
    assert figures["mse"] == pytest.approx(np.square(p - X.numpy()).mean(), rel=1e-5)


def test_gaussian_likelihood_is_that_of_the_best_variance() -> None:
    objective = Variational()
    figures = objective.validate(fixed(objective, FEATURES, OUTPUTS), X, rng())
    errors = (OUTPUTS - X).double().numpy()

    def nats(variance: float) -> float:
        return float((0.5 * (errors**2 / variance + np.log(2 * np.pi * variance))).sum() / len(X))

    best = np.square(errors).mean()
    assert figures["neg_elbo"] - figures["kl"] == pytest.approx(nats(best), rel=1e-5)
    assert nats(best) < min(nats(best * 1.01), nats(best / 1.01))


def test_z_is_drawn_from_the_posterior() -> None:
    seen: list[Tensor] = []

    class Sees(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            seen.append(z)
            return torch.zeros(len(z), 1, 3, 4)

    features = torch.tensor([[2.0, -1.0, math.log(0.25), math.log(4.0)]]).expand(20_000, 4)
    objective = Variational()
    objective.loss(Autoencoder(Fixed(features), Sees(), objective), torch.zeros(20_000, 1, 3, 4), rng(), 1)
    np.testing.assert_allclose(seen[0].mean(0), [2, -1], atol=0.05)
    np.testing.assert_allclose(seen[0].std(0), [0.5, 2], atol=0.05)


@pytest.mark.parametrize(("progress", "share"), [(0, 0), (0.1, 0.5), (0.2, 1), (1, 1)])
def test_beta_and_the_warm_up_weigh_the_kl(progress: float, share: float) -> None:
    objective = Variational(beta=3, warmup=0.2, likelihood="bernoulli")
    network = fixed(objective, FEATURES, OUTPUTS)
    figures = objective.validate(network, X, rng())
    wanted = figures["neg_elbo"] - figures["kl"] + 3 * share * figures["kl"]
    assert float(objective.loss(network, X, rng(), progress)) == pytest.approx(wanted, rel=1e-5)
    without = Variational(beta=3, warmup=0, likelihood="bernoulli")
    wanted = figures["neg_elbo"] + 2 * figures["kl"]
    assert float(without.loss(network, X, rng(), 0)) == pytest.approx(wanted, rel=1e-5)


def test_the_latent_is_the_mean_and_needs_twice_the_outputs() -> None:
    assert Variational().encoder_outputs(5) == 10
    torch.testing.assert_close(Variational().latent(FEATURES), FEATURES[:, :5])
    assert [Variational(beta=beta).has_prior for beta in (0, 1)] == [False, True]


# --- sparse


def test_topk_keeps_the_k_largest_positive_ones() -> None:
    features = torch.tensor([[3.0, -9.0, 1.0, 2.0, 0.5], [-1.0, -2.0, 4.0, -3.0, 0.0]])
    wanted = torch.tensor([[3.0, 0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 4.0, 0.0, 0.0]])
    torch.testing.assert_close(Sparse(active=2).latent(features), wanted)
    z = Sparse(active=32).latent(torch.randn((50, 400), generator=rng()))
    assert (z > 0).sum(1).tolist() == [32] * 50


def test_topk_keeps_no_more_than_k_of_equals() -> None:
    """In bfloat16, which some runs train in, equal activations are common."""
    assert (Sparse(active=3).latent(torch.ones(4, 10)) > 0).sum(1).tolist() == [3] * 4
    rough = torch.randn((50, 400), generator=rng()).bfloat16()
    assert (Sparse(active=32).latent(rough) > 0).sum(1).tolist() == [32] * 50


def test_topk_passes_the_gradient_to_the_units_that_stay() -> None:
    features = torch.tensor([[3.0, -9.0, 1.0, 2.0]], requires_grad=True)
    Sparse(active=2).latent(features).sum().backward()
    torch.testing.assert_close(features.grad, torch.tensor([[1.0, 0.0, 0.0, 1.0]]))


def test_kl_penalty_is_that_of_two_coins() -> None:
    objective = Sparse("kl", target=0.1, weight=0.5)
    rate = (1 / (1 + np.exp(-FEATURES.double().numpy()))).mean(0)
    divergence = 0.1 * np.log(0.1 / rate) + 0.9 * np.log(0.9 / (1 - rate))
    wanted = float(clipped_mse(OUTPUTS, X)) + 0.5 * divergence.sum()
    network = fixed(objective, FEATURES, OUTPUTS)
    assert float(objective.loss(network, X, rng(), 0)) == pytest.approx(wanted, rel=1e-5)
    at_target = torch.full((6, 10), math.log(0.1 / 0.9))
    cost = float(objective.loss(fixed(objective, at_target, OUTPUTS), X, rng(), 0))
    assert cost == pytest.approx(float(clipped_mse(OUTPUTS, X)), abs=1e-6)


def test_active_units_are_counted() -> None:
    features = torch.tensor([[3.0, -9.0, 1.0, 2.0], [5.0, -1.0, -1.0, -1.0]])
    network = fixed(Sparse(active=2), features, OUTPUTS[:2])
    figures = network.objective.validate(network, X[:2], rng())
    assert (figures["active"], figures["used"]) == (1.5, 0.5)  # units 0 and 3, then unit 0; two of four


# --- options


def test_every_objective_has_defaults_that_are_given_by_name() -> None:
    assert {name: type(make_objective(name, {})) for name in OBJECTIVES} == OBJECTIVES
    made = make_objective("variational", {"beta": "4", "likelihood": "bernoulli"})
    assert made == Variational(beta=4.0, likelihood="bernoulli")
    assert make_objective("sparse", {"active": "7"}) == Sparse(active=7)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("adversarial", {}, "--objective: expected plain or denoising"),
        ("plain", {"noise": "gaussian"}, "an option of plain (it has none)"),
        ("denoising", {"beta": "1"}, "an option of denoising (noise=gaussian, strength=0.5)"),
        ("denoising", {"strength": "much"}, "option 'strength': expected a float, found 'much'"),
        ("denoising", {"strength": "0"}, "strength"),
        ("denoising", {"strength": "nan"}, "strength"),
        ("denoising", {"strength": "1.5", "noise": "masking"}, "a share of pixels up to 1"),
        ("denoising", {"noise": "pink"}, "gaussian or masking or salt-and-pepper"),
        ("variational", {"beta": "-1"}, "beta"),
        ("variational", {"beta": "inf"}, "beta"),
        ("variational", {"warmup": "2"}, "warmup"),
        ("variational", {"likelihood": "poisson"}, "gaussian or bernoulli"),
        ("sparse", {"active": "2.5"}, "option 'active': expected a int, found '2.5'"),
        ("sparse", {"active": "0"}, "active"),
        ("sparse", {"target": "1"}, "target"),
        ("sparse", {"weight": "nan"}, "weight"),
        ("sparse", {"penalty": "l1"}, "topk or kl"),
    ],
)
def test_options_that_do_not_fit_are_named(name: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_objective(name, options)
    assert said in str(caught.value)


def test_more_active_units_than_there_are_is_an_error() -> None:
    config = make_config("default", objective="sparse", options={"active": "9"}, code_dim=8, hidden=(8,))
    with pytest.raises(AekitError, match="at most the code's 8 units"):
        make_network(config, Geometry(8, 8, 1))


# --- trained and exported

CASES: dict[str, dict[str, str]] = {
    "plain": {},
    "denoising": {},
    "denoising masking": {"noise": "masking", "strength": "0.3"},
    "denoising salt-and-pepper": {"noise": "salt-and-pepper"},
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
    last = train(run, data, principal=Pca.fit(data.train, components_wanted(config, data.geometry) or 1))
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


# --- the residual network starts as PCA


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
