"""Training of the context model of grid codes, on the finished codes of training pictures.

    codes of training pictures ─▶ inputs of each place and pass ─▶ float network ─▶ mean, scale ─▶ bits of a logistic
    float network ─rounded to integers─▶ GroupNetwork ─▶ residuals of training pictures ─counted─▶ tables

Each group of channels has one network for all its passes. Inputs that a pass does not know are 0, so one network sees
four times the examples that a network of one pass would see. Groups train one after the other: none needs another.

With qualities, one network sees codes of all of them. A quality adds to the biases of the hidden units and the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aekit.codes.context.coder import symbol_index
from aekit.codes.context.model import FRACTIONS, ContextModel
from aekit.codes.context.network import GroupNetwork
from aekit.codes.context.places import Canvas, Codes, known
from aekit.codes.rans import PRECISION, TOTAL
from aekit.errors import TrainingError
from aekit.training.context_export import SCALES, WIDTHS, fitted_tables, in_units, rounded, starting_tables
from aekit.training.context_layout import GroupLayout, default_layout

BATCH = 256
"""Places in a batch."""
RATE = 4e-3
"""Highest learning rate."""
DECAY = 0.1
"""Weight decay of AdamW. Without it the networks of rare channels learn their training pictures by heart."""
INPUT_DROP = 0.02
"""Share of inputs that training sets to 0."""
MAX_PLACES = 150_000
"""Most places that a group trains on."""
_LEAST_DEVIATION = 0.3
"""Least deviation that an input is divided by."""
_LEAST_PROBABILITY = 2e-5
"""Least probability that the cost uses. The tables' escape is about as likely."""


