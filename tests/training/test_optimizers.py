"""Optimizers and schedules against their formulas."""

import numpy as np
import pytest
import torch

from aekit.training.config import make_config
from aekit.training.optimizers import FusedAdamW, Tf1RMSProp, learning_rate


def test_tf1_rmsprop_follows_tensorflow_1() -> None:
    """The rule in plain numpy: ms starts at 1, epsilon inside the root."""
    start = np.array([1.0, -2.0, 0.5])
    param = torch.nn.Parameter(torch.tensor(start))
    optimizer = Tf1RMSProp([param], lr=0.01)
    expected, mean_square = start.copy(), np.ones(3)
    for gradient in (np.array([0.1, -3.0, 0.0]), np.array([1e-6, 2.0, 4.0]), np.array([0.3, 0.3, 0.3])):
        param.grad = torch.tensor(gradient)
        optimizer.step()
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        expected -= 0.01 * gradient / np.sqrt(mean_square + 1e-10)
    np.testing.assert_allclose(param.detach().numpy(), expected, rtol=1e-12)


def test_fused_adamw_follows_its_paper() -> None:
    """Decoupled weight decay and both bias corrections (Loshchilov & Hutter 2019, algorithm 2), in plain numpy."""
    start = {0.1: np.array([[1.0, -2.0], [0.5, 3.0]]), 0.0: np.array([0.3, -0.4])}
    params = {decay: torch.nn.Parameter(torch.tensor(values)) for decay, values in start.items()}
    groups = [{"params": [param], "weight_decay": decay} for decay, param in params.items()]
    optimizer = FusedAdamW(groups, lr=0.01, betas=(0.9, 0.97))
    gradients = np.random.default_rng(0).normal(size=(5, 2))
    for decay, expected in start.items():
        mean, mean_square = np.zeros_like(expected), np.zeros_like(expected)
        for step, gradient in enumerate(gradients, 1):
            mean = 0.9 * mean + 0.1 * gradient
            mean_square = 0.97 * mean_square + 0.03 * gradient**2
            update = mean / (1 - 0.9**step) / (np.sqrt(mean_square / (1 - 0.97**step)) + 1e-8)
            expected -= 0.01 * (update + decay * expected)
    for gradient in gradients:
        for param in params.values():
            param.grad = torch.tensor(np.broadcast_to(gradient, param.shape).copy())
        optimizer.step()
    for decay, expected in start.items():
        np.testing.assert_allclose(params[decay].detach().numpy(), expected, rtol=1e-6)


def test_one_cycle_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    config = make_config("default", lr=1e-3)
    rates = [learning_rate(config, step, 1000) for step in range(1000)]
    peak = int(np.argmax(rates))
    assert max(rates) == pytest.approx(1e-3)
    assert all(np.diff(rates[: peak + 1]) >= 0) and all(np.diff(rates[peak:]) <= 0)
    assert rates[-1] < 1e-6


def test_the_book_keeps_its_rate() -> None:
    config = make_config("classic")
    assert {learning_rate(config, step, 100) for step in range(100)} == {0.01}
