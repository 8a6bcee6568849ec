"""The context model of grid codes: the order of channels, one network a group of channels, and the tables.

    symbols decoded so far ─network─▶ mean in eighths, scale ─▶ table = 8 * scale + mean % 8, residual = symbol - mean

The tables are static. Each holds integer frequencies of the residual, which wraps around at 256, for one scale and one
fraction of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.codes.context.network import MAX_WEIGHTS, GroupNetwork, Prepared
from aekit.codes.context.places import Canvas, Lattice, Numbers
from aekit.codes.entropy import FrequencyTables
from aekit.errors import TablesError

FRACTIONS = 8
"""Fractions of a mean. One eighth is the unit of the network's means."""
MAX_SCALES = 64
"""Most scales of a model."""
MAX_GROUPS = 64
"""Most groups of channels."""
_FORMAT = 1
_LEAST_MEAN, _MOST_MEAN = -128 * FRACTIONS, 128 * FRACTIONS - 1
_PLACES = 2048
"""Places that a network is computed for at a time. Their inputs fit a processor's cache."""


@dataclass(frozen=True, eq=False)
class ContextModel:
    """A context model for codes of K channels. Raises TablesError if its parts do not fit each other."""

    order: tuple[int, ...]
    """Channels in coding order: a permutation of 0 to K - 1."""
    groups: tuple[GroupNetwork, ...]
    """Networks of groups of channels, in coding order."""
    tables: FrequencyTables
    """Tables of residuals, uint16 [scales * FRACTIONS, 257]. A residual r is the value (r + 128) % 256."""
    carrier: str = "float32"
    """Type of the arrays that hold the integers: float32, or float64. The codes and bytes are the same."""
    qualities: int = 1
    """Qualities of the codes. Networks of all qualities share weights and tables."""

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))) or not self.order:
            raise TablesError("the order of channels must be a permutation of 0 to K - 1")
        befores = [group.before for group in self.groups]
        ends = [group.before + group.channels for group in self.groups]
        if not 1 <= len(befores) <= MAX_GROUPS or befores != [0, *ends[:-1]] or ends[-1] != len(self.order):
            raise TablesError(
                f"groups must hold {len(self.order)} channels one after the other; found {befores}, {ends}"
            )
        if any(group.qualities != self.qualities for group in self.groups):
            raise TablesError("groups of a context model", expected=f"biases of {self.qualities} qualities")
        if len(self.tables.frequencies) % FRACTIONS or len(self.tables.frequencies) > FRACTIONS * MAX_SCALES:
            raise TablesError(
                "tables of a context model", expected=f"{FRACTIONS} for each of at most {MAX_SCALES} scales",
                found=str(len(self.tables.frequencies)),
            )  # fmt: skip

    @property
    def channels(self) -> int:
        """Channels of a code, K."""
        return len(self.order)

    @property
    def margin(self) -> int:
        """Places of margin that the networks' offsets need around a picture."""
        offsets = [offset for group in self.groups for offset in (*group.window, *group.own)]
        return max((abs(way) for offset in offsets for way in offset), default=0)

    def check_bounds(self) -> int:
        """Return the bound on the absolute value of every sum in the networks.

        Raises TablesError if the bound reaches the limit below which the carrier holds all integers exactly.
        """
        for _ in self.passes:
            pass
        return max(group.worst_case for group in self.groups)

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """All passes in coding order, ready to compute. Raises TablesError as `check_bounds` does."""
        return tuple(
            Pass(
                group.before,
                group.channels,
                lattice,
                group.prepared(number, self.carrier),
                len(self.tables.frequencies),
            )
            for group in self.groups
            for number, lattice in enumerate(group.lattices)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a form for JSON. The carrier is not part of it."""
        return {
            "format": _FORMAT,
            "order": list(self.order),
            "groups": [group.to_dict() for group in self.groups],
            "tables": self.tables.to_dict(),
            "worst_case": max(group.worst_case for group in self.groups),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], qualities: int = 1) -> ContextModel:
        """Return the model of which `data` is the `to_dict`.

        The carrier is float32 if the bounds allow it. Raises TablesError if `data` has another form or if a sum may be
        inexact in float64.
        """
        try:
            if type(data["format"]) is not int or data["format"] != _FORMAT:
                raise TablesError(f"a context model must have format {_FORMAT}; found {data['format']!r}")
            order = tuple(data["order"])
            if not all(type(channel) is int for channel in order):
                raise TablesError("the order of channels must hold integers")
            groups, before = [], 0
            for entry in data["groups"][: MAX_GROUPS + 1]:
                groups.append(GroupNetwork.from_dict(entry, before, qualities))
                before += groups[-1].channels
                if sum(group.size for group in groups) > MAX_WEIGHTS:
                    raise TablesError(f"a context model must have at most {MAX_WEIGHTS} weights")
            worst = max((group.worst_case for group in groups), default=0)
            if data["worst_case"] != worst:
                raise TablesError("worst_case of a context model", expected=str(worst), found=repr(data["worst_case"]))
            tables, carrier = FrequencyTables.from_dict(data["tables"]), "float32" if worst < 1 << 24 else "float64"
        except (KeyError, TypeError) as error:
            raise TablesError(f"a context model must be as to_dict writes it; found {error!r}") from error
        model = cls(order, tuple(groups), tables, carrier, qualities)
        model.check_bounds()
        return model


@dataclass(frozen=True, eq=False)
class Pass:
    """One lattice of one group of channels."""

    before: int
    """Channels coded earlier."""
    channels: int
    """Channels of the group, C."""
    lattice: Lattice
    compute: Prepared
    tables: int
    """Number of tables."""

    @property
    def planes(self) -> slice:
        """Planes of a canvas that hold the group."""
        return slice(1 + self.before, 1 + self.before + self.channels)

    def predict(self, canvas: Canvas, rows: Numbers, pitch: Numbers) -> tuple[NDArray[np.uint8], Numbers]:
        """Return the means, uint8 modulo 256, and the tables, int64, of the symbols of these places, [n, C] each."""
        means = np.empty((len(rows), self.channels), np.uint8)
        tables = np.empty((len(rows), self.channels), np.int64)
        for begin in range(0, len(rows), _PLACES):
            part = slice(begin, begin + _PLACES)
            earlier = canvas.around(rows[part], pitch[part], self.compute.window, slice(0, 1 + self.before))
            own = canvas.around(rows[part], pitch[part], self.compute.own, self.planes)
            sets = None if canvas.set_of_row is None else canvas.set_of_row[rows[part]]
            out = self.compute(np.concatenate([earlier, own], axis=1), sets)
            mean = np.clip(out[:, : self.channels], _LEAST_MEAN, _MOST_MEAN).astype(np.int64)
            scale = np.clip(out[:, self.channels :], 0, self.tables // FRACTIONS - 1).astype(np.int64)
            means[part] = (mean + FRACTIONS // 2) // FRACTIONS & 255
            tables[part] = scale * FRACTIONS + mean % FRACTIONS
        return means, tables


def in_passes(model: ContextModel, canvas: Canvas) -> Iterator[tuple[Pass, Numbers, Numbers]]:
    """Yield each pass with the rows of its places and their pitches, in coding order."""
    places: dict[Lattice, tuple[Numbers, Numbers]] = {}
    for each in model.passes:
        if each.lattice not in places:
            places[each.lattice] = canvas.places(each.lattice)
        yield each, *places[each.lattice]
