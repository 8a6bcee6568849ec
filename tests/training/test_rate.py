"""The objective `rate`: bits and start against formulas, the sizes it lands at, and the grid that is exported."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import made_images
from test_cli import invoke
from torch import Tensor, nn

import aekit
from aekit.cli import parse
from aekit.cli.train_lines import size_note
from aekit.codes.entropy import FrequencyTables
from aekit.errors import OptionError
from aekit.evaluation.archive_size import archive_size
from aekit.exporting.exporter import export_run
from aekit.model.codec import Codec
from aekit.pca import Pca
from aekit.spec import Geometry
from aekit.training.checkpoint import Run
from aekit.training.config import TrainConfig, make_config
from aekit.training.context_layout import vector_layout
from aekit.training.data import TrainingData, load_training_data
from aekit.training.networks import Autoencoder, make_network
from aekit.training.objectives import make_objective
from aekit.training.objectives.latents import LatentModel
from aekit.training.objectives.objective import clipped_mse
from aekit.training.objectives.rate import Rate
from aekit.training.objectives.vector_prior import VectorPrior
from aekit.training.session import fit_principal
from aekit.training.trainer import Interrupted, load_network, train

X = torch.rand((6, 1, 3, 4), generator=torch.Generator().manual_seed(1))
FEATURES = 3 * torch.randn((6, 5), generator=torch.Generator().manual_seed(2))


def model_of(*scale: float) -> LatentModel:
    """A model with weights that are all different."""
    model = LatentModel(torch.tensor(scale), 0.001)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in (model.shares, model.means, model.log_widths):
            parameter.add_(torch.randn(parameter.shape, generator=rng))
    return model


def probabilities(model: LatentModel, steps: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of the interval of one step around each number [n, D], by the logistic distribution function."""
    shares, means, log_widths = (
        parameter.detach().double().numpy() for parameter in (model.shares, model.means, model.log_widths)
    )
    shares = np.exp(shares) / np.exp(shares).sum(1, keepdims=True)

    def below(edge: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.asarray((shares / (1 + np.exp(-(edge[..., None] - means) / np.exp(log_widths)))).sum(-1))

    return below(steps + 0.5) - below(steps - 0.5)


class Encoder(nn.Module):
    """Gives the same features whatever it is given."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = nn.Parameter(features.clone())

    def forward(self, _: Tensor) -> Tensor:
        return self.features


class Decoder(nn.Module):
    """A linear map to images of 3 x 4 pixels that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn((5, 12), generator=torch.Generator().manual_seed(4)) / 10
        self.given = torch.empty(0)

    def forward(self, z: Tensor) -> Tensor:
        self.given = z.detach()
        return (z @ self.weight).unflatten(1, (1, 3, 4))


# --- the cost


def test_bits_are_those_of_the_mixture() -> None:
    model = model_of(1, 2, 0.5, 4, 3)
    steps = FEATURES.round().double().numpy()
    wanted = -np.log2(probabilities(model, steps)).sum(1).mean()
    assert model.bits(FEATURES.round()).item() == pytest.approx(wanted, rel=1e-4)


def test_probabilities_of_the_grid_sum_to_1_and_those_far_out_stay_finite() -> None:
    model = model_of(2)
    grid = torch.arange(-128.0, 128)[:, None]
    total = sum(2 ** -model.bits(point[None]).item() for point in grid)
    assert total == pytest.approx(1, abs=1e-5)
    assert 20 < model.bits(torch.full((1, 1), 1e9)).item() < 40


def test_the_cost_has_noise_in_its_bits_and_rounding_in_its_error() -> None:
    objective, decoder = Rate(lambda_=0.002), Decoder()
    network = Autoencoder(Encoder(FEATURES), decoder, objective, model_of(1, 2, 0.5, 4, 3))
    model = cast(LatentModel, network.learned)
    with torch.no_grad():
        model.log_lambda.fill_(math.log(0.002))
    found = objective.loss(network, X, torch.Generator().manual_seed(7), 0.5)
    steps = FEATURES * torch.tensor([1, 2, 0.5, 4, 3])
    noise = torch.rand(steps.shape, generator=torch.Generator().manual_seed(7)) - 0.5
    rounded = steps.round() / torch.tensor([1, 2, 0.5, 4, 3])
    torch.testing.assert_close(decoder.given, rounded)
    bits = -np.log2(probabilities(model, (steps + noise).double().numpy())).sum(1).mean()
    error = float(clipped_mse((rounded @ decoder.weight).unflatten(1, (1, 3, 4)), X))
    assert found.item() == pytest.approx(bits / 12 + 0.002 * 255**2 * error, rel=1e-4)


def test_the_gradient_of_the_error_passes_through_the_rounding() -> None:
    objective = Rate(lambda_=10)  # beside which the bits don't matter
    encoder, decoder = Encoder(FEATURES), Decoder()
    network = Autoencoder(encoder, decoder, objective, LatentModel(torch.ones(5), 10))
    objective.loss(network, X, torch.Generator(), 0.5).backward()
    z = FEATURES.round().requires_grad_()
    (10 * 255**2 * clipped_mse((z @ decoder.weight).unflatten(1, (1, 3, 4)), X)).backward()
    assert z.grad is not None
    torch.testing.assert_close(encoder.features.grad, z.grad, rtol=0.02, atol=0.5)


def test_latents_stay_where_codes_can_follow() -> None:
    steps = LatentModel(torch.ones(1), 1).steps(torch.tensor([[-1e6], [-128.4], [3.25], [127.4], [1e6]]))
    assert steps.round()[:, 0].tolist() == [-128, -128, 3, 127, 127]


# --- its start, and λ


@pytest.mark.parametrize("channels", [1, 3])
def test_it_starts_as_transform_coding_with_the_best_step(channels: int) -> None:
    deviations, weight = torch.tensor([2.0, 1.5, 1.0]), 0.01
    scale = Rate(lambda_=weight).learned(3, channels, deviations).scale.detach()
    step = float(deviations[0] / scale[0])
    torch.testing.assert_close(scale, deviations / step)

    def cost(step: float) -> float:  # a pixel, times the pixels; fine steps, as Bennett 1948 has them
        bits = 3 * math.log2(1 / step)
        return bits + weight * 255**2 * 3 * step**2 / 12 / channels

    assert cost(step) < min(cost(1.02 * step), cost(step / 1.02))


def test_with_a_size_it_starts_near_it() -> None:
    deviations = 3 / torch.arange(1, 41).sqrt()
    model = Rate(bytes=10).learned(40, 1, deviations).requires_grad_(False)
    codes = torch.randn((20_000, 40), generator=torch.Generator().manual_seed(5)) * model.scale.detach()
    tables = FrequencyTables.fit((codes.round() + 128).to(torch.uint8).numpy())
    assert tables.entropy_bits((codes.round() + 128).to(torch.uint8).numpy()) / 8 / len(codes) == pytest.approx(
        10, rel=0.15
    )
    assert float(model.log_lambda.exp()) == pytest.approx(
        6 * math.log2(math.e) / 255**2 / float(3 / model.scale[0]) ** 2
    )


def test_lambda_rises_for_codes_too_small_and_falls_for_codes_too_large() -> None:
    def moved(size: float) -> float:
        objective = Rate(bytes=size)
        network = Autoencoder(Encoder(FEATURES), Decoder(), objective, LatentModel(torch.ones(5), 0.001))
        model = cast(LatentModel, network.learned)
        with torch.no_grad():
            objective.steer(network, X, 1e-4)
        return float(model.log_lambda) - math.log(0.001)

    model = LatentModel(torch.ones(5), 0.001)
    size = model.bits(FEATURES.round()).item() / 8 / 0.99  # a little less is aimed at than is asked for
    assert moved(size) == pytest.approx(0, abs=1e-6)
    assert moved(2 * size) > 0 > moved(size / 2)
    assert moved(1e-9 + 2 * size) == pytest.approx(-moved(size / 2), abs=1e-4)


# --- trained


@pytest.fixture(scope="module")
def digits() -> TrainingData:
    return load_training_data("mnist-5k")


@pytest.fixture(scope="module")
def principal(digits: TrainingData) -> Pca:
    return Pca.fit(digits.train, 512)


def new_run(folder: Path, data: TrainingData, options: dict[str, str], **given: Any) -> Run:
    settings = {"code_dim": 32, "hidden": (48,), "epochs": 12, "batch_size": 128, **given}
    config = make_config("default", objective="rate", options=options, data="mnist-5k", **settings)
    return Run.create(folder, config, data.geometry, data.facts())


def test_a_lower_lambda_gives_smaller_codes_and_larger_errors(
    tmp_path: Path, digits: TrainingData, principal: Pca
) -> None:
    runs = [new_run(tmp_path / text, digits, {"lambda": text}, epochs=6) for text in ("3e-5", "5e-4")]
    figures = [train(run, digits, principal=principal).kept.validation for run in runs]
    assert figures[0]["bytes"] < 0.5 * figures[1]["bytes"]
    assert figures[0]["mse"] > 1.5 * figures[1]["mse"]


def test_codes_take_the_bytes_asked_for_and_are_the_grid_of_training(
    tmp_path: Path, digits: TrainingData, principal: Pca
) -> None:
    run = new_run(tmp_path / "run", digits, {"bytes": "6"})
    last = train(run, digits, principal=principal).kept
    assert last.validation["bytes"] == pytest.approx(6, rel=0.08)
    bundle = export_run(run, digits, tmp_path / "model")
    codec = Codec.load(bundle.path, "cpu", 1)
    network = load_network(run)
    x = torch.from_numpy(digits.validation).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        steps = cast(LatentModel, network.learned).steps(network.features(x)).numpy()
    codes = codec.encode(digits.validation, "uint8")
    ties = np.abs(steps - np.floor(steps) - 0.5) < 1e-3
    np.testing.assert_array_equal(codes[~ties], steps.round()[~ties] + 128)
    # What the model learned of the latents is what the context coder, fitted on training codes, takes in an archive.
    entropy = bundle.manifest["entropy"]
    assert (entropy["kept"], bundle.manifest["format_version"]) == ("context", 4)
    assert entropy["context_bytes_per_image"] == pytest.approx(last.validation["bytes"], rel=0.05)
    assert entropy["context_bytes_per_image"] < 0.92 * entropy["static_bytes_per_image"]
    assert archive_size(bundle, codes).file == pytest.approx(len(codes) * entropy["context_bytes_per_image"], abs=500)
    # The decoder graph gives the error that validation found: codes are latents without a further rescaling.
    error = np.square((codec.decode(codes).astype(np.float64) - digits.validation) / 255).mean()
    assert error == pytest.approx(last.validation["mse"], rel=0.01)
    assert bundle.manifest["validation"]["mse_uint8_codes"] == pytest.approx(error, rel=1e-3)


def test_a_resumed_run_finds_the_same_lambda(tmp_path: Path, digits: TrainingData, principal: Pca) -> None:
    settings = {"epochs": 3, "code_dim": 16, "hidden": (16,)}
    whole, run = (new_run(tmp_path / name, digits, {"bytes": "4"}, **settings) for name in ("whole", "cut"))
    train(whole, digits, principal=principal)

    def stop(step: int) -> None:
        if step == 37:  # amid an epoch, and between two looks at the size
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(run, digits, principal=principal, on_step=stop)
    train(run, digits, resume=True)
    one, other = load_network(whole).state_dict(), load_network(run).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    begun = make_network(run.config, digits.geometry, principal).state_dict()
    assert float(one["learned.log_lambda"]) != float(begun["learned.log_lambda"])


@pytest.mark.parametrize(("network", "precision"), [("residual", "bf16"), ("mlp", "fp32"), ("conv", "bf16")])
def test_it_trains_every_network_on_colour_images(tmp_path: Path, network: str, precision: str) -> None:
    gray = made_images(200, 12, 10)
    np.save(tmp_path / "images.npy", np.concatenate([gray, gray[:, ::-1] // 2, 255 - gray], axis=3))
    data = load_training_data(str(tmp_path / "images.npy"))
    hidden = {"residual": (16,), "mlp": (32,), "conv": (8,)}[network]
    settings = {"network": network, "hidden": hidden, "code_dim": 12, "batch_size": 32, "precision": precision}
    run = new_run(tmp_path / "run", data, {"lambda": "0.001"}, **settings)
    last = train(run, data, principal=fit_principal(run.config, data)).kept
    assert last.validation["bytes"] < 12 and last.validation["mse"] < float(data.validation.std() / 255) ** 2
    assert last.validation["loss"] == pytest.approx(
        8 * last.validation["bytes"] / 120 + 0.001 * 255**2 * last.validation["mse"], rel=1e-3
    )


# --- options


def test_lambda_and_bytes_are_options_by_those_names() -> None:
    assert make_objective("rate", {"lambda": "0.01"}) == Rate(lambda_=0.01)
    assert make_objective("rate", {"bytes": "8"}) == Rate(bytes=8)
    assert parse.rate(0.01, None, None, None) == ("rate", {"lambda": "0.01"})
    assert parse.rate(None, 8.0, "rate", {}) == ("rate", {"bytes": "8.0"})
    assert parse.rate(None, None, "sparse", {"active": "3"}) == ("sparse", {"active": "3"})


def test_a_size_suggests_how_many_numbers_a_code_has() -> None:
    def code_dim(options: dict[str, str], preset: str = "default", **given: int) -> int:
        return make_config(preset, objective="rate", options=options, **given).code_dim

    assert (code_dim({"bytes": "8"}), code_dim({"bytes": "0.5"}), code_dim({"lambda": "0.01"})) == (24, 4, 32)
    assert (code_dim({"bytes": "8"}, code_dim=50), code_dim({"bytes": "8"}, "classic")) == (50, 256)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lambda": "0.01", "bytes": "8"}, "lambda and bytes: expected one of them"),
        ({"lambda": "-1"}, "lambda: expected 1e-08 to 10"),
        ({"lambda": "nan"}, "lambda: expected 1e-08 to 10"),
        ({"bytes": "-3"}, "bytes: expected 0.1 to 16,777,216"),
        ({"lambda_": "1"}, "an option of rate (lambda=0.0, bytes=0.0, prior=tables, qualities=1)"),
        ({"prior": "none"}, "prior: expected tables or context, found 'none'"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        make_objective("rate", options)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0.01, None, "sparse", None), "--lambda: expected --objective rate, found --objective sparse"),
        ((0.01, 8.0, None, None), "--lambda and --bytes: expected one of them"),
        ((0.01, None, "rate", {"bytes": "3"}), "--lambda and --bytes: expected one of them"),
        ((None, 0.0, None, None), "--bytes: expected more than 0, found 0"),
    ],
)
def test_options_of_the_command_that_do_not_fit_are_named(given: tuple[Any, ...], said: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse.rate(*given)
    assert said in str(caught.value)


def test_its_codes_are_uint8_unless_asked_for_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("images.npy", made_images(300))
    assert invoke("train", "images.npy", "--bytes", 2, "--epochs", 1, "--out", "run")[0] == 0
    assert "validation MSE of stored codes (uint8)" in invoke("export", "run")[1]
    for name, options, dtype in (("a.npy", (), np.uint8), ("b.npy", ("--dtype", "float32"), np.float32)):
        assert invoke("compress", "images.npy", "--out", name, *options)[0] == 0
        assert np.load(name, allow_pickle=False).dtype == dtype


def test_codes_larger_or_smaller_than_asked_for_are_told_of(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", made_images(200))
    done = aekit.train(tmp_path / "images.npy", tmp_path / "run", options={"bytes": "2"}, objective="rate", epochs=1)
    for size, told in ((2.0, ""), (2.2, "a longer --budget or more --epochs"), (1.8, "larger codes were not better")):
        said = size_note(replace(done, validation={**done.validation, "bytes": size}))
        assert told in said and bool(told) == ("but 2 were asked for" in said)


def test_more_bytes_than_the_numbers_hold_is_an_error() -> None:
    config = make_config("default", objective="rate", options={"bytes": "8"}, code_dim=8, hidden=(8,))
    with pytest.raises(OptionError, match=r"bytes: expected at most half a byte per number, 4, found 8; give a larger"):
        make_network(config, Geometry(8, 8, 1))


def test_new_runs_train_for_a_context_model_and_older_ones_do_not() -> None:
    config = make_config("default", objective="rate", options={"bytes": "4"}, code_dim=8, hidden=(8,))
    assert config.options == {"bytes": "4", "prior": "context"}
    older = TrainConfig.from_dict({**config.to_dict(), "options": {"bytes": "4"}}, "here")
    learned = [make_network(each, Geometry(8, 8, 1)).learned for each in (config, older)]
    assert [isinstance(model, VectorPrior) for model in learned] == [True, False]
    assert make_config("default", objective="rate", options={"prior": "tables"}).options == {"prior": "tables"}


def test_probabilities_depend_on_earlier_numbers_alone_and_start_as_tables() -> None:
    torch.manual_seed(0)
    scale = torch.rand(40) + 1
    model, static = VectorPrior(scale, 0.1), LatentModel(scale, 0.1)
    steps = torch.randint(-4, 5, (6, 40)).float()
    torch.testing.assert_close(model.bits_of_each(steps), static.bits_of_each(steps))
    with torch.no_grad():
        model.networks.out.normal_()
        model.networks.direct.normal_()
    bits = model.bits_of_each(steps)
    for dimension in range(40):
        changed = steps.clone()
        changed[:, dimension] += 3
        differ = (model.bits_of_each(changed) != bits).any(0).nonzero()[:, 0]
        assert differ.min() == dimension
    group = [group.channels for group in vector_layout(40)]
    assert group[:16] == [1] * 16 and sum(group) == 40
