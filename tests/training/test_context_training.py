"""Training of context models: they save bits where places depend on each other, and integers lose next to nothing."""

import json

import numpy as np
import pytest
import torch

from aekit.codes.context import ContextModel, decode, encode
from aekit.codes.context.coder import entropy_bits
from aekit.codes.context.places import Codes
from aekit.codes.entropy import FrequencyTables
from aekit.errors import TrainingError
from aekit.training.context import train
from aekit.training.context_layout import default_layout
from aekit.training.objectives.vector_prior import VectorPrior
from aekit.training.vector_context import train_vectors


def smooth_codes(count: int, channels: int, seed: int) -> list[Codes]:
    """Codes whose first channel is smooth over places, and whose other channels are wide where it is high."""
    rng = np.random.default_rng(seed)
    codes = list[Codes]()
    for _ in range(count):
        h, w = rng.integers(3, 12, 2)
        y, x = np.mgrid[:h, :w]
        level = 20 * np.sin(y / 3 + rng.uniform(0, 6)) + 20 * np.cos(x / 4 + rng.uniform(0, 6)) + rng.normal(0, 8)
        width = np.exp(level / 25)[:, :, None]
        rest = rng.standard_normal((h, w, channels - 1)) * width
        steps = np.concatenate([level[:, :, None] + rng.standard_normal((h, w, 1)), rest], axis=2)
        codes.append(np.clip(np.rint(steps + 128), 0, 255).astype(np.uint8))
    return codes


def test_a_trained_model_saves_bits_and_its_integers_lose_none() -> None:
    training, test = smooth_codes(100, 4, seed=0), smooth_codes(20, 4, seed=1)
    trained = train(training, steps=120)
    model = ContextModel.from_dict(json.loads(json.dumps(trained.model.to_dict())))
    static = FrequencyTables.fit(np.concatenate([code.reshape(-1, 4) for code in training]))
    bits = entropy_bits(test, model)
    assert bits < 0.9 * static.entropy_bits(np.concatenate([code.reshape(-1, 4) for code in test]))
    assert bits < 1.005 * trained.float_bits(test)
    assert model.carrier == "float32"
    assert model.check_bounds() < 1 << 24
    block = encode(test, model)
    assert 8 * len(block) < 1.01 * bits + 100
    assert all(
        np.array_equal(*pair) for pair in zip(decode(block, [c.shape[:2] for c in test], model), test, strict=True)
    )


def test_the_same_seed_gives_the_same_model() -> None:
    codes = smooth_codes(10, 2, seed=2)
    model = train(codes, steps=5).model.to_dict()
    assert train(codes, steps=5).model.to_dict() == model
    assert train(codes, steps=5, seed=1).model.to_dict() != model


def test_codes_that_never_vary_train_too() -> None:
    codes = [np.full((3, 4, 2), 128, np.uint8)] * 3
    model = train(codes, steps=5).model
    assert len(encode(codes, model)) < 16
    other = [np.arange(24, dtype=np.uint8).reshape(3, 4, 2) * 10]  # nothing like it was seen in training
    assert np.array_equal(decode(encode(other, model), [(3, 4)], model)[0], other[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 48, 96])
def test_the_default_layout_holds_all_channels(channels: int) -> None:
    layout = default_layout(channels)
    assert sum(group.channels for group in layout) == channels
    assert all(group.channels > 0 for group in layout)


def vector_codes(count: int, dimensions: int, seed: int) -> Codes:
    """Codes whose numbers are alike, or as wide as the first one says, by turns."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 8, (count, 1))
    noise = rng.standard_normal((count, dimensions)) * np.where(np.arange(dimensions) % 2, 1.5, np.exp(level / 10))
    return np.clip(np.rint(128 + level * (np.arange(dimensions) % 2) + noise), 0, 255).astype(np.uint8)


def test_vector_codes_save_bits_too() -> None:
    training, test = vector_codes(3000, 20, seed=0), vector_codes(500, 20, seed=1)
    model = ContextModel.from_dict(json.loads(json.dumps(train_vectors(training, steps=200).to_dict())))
    assert (model.margin, model.carrier) == (0, "float32")
    block = encode([test[:, None]], model)
    assert 8 * len(block) < 0.85 * FrequencyTables.fit(training).entropy_bits(test)
    assert np.array_equal(decode(block, [(500, 1)], model)[0][:, 0], test)


@pytest.mark.parametrize("dimensions", [1, 2, 700])
def test_codes_of_any_length_train_and_large_ones_stay_bounded(dimensions: int) -> None:
    training = vector_codes(60, dimensions, seed=2)
    model = train_vectors(training, steps=2)
    assert sum(group.size for group in model.groups) <= 2 * dimensions**2 + 64 * 20 * dimensions
    assert all(not group.window for group in model.groups if group.before > 511)
    assert np.array_equal(decode(encode([training[:, None]], model), [(60, 1)], model)[0][:, 0], training)
    with pytest.raises(TrainingError, match="needs codes"):
        train_vectors(training[:0])


@torch.no_grad()
def test_a_prior_becomes_a_context_model_of_as_many_bits() -> None:
    torch.manual_seed(0)
    prior, steps = VectorPrior(torch.full((20,), 4.0), 0.1), torch.zeros(3000, 20)
    prior.networks.out.normal_(0, 0.1)
    prior.networks.direct.normal_(0, 0.1)
    prior.means[:] = 1.0  # one logistic each, as the coder's tables have
    for dimension in range(20):  # numbers with the very probabilities of the prior
        moved, wider = prior.networks((steps / prior.start).clamp(-8, 8))
        chance = torch.rand(3000)
        width = (prior.log_widths[dimension, 0] + wider[:, dimension]).exp()
        mean = prior.means[dimension, 0] + moved[:, dimension] * prior.start[dimension]
        steps[:, dimension] = (mean + width * (chance / (1 - chance)).log()).round().clamp(-128, 127)
    codes = (steps.numpy() + 128).astype(np.uint8)
    bits = entropy_bits([codes[:, None]], train_vectors(codes, prior=prior)) / len(codes)
    assert bits == pytest.approx(float(prior.bits(steps)), rel=0.02)  # the tables are fitted to these codes
    assert bits < 0.97 * FrequencyTables.fit(codes).entropy_bits(codes) / len(codes)


def test_no_codes_are_refused() -> None:
    with pytest.raises(TrainingError, match="needs codes"):
        train([])
