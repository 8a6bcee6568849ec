"""Rounding with a dead zone, gradients past it, and errors counted inside pictures alone."""

import pytest
import torch

from aekit.training.objectives.rounding import (
    bits_per_pixel,
    clipped_mse_inside,
    errors_inside,
    repeat_edges,
    round_with_dead_zone,
    straight_through,
)


def test_only_the_zone_of_zero_is_wider() -> None:
    steps = torch.tensor([-2.51, -1.51, -0.63, -0.61, -0.2, 0.0, 0.5, 0.61, 0.63, 1.49, 1.51, 300.4])
    expected = [-3.0, -2.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 300.0]
    assert round_with_dead_zone(steps, 0.12).tolist() == expected
    assert round_with_dead_zone(torch.tensor([0.49, 0.51, 1.4]), 0.0).tolist() == [0.0, 1.0, 1.0]


def test_gradients_are_those_of_what_was_not_rounded() -> None:
    steps = torch.tensor([0.9, -0.3], requires_grad=True)
    rounded = straight_through(steps, round_with_dead_zone(steps))
    (rounded * torch.tensor([2.0, 5.0])).sum().backward()
    assert rounded.tolist() == [1.0, 0.0]
    assert steps.grad is not None and steps.grad.tolist() == [2.0, 5.0]


def test_repeated_edges_count_for_nothing() -> None:
    x, inside = torch.zeros(1, 3, 2, 2), torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    x_hat = torch.full((1, 3, 2, 2), 0.5)
    x_hat[..., 1] = 100.0
    assert float(clipped_mse_inside(x_hat, x, inside)) == pytest.approx(0.25)
    assert float(bits_per_pixel(torch.tensor(6.0), inside)) == pytest.approx(3.0)


def test_pixels_beyond_the_range_cost_what_their_clipped_values_do() -> None:
    x_hat = torch.tensor([[[[1.5, -0.5]]]], requires_grad=True)
    cost = clipped_mse_inside(x_hat, torch.tensor([[[[1.0, 0.5]]]]), torch.ones(1, 1, 1, 2))
    cost.backward()
    assert float(cost.detach()) == pytest.approx(0.125)
    assert x_hat.grad is not None and x_hat.grad.flatten().tolist() == [0.0, -0.5]


def test_edges_are_repeated_on_whichever_side_they_lie() -> None:
    x = torch.rand(2, 3, 5, 7)
    inside = torch.zeros(2, 1, 5, 7)
    inside[0, :, :3, :6] = 1
    inside[1, :, 2:, 1:] = 1
    repeated = repeat_edges(x, inside)
    for row, (kept, margins) in enumerate([(x[0, :, :3, :6], (0, 1, 0, 2)), (x[1, :, 2:, 1:], (1, 0, 2, 0))]):
        assert torch.equal(repeated[row], torch.nn.functional.pad(kept[None], margins, mode="replicate")[0])


def test_the_error_of_each_picture_counts_its_own_pixels() -> None:
    x, inside = torch.zeros(2, 3, 2, 2), torch.ones(2, 1, 2, 2)
    inside[1, 0, 1] = 0
    x_hat = torch.full((2, 3, 2, 2), 0.5)
    x_hat[1, :, 1] = 7
    x_hat[1, :, 0] = 7  # clipped to 1
    assert errors_inside(x_hat, x, inside).tolist() == pytest.approx([0.25, 1.0])
    assert float(clipped_mse_inside(x_hat, x, inside)) == pytest.approx((4 * 0.25 + 2 * 1) / 6)
