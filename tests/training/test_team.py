"""A team computes in several threads what one thread computes."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aekit.training.optimizers import FusedAdamW, Tf1RMSProp
from aekit.training.team import Team, shares_of


def costs(size: int, steps: int, optimizer: str) -> tuple[list[float], list[Tensor]]:
    """The costs and the last weights of a small network that a team of so many trains."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    unused = nn.Parameter(torch.ones(3))
    weights, team = [*network.parameters(), unused], Team(size)
    if optimizer == "adamw":
        stepper: torch.optim.Optimizer = FusedAdamW([{"params": weights}], 1e-2, (0.9, 0.99), team=team)
    else:
        stepper = Tf1RMSProp(weights, 1e-2, team=team)
    x = torch.rand(13, 3, 8, 8).contiguous(memory_format=torch.channels_last)  # gradients are laid out in another way

    def cost(rows: Tensor) -> Tensor:
        out: Tensor = network(x[rows])
        return (out - 1).square().mean()

    found = []
    with team.at_work():
        for _ in range(steps):
            shares = shares_of(torch.arange(13), size, 2)
            found.append(float(team.gradients(cost, weights, [len(rows) / 13 for rows in shares], shares)))
            stepper.step()
    return found, [weight.detach() for weight in weights]


@pytest.mark.parametrize("optimizer", ["adamw", "tf1-rmsprop"])
def test_teams_of_any_size_learn_the_same(optimizer: str) -> None:
    alone, weights = costs(1, 20, optimizer)
    assert alone[-1] < 0.3 * alone[0]
    for size in (2, 3):
        together, others = costs(size, 20, optimizer)
        torch.testing.assert_close(together, alone, rtol=2e-3, atol=1e-5)
        torch.testing.assert_close(others, weights, rtol=2e-2, atol=2e-3)
        assert costs(size, 20, optimizer)[0] == together  # to the bit
    assert weights[-1].tolist() == [1, 1, 1]


def test_members_are_threads_that_torch_does_not_divide_further() -> None:
    team, before, barrier = Team(3), torch.get_num_threads(), threading.Barrier(3)

    def member(_: Any) -> tuple[int, int]:
        barrier.wait(20)
        return threading.get_ident(), torch.get_num_threads()

    with team.at_work():
        found = team.map(member, range(3))
    assert len({thread for thread, _ in found}) == 3
    assert {threads for _, threads in found} == {1}
    assert torch.get_num_threads() == before


def test_an_error_of_a_member_is_raised_after_all_have_ended() -> None:
    ended = threading.Event()

    def member(number: int) -> None:
        if number == 0:
            raise ValueError("first")
        ended.wait(0.2)
        ended.set()

    with pytest.raises(ValueError, match="first"):
        Team(2).map(member, range(2))
    assert ended.is_set()


def test_shares_are_not_smaller_than_is_worth_a_thread() -> None:
    assert [len(part) for part in shares_of(torch.arange(70), 4, 32)] == [35, 35]
    assert [len(part) for part in shares_of(torch.arange(20), 4, 32)] == [20]
    assert [len(part) for part in shares_of(torch.arange(130), 4, 32)] == [33, 33, 32, 32]
