"""Training of the context model of vector codes, on the finished codes of training images.

    codes uint8 [n, D] ─▶ all groups of dimensions at once ─▶ means and log widths ─▶ bits of a logistic
    or, for a transform that was trained with a VectorPrior: the networks of that prior
    networks ─taken apart and rounded to integers─▶ GroupNetworks ─▶ residuals of training images ─counted─▶ tables

A code is a place of a grid of one column. So a group has one pass and sees the earlier groups of the same code alone.
The dimensions keep their order, in which the objective `rate` trained them (aekit.training.objectives.vector_prior).
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from aekit.codes.context.coder import symbol_index
from aekit.codes.context.model import FRACTIONS, ContextModel
from aekit.codes.context.network import GroupNetwork
from aekit.codes.context.places import ZERO, Codes
from aekit.errors import TrainingError
from aekit.training.context import BATCH, DECAY, INPUT_DROP, logistic_bits
from aekit.training.context_export import SCALES, WIDTHS, fitted_tables, rounded, starting_tables
from aekit.training.context_layout import MOST_SEEN, VECTOR_HIDDEN, vector_layout
from aekit.training.grouped import GroupedNetworks
from aekit.training.objectives.vector_prior import VectorPrior

_RATE = 0.02
"""Peak learning rate. With a fifth of this rate, digits took 1.5 % more bits after equally many steps."""
_LEAST_DEVIATION, _LEAST_SPREAD = 0.3, 0.1
"""Least deviation that an input is divided by, and least deviation that an output is multiplied by."""
_ROWS = 4096
"""Codes whose residuals are counted together."""


def train_vectors(codes: Codes, *, prior: VectorPrior | None = None, steps: int = 2000, seed: int = 0) -> ContextModel:
    """Train a context model on codes of training images, uint8 [n, D]. Raises TrainingError if there are none.

    With `prior`, the probabilities that the transform was trained with, the networks are those of the prior. Only the
    tables are fitted to the codes. The prior has seen images that training warped: on traffic signs, networks that were
    trained on the codes of 6,269 images took 3 % more bits.
    """
    if not len(codes):
        raise TrainingError("a context model needs codes of training images")
    torch.manual_seed(seed)
    values = torch.from_numpy(codes.astype(np.float32) - ZERO)
    network = _FloatVectors(values)
    if prior is None:
        _fit(network, values, steps)
    else:
        network.take_over(prior)
    model = ContextModel(tuple(range(codes.shape[1])), network.rounded(), starting_tables())
    counts = np.zeros(SCALES * FRACTIONS * 256, np.int64)
    step = max(1, min(_ROWS, (1 << 20) // codes.shape[1]))
    for start in range(0, len(codes), step):
        counts += np.bincount(symbol_index([codes[start : start + step, None]], model), minlength=counts.size)
    model = ContextModel(model.order, model.groups, fitted_tables(counts.reshape(-1, 256)))
    model.check_bounds()
    return model


class _FloatVectors(nn.Module):
    """The networks of all groups in floats, as they train. Outputs are means and logarithms of widths, [n, D] each."""

    input_scale: Tensor
    spread: Tensor

    def __init__(self, values: Tensor) -> None:
        """`values` are codes less 128, float [n, D]."""
        super().__init__()
        self.layout = vector_layout(values.shape[1])
        deviations = values.std(0, correction=0)
        self.register_buffer("input_scale", 1 / deviations.clamp(min=_LEAST_DEVIATION))
        self.register_buffer("spread", deviations.clamp(min=_LEAST_SPREAD))
        self.networks = GroupedNetworks([group.channels for group in self.layout], VECTOR_HIDDEN, MOST_SEEN)
        self.means = nn.Parameter(values.mean(0))
        self.widths = nn.Parameter((0.55 * self.spread).log())  # of a logistic with that deviation

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        mean, width = self.networks(values * self.input_scale)
        return mean * self.spread + self.means, (width + self.widths).clamp(*WIDTHS)

    @torch.no_grad()
    def take_over(self, prior: VectorPrior) -> None:
        """Take over the networks of a prior. A logistic as wide as its mixture replaces each mixture."""
        self.networks.load_state_dict(prior.networks.state_dict())
        self.input_scale.copy_(1 / prior.start)
        self.spread.copy_(prior.start)
        shares, widths = prior.shares.softmax(-1), prior.log_widths.exp()
        mean = (shares * prior.means).sum(-1)
        variance = (shares * (prior.means.square() + (math.pi * widths).square() / 3)).sum(-1) - mean.square()
        self.means.copy_(mean)
        self.widths.copy_((3 * variance).sqrt().div(math.pi).log())

    def rounded(self) -> tuple[GroupNetwork, ...]:
        """Return the integer network of each group."""
        groups, before, parts = list[GroupNetwork](), 0, self.networks
        for number, group in enumerate(self.layout):
            own, seen = slice(before, before + group.channels), slice(0, before if group.window else 0)
            # The first input is plane 0, which is the same everywhere: its weights stay 0.
            planes = seen.stop + len(group.window)
            hidden, direct = torch.zeros(VECTOR_HIDDEN, planes), torch.zeros(2, group.channels, planes)
            hidden[:, planes - seen.stop :] = parts.hidden[number][:, seen]
            direct[:, :, planes - seen.stop :] = parts.direct[:, own, seen]
            state = {
                "input_scale": torch.cat([torch.ones(planes - seen.stop), self.input_scale[seen]]),
                "out_scale": torch.cat([self.spread[own], torch.ones(group.channels)]),
                "hidden.weight": hidden,
                "hidden.bias": parts.hidden_bias[number],
                "hidden_pass": torch.zeros(1, VECTOR_HIDDEN),
                "direct": direct.flatten(0, 1),
                "out": parts.out[:, own].flatten(0, 1),
                "out_pass": torch.zeros(1, 2 * group.channels),
                "out_bias": torch.cat([self.means[own], self.widths[own]]),
            }
            groups.append(rounded(state, group, before))
            before += group.channels
        return tuple(groups)


def _fit(network: _FloatVectors, values: Tensor, steps: int) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=DECAY)
    for step in range(steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, 20 * progress + 0.05) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.003)
        batch = values[torch.randint(len(values), (BATCH,))]
        mean, width = network(batch * (torch.rand_like(batch) >= INPUT_DROP))
        loss = logistic_bits(mean, width, batch).sum() / BATCH
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