@dataclass(frozen=True)
class TrainedContext:
    """A context model and the float networks that it was rounded from."""

    model: ContextModel
    layout: tuple[GroupLayout, ...]
    networks: tuple[FloatGroup, ...]

    def float_bits(self, codes: Sequence[Codes], qualities: Sequence[int] = ()) -> float:
        """Return the ideal bits of codes with the float networks in place of the integer ones, and the same tables."""
        canvas, before, bits = _canvas(codes, self.layout, self.model.order, qualities), 0, 0.0
        freq, start = (table.astype(np.int64) for table in self.model.tables.of_values)
        cost = PRECISION - np.log2(freq) + 8 * (freq + start == TOTAL)
        for network, group in zip(self.networks, self.layout, strict=True):
            examples = _Examples.of(canvas, group, before)
            with torch.no_grad():
                found = network(torch.from_numpy(examples.inputs).float(), *examples.conditions())
            mean, scale = in_units(*(part.double().numpy() for part in found))
            residual = (examples.symbols - (mean + FRACTIONS // 2) // FRACTIONS + 128) & 255
            bits += float(cost[(scale * FRACTIONS + mean % FRACTIONS) * 256 + residual].sum())
            before += group.channels
        return bits


def train(
    codes: Sequence[Codes],
    layout: Sequence[GroupLayout] = (),
    *,
    qualities: Sequence[int] = (),
    steps: int = 2000,
    seed: int = 0,
) -> TrainedContext:
    """Train a context model on codes of training pictures, uint8 [h, w, K], for so many steps a group.

    Without a layout it takes the default of K channels. `qualities` holds the quality of each code, for a model that
    has several, and the highest is among them. Raises TrainingError if there are no codes.
    """
    if not codes:
        raise TrainingError("a context model needs codes of training pictures")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    layout = tuple(layout) or default_layout(codes[0].shape[2])
    order = _by_bits(codes)
    canvas = _canvas(codes, layout, order, qualities)
    count = max(qualities, default=1)
    groups, networks, before = list[GroupNetwork](), list[FloatGroup](), 0
    for group in layout:
        examples = _Examples.of(canvas, group, before, rng)
        networks.append(FloatGroup(examples, group, count))
        _fit(networks[-1], examples, steps)
        groups.append(rounded(networks[-1].state_dict(), group, before))
        before += group.channels
    model = ContextModel(tuple(order), tuple(groups), starting_tables(), qualities=count)
    counts = np.zeros(SCALES * FRACTIONS * 256, np.int64)
    for part in _portions(codes):
        index = symbol_index(codes[part], model, qualities[part])
        counts += np.bincount(index, minlength=counts.size)
    model = replace(model, tables=fitted_tables(counts.reshape(-1, 256)))
    model.check_bounds()
    return TrainedContext(model, layout, tuple(networks))


def _canvas(
    codes: Sequence[Codes], layout: Sequence[GroupLayout], order: Sequence[int], qualities: Sequence[int]
) -> Canvas:
    reach = (abs(way) for group in layout for offset in (*group.window, *group.own) for way in offset)
    canvas = Canvas([(code.shape[0], code.shape[1]) for code in codes], len(order), max(reach, default=0), qualities)
    canvas.fill(codes, order)
    return canvas


@dataclass(frozen=True)
class _Examples:
    """Inputs and symbols of places of one group, for all its passes."""

    inputs: NDArray[np.int8]
    symbols: NDArray[np.int8]
    numbers: NDArray[np.int64]
    """Pass of each example."""
    sets: NDArray[np.int64] | None
    """Quality less 1 of each example; None for one quality."""

    @classmethod
    def of(cls, canvas: Canvas, group: GroupLayout, before: int, rng: np.random.Generator | None = None) -> _Examples:
        """Gather all places, or at most MAX_PLACES of them if there is a generator."""
        planes = slice(1 + before, 1 + before + group.channels)
        inputs, symbols, numbers, sets = [], [], [], []
        for number, lattice in enumerate(group.lattices):
            rows, pitch = canvas.places(lattice)
            most = MAX_PLACES // lattice.step**2
            if rng is not None and len(rows) > most:
                chosen = np.sort(rng.permutation(len(rows))[:most])
                rows, pitch = rows[chosen], pitch[chosen]
            earlier = canvas.around(rows, pitch, group.window, slice(0, 1 + before))
            own = canvas.around(rows, pitch, group.own, planes).reshape(len(rows), len(group.own), group.channels)
            unknown = np.setdiff1d(np.arange(len(group.own)), known(group.lattices, number, group.own))
            own[:, unknown] = 0
            inputs.append(np.concatenate([earlier, own.reshape(len(rows), -1)], axis=1))
            symbols.append(canvas.planes[rows, planes])
            numbers.append(np.full(len(rows), number))
            if canvas.set_of_row is not None:
                sets.append(canvas.set_of_row[rows])
        joined = [np.concatenate(part) for part in (inputs, symbols, numbers)]
        return cls(joined[0], joined[1], joined[2], np.concatenate(sets) if sets else None)

    def conditions(self) -> tuple[Tensor, Tensor | None]:
        """Return the pass of each example, and its quality less 1."""
        return torch.from_numpy(self.numbers), None if self.sets is None else torch.from_numpy(self.sets)


class FloatGroup(nn.Module):
    """The network of a group in floats, as it trains. Its outputs are means and logarithms of widths, [n, C] each."""

    MOST_HIDDEN = 8.0
    """Largest value of a hidden unit."""

    def __init__(self, examples: _Examples, group: GroupLayout, qualities: int = 1) -> None:
        super().__init__()
        deviations = torch.from_numpy(examples.inputs.std(0, dtype=np.float32)).clamp(min=_LEAST_DEVIATION)
        symbols = examples.symbols.astype(np.float32)
        spread = torch.from_numpy(symbols.std(0)).clamp(min=0.1)
        self.input_scale: Tensor
        self.out_scale: Tensor
        self.register_buffer("input_scale", 1 / deviations)
        self.register_buffer("out_scale", torch.cat([spread, torch.ones(group.channels)]))
        self.hidden = nn.Linear(len(deviations), group.hidden)
        self.direct = nn.Parameter(torch.zeros(2 * group.channels, len(deviations)))
        self.out = nn.Parameter(torch.zeros(2 * group.channels, group.hidden))
        self.hidden_pass = nn.Parameter(torch.zeros(len(group.lattices), group.hidden))
        self.out_pass = nn.Parameter(torch.zeros(len(group.lattices), 2 * group.channels))
        widths = (0.55 * spread).log()  # of a logistic with that deviation
        self.out_bias = nn.Parameter(torch.cat([torch.from_numpy(symbols.mean(0)), widths]))
        self.hidden_quality = self.out_quality = None
        if examples.sets is not None:
            self.hidden_quality = nn.Parameter(torch.zeros(qualities, group.hidden))
            of_each = torch.stack([spread] * qualities)
            for quality in np.unique(examples.sets):
                of_each[quality] = torch.from_numpy(symbols[examples.sets == quality].std(0)).clamp(min=0.1)
            self.out_quality = nn.Parameter(torch.cat([torch.zeros_like(of_each), (of_each / spread).log()], dim=1))

    def forward(self, inputs: Tensor, numbers: Tensor, sets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = inputs * self.input_scale
        hidden, out = self.hidden(x) + self.hidden_pass[numbers], x @ self.direct.T + self.out_pass[numbers]
        if self.hidden_quality is not None and self.out_quality is not None and sets is not None:
            hidden, out = hidden + self.hidden_quality[sets], out + self.out_quality[sets]
        out = (hidden.clamp(0, self.MOST_HIDDEN) @ self.out.T + out) * self.out_scale + self.out_bias
        mean, width = out.chunk(2, dim=1)
        return mean, width.clamp(*WIDTHS)


def logistic_bits(mean: Tensor, width: Tensor, symbols: Tensor) -> Tensor:
    """Return the bits of each symbol: the mass of a logistic in the interval of one step around it."""
    away, narrow = (symbols - mean).abs(), (-width).exp()
    mass = ((0.5 - away) * narrow).sigmoid() - ((-0.5 - away) * narrow).sigmoid()
    return -mass.clamp(min=_LEAST_PROBABILITY).log2()


def _fit(network: FloatGroup, examples: _Examples, steps: int) -> None:
    inputs, symbols = (torch.from_numpy(part) for part in (examples.inputs, examples.symbols))
    numbers, sets = examples.conditions()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 20 * progress + 0.05) * (0.5 * (1 + math.cos(math.pi * progress)) + 0.003)
        chosen = torch.randint(len(inputs), (BATCH,))
        x = inputs[chosen].float()
        x = x * (torch.rand_like(x) >= INPUT_DROP)
        mean, width = network(x, numbers[chosen], None if sets is None else sets[chosen])
        loss = logistic_bits(mean, width, symbols[chosen].float()).sum() / BATCH
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _by_bits(codes: Sequence[Codes]) -> list[int]:
    """Return channels in descending order of their bits under static tables."""
    flat = np.concatenate([code.reshape(-1, code.shape[2]) for code in codes])
    bits = []
    for column in flat.T:
        counts = np.bincount(column)
        share = counts[counts > 0] / len(flat)
        bits.append(-float(share @ np.log2(share)))
    order: list[int] = np.argsort(-np.array(bits), kind="stable").tolist()
    return order


def _portions(codes: Sequence[Codes], most: int = 1 << 20) -> list[slice]:
    """Divide codes into parts of at most `most` symbols each, or of one code."""
    begins, held = list[int](), most
    for row, code in enumerate(codes):
        if held + code.size > most:
            begins.append(row)
            held = 0
        held += code.size
    return [slice(*ends) for ends in pairwise([*begins, len(codes)])]
