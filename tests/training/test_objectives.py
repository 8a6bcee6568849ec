"""Objectives, each against its formula in plain numpy or a case worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aekit.errors import AekitError, OptionError
from aekit.spec import Geometry
from aekit.training.augment import relight
from aekit.training.config import make_config
from aekit.training.networks import Autoencoder, make_network
from aekit.training.objectives import OBJECTIVES, make_objective
from aekit.training.objectives.denoising import Denoising
from aekit.training.objectives.objective import Objective, clipped_mse
from aekit.training.objectives.plain import Plain
from aekit.training.objectives.sparse import Sparse
from aekit.training.objectives.variational import Variational


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


def test_warps_move_what_is_in_the_image() -> None:
    square = torch.zeros(500, 1, 28, 28)
    square[:, :, 8:20, 8:20] = 1
    across = torch.linspace(1 / 28 - 1, 1 - 1 / 28, 28)

    def centres(strength: float) -> Tensor:
        warped = Denoising("warp", strength).corrupt(square, rng())
        assert float(warped.min()) >= 0 and float(warped.max()) <= 1
        return (warped.sum((1, 2)) * across).sum(1) / warped.sum((1, 2, 3))

    # Shifts have a deviation of 0.08 of half the width; scales and shears leave the centre of a square in place.
    for strength in (0.5, 1.0):
        assert float(centres(strength).mean()) == pytest.approx(0, abs=0.02)
        assert float(centres(strength).std()) == pytest.approx(0.08 * strength, rel=0.2)
    assert float(square.sum()) == 500 * 144  # the images themselves are left alone


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
    assert {name: type(make_objective(name, {})) for name in OBJECTIVES} == {
        name: entry.load() for name, entry in OBJECTIVES.items()
    }
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


def test_other_light_changes_some_colour_images_and_mirrors_some() -> None:
    x = torch.rand((400, 3, 8, 8), generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    assert torch.equal(relight(x, 0.0, torch.Generator().manual_seed(0)), x)
    lit = relight(x, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(lit, relight(x, 0.5, torch.Generator().manual_seed(0)))
    assert float(lit.min()) >= 0 and float(lit.max()) <= 1
    # An image that got other light is the image times a factor a colour, plus a constant: still sorted as before.
    order = x.flatten(2).argsort(2)
    kept = [(each.flatten(2).gather(2, order).diff(dim=2) >= 0).all(2).all(1) for each in (lit, lit.flip(3))]
    assert (kept[0] ^ kept[1]).all()
    assert 70 < int(kept[1].sum()) < 130
    assert 150 < int((lit.mean((1, 2, 3)) - x.mean((1, 2, 3))).abs().gt(1e-4).sum()) < 250
