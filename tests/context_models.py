"""Context models and codes for tests: random networks, so that every part of the arithmetic is met."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aekit.codes.context.model import FRACTIONS, ContextModel
from aekit.codes.context.network import GroupNetwork
from aekit.codes.context.places import Lattice, Offset
from aekit.codes.entropy import FrequencyTables

Codes = npt.NDArray[np.uint8]

QUARTERS = tuple(Lattice(2, y, x) for y, x in ((0, 0), (1, 1), (0, 1), (1, 0)))
"""Four passes, each a quarter of the places."""
FIRST = (*(Lattice(4, y, x) for y, x in ((0, 0), (2, 2), (0, 2), (2, 0))), *QUARTERS[1:])
"""Seven passes: the first quarter is itself coded in quarters."""
SQUARE = tuple(Offset(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))


def wide(reach: int) -> tuple[Offset, ...]:
    """Offsets of a square of places without its middle."""
    side = range(-reach, reach + 1)
    return tuple(Offset(dy, dx) for dy in side for dx in side if dy or dx)


def random_model(
    sizes: Sequence[int],
    seed: int = 0,
    scales: int = 5,
    hidden: int = 6,
    most: int = 300,
    qualities: int = 1,
    *,
    of_vectors: bool = False,
) -> ContextModel:
    """Return a model of groups of so many channels with random weights of at most `most`.

    A model of vector codes looks at no other place.
    """
    rng = np.random.default_rng(seed)
    groups, before = list[GroupNetwork](), 0
    for size in sizes:
        lattices, own = (FIRST, wide(2)) if not before else (QUARTERS, wide(1))
        window = SQUARE if before < 20 else (Offset(0, 0),)
        if of_vectors:
            lattices, own, window = (Lattice(1, 0, 0),), (), (Offset(0, 0),)
        inputs, outputs = (1 + before) * len(window) + size * len(own), 2 * size
        weights = rng.integers(-most, most + 1, (inputs, hidden + outputs)) // rng.choice([1, 8, 64], (inputs, 1))
        bias = rng.integers(-(1 << 14), 1 << 14, (qualities * len(lattices), hidden + outputs))
        groups.append(
            GroupNetwork(
                before, lattices, window, own,
                weights.astype(np.int16), bias[:, :hidden].astype(np.int32),
                rng.integers(4, 10, hidden).astype(np.uint8),
                rng.integers(-most, most + 1, (hidden, outputs)).astype(np.int16), bias[:, hidden:].astype(np.int32),
                np.repeat([6, 12], size).astype(np.uint8), qualities,
            )
        )  # fmt: skip
        before += size
    spread = np.exp(np.linspace(-1, 2.5, scales))
    fitted = rng.standard_normal((400, scales, FRACTIONS)) * spread[:, None] + np.arange(FRACTIONS) / FRACTIONS
    tables = FrequencyTables.fit(np.clip(np.rint(128 + fitted), 0, 255).astype(np.uint8).reshape(400, -1))
    return ContextModel(tuple(rng.permutation(before).tolist()), tuple(groups), tables, qualities=qualities)


def random_codes(shapes: Sequence[tuple[int, int]], channels: int, seed: int = 0, spread: float = 3.0) -> list[Codes]:
    """Return codes of so many places, with values of all magnitudes; a larger spread makes more escapes."""
    rng = np.random.default_rng(seed)
    widths = spread * np.exp(rng.standard_normal(channels))
    return [
        np.clip(np.rint(128 + rng.standard_normal((h, w, channels)) * widths), 0, 255).astype(np.uint8)
        for h, w in shapes
    ]
