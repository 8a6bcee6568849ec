"""The network of one group of channels: integers in float arrays, so that BLAS multiplies them exactly.

    x  the planes around a place: plane 0 and earlier groups at `window`, then the group itself at known `own` offsets
    a  = x · W_hidden + b_hidden[quality, pass]          h = clip(floor(a / 2^shift), 0, 255)
    o  = x · W_direct + h · W_out + b_out[pass]          v = floor(o / 2^shift)
    v  holds for each channel the mean in eighths, and for each channel the number of its scale

Every number is an integer. Each sum of products, in any order, is below the carrier's limit: 2^24 for float32, 2^53 for
float64. So each product and each partial sum is exact, on every machine, with or without fused multiply-add.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.codes.context.places import Lattice, Offset, Sets, cover_once, known
from aekit.errors import TablesError

Floats = NDArray[np.floating[Any]]

MOST_INPUT = 128
"""Largest absolute value of an input."""
MOST_HIDDEN = 255
"""Largest value of a hidden unit. The least is 0."""
LIMITS = {"float32": 1 << 24, "float64": 1 << 53}
"""Integers below these have an exact float of that type."""
MAX_SHIFT = 30
"""Largest shift of a sum: 2**30 is exact in both carriers."""
MAX_REACH = 4
"""Largest |dy| and |dx| of an offset."""
MAX_OFFSETS = (2 * MAX_REACH + 1) ** 2
"""Most offsets of a kind that differ."""
MAX_PASSES = 16
"""Most passes of a group: the lattices of step 4."""
MAX_CHANNELS = 8192
"""Most channels of a group, and most hidden units."""
MAX_WEIGHTS = 1 << 21
"""Most weights of a model read from JSON. Each pass keeps its own copy, so 16 passes take at most 256 MiB."""
_WEIGHT, _BIAS, _SHIFT = "<i2", "<i4", "<u1"


@dataclass(frozen=True, eq=False)
class GroupNetwork:
    """The network of a group of C channels with H hidden units, for P passes. `before` channels are coded earlier.

    Inputs are ordered by offset, then by plane: (1 + before) planes for each of `window`, C planes for each of `own`.
    Raises TablesError if the parts do not fit each other or a sum may reach 2^53.
    """

    before: int
    """Channels of earlier groups."""
    lattices: tuple[Lattice, ...]
    """The passes, in order."""
    window: tuple[Offset, ...]
    """Offsets at which the network sees plane 0 and the earlier groups."""
    own: tuple[Offset, ...]
    """Offsets at which it sees its own group, where an earlier pass holds it. Elsewhere it sees 0."""
    weights: NDArray[np.int16]
    """int16 [inputs, H + 2 C]: to the hidden units, to the means, to the scales."""
    hidden_bias: NDArray[np.int32]
    """int32 [P, H]; with qualities [Q · P, H], by quality first."""
    hidden_shift: NDArray[np.uint8]
    """uint8 [H]."""
    out_weights: NDArray[np.int16]
    """int16 [H, 2 C]: to the means, to the scales."""
    out_bias: NDArray[np.int32]
    """int32 [P, 2 C], or [Q · P, 2 C]."""
    out_shift: NDArray[np.uint8]
    """uint8 [2 C]."""
    qualities: int = 1
    """Qualities, Q. Networks of all qualities have the same weights; the biases differ."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.lattices) <= MAX_PASSES or not cover_once(self.lattices):
            raise TablesError("lattices must hold each place once", found=str([tuple(each) for each in self.lattices]))
        for kind, offsets in (("window", self.window), ("own", self.own)):
            reach = max((abs(way) for offset in offsets for way in offset), default=0)
            if reach > MAX_REACH or len(set(offsets)) < len(offsets):
                raise TablesError(f"offsets of {kind} must differ and reach at most {MAX_REACH}")
        hidden, outputs, passes = len(self.hidden_shift), len(self.out_shift), len(self.lattices)
        if outputs < 2 or outputs % 2 or self.before < 0 or max(self.before, outputs // 2, hidden) > MAX_CHANNELS:
            raise TablesError(f"a group can't have {self.before} channels before it, {outputs} outputs")
        inputs = (1 + self.before) * len(self.window) + outputs // 2 * len(self.own)
        expected = (
            ("weights", self.weights, np.int16, (inputs, hidden + outputs)),
            ("hidden_bias", self.hidden_bias, np.int32, (self.qualities * passes, hidden)),
            ("hidden_shift", self.hidden_shift, np.uint8, (hidden,)),
            ("out_weights", self.out_weights, np.int16, (hidden, outputs)),
            ("out_bias", self.out_bias, np.int32, (self.qualities * passes, outputs)),
            ("out_shift", self.out_shift, np.uint8, (outputs,)),
        )
        for name, array, dtype, shape in expected:
            if array.dtype != dtype or array.shape != shape:
                raise TablesError(
                    name, expected=f"{np.dtype(dtype)} {list(shape)}", found=f"{array.dtype} {list(array.shape)}"
                )
        if max(self.hidden_shift.max(initial=0), self.out_shift.max(initial=0)) > MAX_SHIFT:
            raise TablesError("shifts", expected=f"at most {MAX_SHIFT}")

    @property
    def channels(self) -> int:
        """Channels of the group."""
        return len(self.out_shift) // 2

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.weights.size + self.out_weights.size

    @cached_property
    def worst_case(self) -> int:
        """Bound on the absolute value of every partial sum, for any symbols and any order of summation."""
        hidden = len(self.hidden_shift)
        sums = MOST_INPUT * np.abs(self.weights.astype(np.int64)).sum(0)
        sums[hidden:] += MOST_HIDDEN * np.abs(self.out_weights.astype(np.int64)).sum(0)
        bias = np.concatenate([self.hidden_bias, self.out_bias], axis=1).astype(np.int64)
        return int((sums + np.abs(bias).max(0)).max())

    def known(self, number: int) -> list[int]:
        """Return the numbers of the `own` offsets that pass `number` knows."""
        return known(self.lattices, number, self.own)

    def prepared(self, number: int, carrier: str) -> Prepared:
        """Return pass `number` with its weights in float arrays of the type `carrier`, a key of LIMITS.

        Raises TablesError if a sum may reach the carrier's limit.
        """
        if self.worst_case >= LIMITS[carrier]:
            raise TablesError(
                "weights of a context network", expected=f"sums below {LIMITS[carrier]} for {carrier}",
                found=f"up to {self.worst_case}",
            )  # fmt: skip
        seen, first = self.known(number), (1 + self.before) * len(self.window)
        rows = [first + index * self.channels + channel for index in seen for channel in range(self.channels)]
        dtype = np.dtype(carrier)
        return Prepared(
            self.window,
            tuple(self.own[index] for index in seen),
            np.concatenate([self.weights[:first], self.weights[rows]]).astype(dtype),
            np.concatenate(
                [part[number :: len(self.lattices)] for part in (self.hidden_bias, self.out_bias)], axis=1
            ).astype(dtype),
            np.ldexp(np.ones(len(self.hidden_shift), dtype), -self.hidden_shift.astype(np.int32)),
            self.out_weights.astype(dtype),
            np.ldexp(np.ones(len(self.out_shift), dtype), -self.out_shift.astype(np.int32)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a form for JSON. Arrays are base64 of little-endian integers in C order."""
        return {
            "lattices": [list(lattice) for lattice in self.lattices],
            "window": [list(offset) for offset in self.window],
            "own": [list(offset) for offset in self.own],
            "channels": self.channels,
            "hidden": len(self.hidden_shift),
            "weights": _packed(self.weights, _WEIGHT),
            "hidden_bias": _packed(self.hidden_bias, _BIAS),
            "hidden_shift": _packed(self.hidden_shift, _SHIFT),
            "out_weights": _packed(self.out_weights, _WEIGHT),
            "out_bias": _packed(self.out_bias, _BIAS),
            "out_shift": _packed(self.out_shift, _SHIFT),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], before: int, qualities: int = 1) -> GroupNetwork:
        """Return the network of which `data` is the `to_dict`. Raises TablesError if `data` has another form."""
        try:
            lattices = tuple(Lattice(*_whole(entry, 3, 0, 4)) for entry in data["lattices"][: MAX_PASSES + 1])
            window, own = (
                tuple(Offset(*_whole(entry, 2, -MAX_REACH, MAX_REACH)) for entry in data[kind][: MAX_OFFSETS + 1])
                for kind in ("window", "own")
            )
            channels, hidden = _whole([data["channels"], data["hidden"]], 2, 0, MAX_CHANNELS)
            if any(step not in (1, 2, 4) or y0 >= step or x0 >= step for step, y0, x0 in lattices):
                raise ValueError("a lattice's step must be 1, 2 or 4, its y0 and x0 less")
            inputs, outputs, passes = (
                (1 + before) * len(window) + channels * len(own),
                2 * channels,
                len(lattices),
            )
            if inputs * (hidden + outputs) + hidden * outputs > MAX_WEIGHTS:
                raise ValueError(f"over {MAX_WEIGHTS} weights")
            return cls(
                before, lattices, window, own,
                _unpacked(data["weights"], _WEIGHT, (inputs, hidden + outputs)),
                _unpacked(data["hidden_bias"], _BIAS, (qualities * passes, hidden)),
                _unpacked(data["hidden_shift"], _SHIFT, (hidden,)),
                _unpacked(data["out_weights"], _WEIGHT, (hidden, outputs)),
                _unpacked(data["out_bias"], _BIAS, (qualities * passes, outputs)),
                _unpacked(data["out_shift"], _SHIFT, (outputs,)),
                qualities,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            if isinstance(error, TablesError):
                raise
            raise TablesError(f"a context network must be as to_dict writes it; found {error!r}") from error


_ONE_THREAD = 2**18
"""Largest number of multiplications for which OpenBLAS computes a product in one thread. In OpenBLAS it is
GEMM_MULTITHREAD_THRESHOLD × 65,536."""
_PARTS = 16
"""Largest number of parts that a product is divided into, to compute it in one thread. A larger product takes about a
millisecond, so threads save time."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One pass of a group, ready to compute: weights of known offsets alone, in float arrays of one type."""

    window: tuple[Offset, ...]
    own: tuple[Offset, ...]
    weights: Floats
    bias: Floats
    """Biases of the hidden units and outputs for each quality, [Q, H + 2 C]."""
    hidden_factor: Floats
    out_weights: Floats
    out_factor: Floats

    def __call__(self, inputs: NDArray[np.int8], sets: Sets = None) -> Floats:
        """Return v, whole numbers [n, 2 C], for inputs [n, inputs] and the set of biases of each, [n]."""
        sums = _product(inputs.astype(self.weights.dtype), self.weights)
        sums += self.bias[0] if sets is None else self.bias[sets]
        units = len(self.hidden_factor)
        hidden = np.floor(sums[:, :units] * self.hidden_factor)
        np.clip(hidden, 0, MOST_HIDDEN, out=hidden)
        out = _product(hidden, self.out_weights)
        out += sums[:, units:]
        out *= self.out_factor
        return np.floor(out, out=out)


def _product(rows: Floats, weights: Floats) -> Floats:
    """Return rows @ weights. A small product is computed in parts, each in one thread of BLAS.

    BLAS would divide even a product of 20 microseconds among threads. On a busy machine it then waits for them, up to
    a millisecond. All sums are exact, so the parts change nothing.
    """
    most = _ONE_THREAD // max(weights.size, 1)  # a group without context has no weights
    if not most < len(rows) <= _PARTS * most:
        return rows @ weights
    out = np.empty((len(rows), weights.shape[1]), weights.dtype)
    for start in range(0, len(rows), most):
        np.matmul(rows[start : start + most], weights, out=out[start : start + most])
    return out


def _whole(values: Any, count: int, least: int, most: int) -> list[int]:
    if len(values) != count or not all(type(value) is int and least <= value <= most for value in values):
        raise ValueError(f"expected {count} integers of {least} to {most}")
    return list(values)


def _packed(array: NDArray[np.integer[Any]], dtype: str) -> str:
    return base64.b64encode(array.astype(dtype).tobytes()).decode("ascii")


def _unpacked(text: Any, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if not isinstance(text, str) or len(text) != -(-size // 3) * 4:
        raise ValueError(f"expected {size} bytes in base64")
    array = np.frombuffer(base64.b64decode(text, validate=True), dtype)
    return array.reshape(shape).astype(np.dtype(dtype).newbyteorder("="))
