"""Layout of a context model: its groups of channels or dimensions, their passes, and what their networks see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aekit.codes.context.places import Lattice, Offset

QUARTERS = tuple(Lattice(2, y, x) for y, x in ((0, 0), (1, 1), (0, 1), (1, 0)))
"""Passes of a group: each is a quarter of the places. The last two see all four direct neighbours."""
FIRST = (*(Lattice(4, y, x) for y, x in ((0, 0), (2, 2), (0, 2), (2, 0))), *QUARTERS[1:])
"""Passes of the first group, which sees nothing else: its first quarter is coded in quarters itself."""

VECTOR_HIDDEN = 32
"""Hidden units of each network of vector codes."""
MOST_SEEN = 511
"""Largest number of dimensions that a network of vector codes sees. Groups with more dimensions before them are coded
without context. The number of weights grows with the square of the dimensions, and late dimensions have few bits."""


@dataclass(frozen=True)
class GroupLayout:
    """Sizes of one group and its network."""

    channels: int
    hidden: int
    lattices: tuple[Lattice, ...]
    window: tuple[Offset, ...]
    own: tuple[Offset, ...]


def square(reach: int) -> tuple[Offset, ...]:
    """Return the offsets of a square of places around a place, itself included."""
    side = range(-reach, reach + 1)
    return tuple(Offset(dy, dx) for dy in side for dx in side)


def default_layout(channels: int) -> tuple[GroupLayout, ...]:
    """Return the groups for codes of so many channels: 1, 1, 2, 4, 8, 16 and the rest, those with most bits first.

    Chosen on validation pictures of blood cells: groups of 2, 6, 16 and 24 channels took 0.9 % more bits
    after equally many steps of each.
    """
    ends = [end for end in (1, 2, 4, 8, 16, 32) if end < channels]
    sizes = np.diff([0, *ends, channels]).tolist()
    groups = list[GroupLayout]()
    for number, size in enumerate(sizes):
        own = tuple(offset for offset in square(1 if number else 2) if offset != (0, 0))
        window = square(1) if number < 6 else (Offset(0, 0),)  # more inputs only learned the training pictures by heart
        groups.append(GroupLayout(size, 32 if number < 3 else 48, QUARTERS if number else FIRST, window, own))
    return tuple(groups)


def vector_layout(dimensions: int) -> tuple[GroupLayout, ...]:
    """Return the groups for vector codes of so many numbers, which are coded as grids of one column.

    The first dimensions, which have most bits, are groups of their own.
    """
    ends = [end for end in (*range(1, 17), *range(20, 64, 4), 64, 80, 96, 128, 192, 256, 384, 512) if end < dimensions]
    groups, before = list[GroupLayout](), 0
    for size in np.diff([0, *ends, dimensions]).tolist():
        window = (Offset(0, 0),) if before <= MOST_SEEN else ()
        groups.append(GroupLayout(size, VECTOR_HIDDEN, (Lattice(1, 0, 0),), window, ()))
        before += size
    return tuple(groups)
