"""From a trained float network to integers: weights, biases, shifts and frequency tables of the context model.

A weight w of a sum becomes round(w * unit * 2^shift). `unit` is how many integers the sum's value 1 becomes after the
shift: 32 for hidden units, 8 for means, one for each scale's step of log width. Each sum has the largest shift that
keeps its weights within WEIGHT and its worst case below 2^24, so float32 carries it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from aekit.codes.context.model import FRACTIONS
from aekit.codes.context.network import MAX_SHIFT, MOST_HIDDEN, MOST_INPUT, GroupNetwork
from aekit.codes.entropy import FrequencyTables
from aekit.training.context_layout import GroupLayout

SCALES = 32
"""Number of scales."""
WEIGHT = 1023
"""Largest absolute weight."""
HIDDEN_UNIT = 32
"""Integers of a hidden unit's value 1; 255 is nearly the largest value, 8."""
LIMIT = 1 << 24
"""Sums stay below this."""
WIDTHS = (-3.0, 4.5)
"""Logarithms of a logistic's width at the first scale and at the last one."""
_WIDTH_STEP = (WIDTHS[1] - WIDTHS[0]) / (SCALES - 1)
_PRIOR = 8
"""Residuals that the logistic of a scale and fraction adds to the counted ones, for tables with few."""
_UNIT = 64
"""Integers that one counted residual becomes, so that the prior's shares are integers too."""

Doubles = NDArray[np.float64]


def rounded(state: Mapping[str, Tensor], group: GroupLayout, before: int) -> GroupNetwork:
    """Return the integer network of a trained float network. `state` is the `state_dict` of a FloatGroup."""
    part = {name: value.detach().double().numpy() for name, value in state.items()}
    scale, out_scale = part["input_scale"], part["out_scale"][:, None]
    to_hidden = part["hidden.weight"] * scale * HIDDEN_UNIT
    hidden_bias = (part["hidden.bias"] + _conditions(part, "hidden")) * HIDDEN_UNIT
    unit = np.repeat([FRACTIONS, 1 / _WIDTH_STEP], group.channels)[:, None]
    direct = part["direct"] * scale * out_scale * unit
    out = part["out"] * out_scale * unit / HIDDEN_UNIT
    first = np.repeat([0.0, -WIDTHS[0]], group.channels)
    out_bias = (_conditions(part, "out") * out_scale[:, 0] + part["out_bias"] + first) * unit[:, 0]
    hidden_shift = _shifts([(to_hidden, MOST_INPUT)], hidden_bias)
    out_shift = _shifts([(direct, MOST_INPUT), (out, MOST_HIDDEN)], out_bias)
    weights = np.concatenate([_times(to_hidden, hidden_shift), _times(direct, out_shift)]).T
    return GroupNetwork(
        before, group.lattices, group.window, group.own,
        np.ascontiguousarray(weights).astype(np.int16), _bias(hidden_bias, hidden_shift), hidden_shift,
        np.ascontiguousarray(_times(out, out_shift).T).astype(np.int16), _bias(out_bias, out_shift), out_shift,
        len(part["hidden_quality"]) if "hidden_quality" in part else 1,
    )  # fmt: skip


def _conditions(part: dict[str, Doubles], name: str) -> Doubles:
    """Return what each pass adds to the biases, [P, n]. With qualities [Q · P, n], the lowest quality first."""
    passes = part[f"{name}_pass"]
    if f"{name}_quality" not in part:
        return passes
    rows: Doubles = (part[f"{name}_quality"][:, None] + passes).reshape(-1, passes.shape[1])
    return rows


def in_units(mean: Doubles, width: Doubles) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return means in eighths and numbers of scales, for means and logarithms of widths of any shape."""
    scale = np.rint((width - WIDTHS[0]) / _WIDTH_STEP).clip(0, SCALES - 1)
    return np.rint(mean * FRACTIONS).clip(-128 * FRACTIONS, 128 * FRACTIONS - 1).astype(np.int64), scale.astype(
        np.int64
    )


def _shifts(parts: list[tuple[Doubles, int]], bias: Doubles) -> NDArray[np.uint8]:
    """Return the largest allowed shift of each sum, uint8 [sums]. A part is weights [sums, inputs] and the largest
    input; bias is [passes, sums]."""
    shifts = np.zeros(bias.shape[1], np.uint8)
    for shift in range(MAX_SHIFT + 1):
        factor = 2.0**shift
        largest = np.max([np.abs(weights).max(1, initial=0) for weights, _ in parts], axis=0) * factor
        sums = (np.abs(bias).max(0) + 0.5) * factor + 1
        for weights, most in parts:
            sums = sums + most * (np.abs(weights).sum(1) * factor + weights.shape[1] / 2)  # a rounding adds up to 1/2
        shifts[(largest <= WEIGHT) & (sums < LIMIT)] = shift
    return shifts


def _times(weights: Doubles, shifts: NDArray[np.uint8]) -> Doubles:
    clipped: Doubles = np.clip(np.rint(weights * np.exp2(shifts.astype(float))[:, None]), -WEIGHT, WEIGHT)
    return clipped


def _bias(bias: Doubles, shifts: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return biases as integers, with a half of the shift's unit added: so the floor after the shift rounds."""
    return np.rint((bias + 0.5) * np.exp2(shifts.astype(float))).astype(np.int32)


def _expected() -> Doubles:
    """Return the probability of each residual under the logistic of each table, [SCALES * FRACTIONS, 256]."""
    widths = np.exp(WIDTHS[0] + _WIDTH_STEP * np.arange(SCALES))[:, None, None]
    fractions = np.arange(FRACTIONS)
    means = np.where(fractions < FRACTIONS // 2, fractions, fractions - FRACTIONS)[:, None] / FRACTIONS
    away = np.abs(np.arange(256) - 128 - means)
    below, above = (1 / (1 + np.exp(np.minimum((away + half) / widths, 700))) for half in (-0.5, 0.5))
    mass = below - above
    flat = mass.reshape(-1, 256)
    shares: Doubles = flat / flat.sum(1, keepdims=True)
    return shares


def starting_tables() -> FrequencyTables:
    """Return the tables of the logistics themselves."""
    return FrequencyTables.of_counts(np.rint(_expected() * (1 << 20)).astype(np.int64))


def fitted_tables(counts: NDArray[np.int64]) -> FrequencyTables:
    """Return tables for counted residuals, int64 [SCALES * FRACTIONS, 256]."""
    prior = np.rint(_expected() * _PRIOR * _UNIT).astype(np.int64)
    return FrequencyTables.of_counts(counts * _UNIT + prior)
