"""Small networks for all groups of dimensions of vector codes, computed together.

    x [n, D] ─▶ group g sees the dimensions of groups before g ─▶ hidden units of g ─▶ two numbers for each dimension

Masked weights keep the order, as in MADE (Germain et al. 2015). Each group has hidden units of its own, so the networks
can be taken apart again.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

MOST_HIDDEN = 8.0
"""Largest value of a hidden unit. The least is 0."""


class GroupedNetworks(nn.Module):
    """One network for each group. All outputs start at 0."""

    seen: Tensor
    """The inputs that each dimension's network sees: 1 for dimensions of earlier groups, else 0. [D, D]."""
    seen_by_group: Tensor
    """The inputs that each group's network sees, 1 or 0, [groups, D]."""
    group_of: Tensor
    """Group of each dimension, [D]."""

    def __init__(self, sizes: Sequence[int], hidden: int, most_seen: int = 2**30) -> None:
        """Make networks for groups of so many dimensions, with `hidden` units each.

        A group with over `most_seen` dimensions before it sees none.
        """
        super().__init__()
        dimensions, groups = sum(sizes), len(sizes)
        before = torch.tensor(np.cumsum([0, *sizes[:-1]]))
        seen = (torch.arange(dimensions) < before[:, None]) & (before[:, None] <= most_seen)
        group_of = torch.repeat_interleave(torch.arange(groups), torch.tensor(list(sizes)))
        self.register_buffer("seen_by_group", seen.float())
        self.register_buffer("seen", seen.float()[group_of])
        self.register_buffer("group_of", group_of)
        reach = (1 + seen.sum(1)).rsqrt()  # torch's rule for linear layers
        self.hidden = nn.Parameter(reach[:, None, None] * (2 * torch.rand(groups, hidden, dimensions) - 1))
        self.hidden_bias = nn.Parameter(reach[:, None] * (2 * torch.rand(groups, hidden) - 1))
        self.direct = nn.Parameter(torch.zeros(2, dimensions, dimensions))
        self.out = nn.Parameter(torch.zeros(2, dimensions, hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return two numbers for each dimension of x [n, D], of about unit size: [n, D] each."""
        groups, units = self.hidden_bias.shape
        weights = (self.hidden * self.seen_by_group[:, None]).flatten(0, 1)
        hidden = (x @ weights.T + self.hidden_bias.flatten()).clamp(0, MOST_HIDDEN).unflatten(1, (groups, units))
        # index_select is faster than hidden[:, group_of].
        own = hidden if groups == x.shape[1] else hidden.index_select(1, self.group_of)
        first, second = (
            (own * self.out[part]).sum(2) + x @ (self.direct[part] * self.seen).T for part in (0, 1)
        )  # fmt: skip
        return first, second
