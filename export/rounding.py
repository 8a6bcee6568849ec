"""Rounding of grid codes in the exported encoder: each number becomes the nearest step, or the one nearer to zero.

A number of many bits may be worth less than its bits. With the tables of the entropy coder, the nearest step n is kept
only if weight · (error in steps)² + bits is less for n than for the step next to it on the side of zero
(rate-distortion optimised quantisation; Ramchandran & Vetterli 1994). The answer depends on the channel, n and the
latent alone. So the graph needs one table of least magnitudes, and decoders know nothing of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aekit.codes.entropy import FrequencyTables
from aekit.codes.rans import PRECISION

ZERO = 128
"""Code of the latent 0."""
WEIGHTS = (0.0, 12.0, 8.7, 6.0)
"""Bits that a squared error of one step may count as; validation pictures choose. In theory, for an orthonormal
transform with the best step, it is 6 · log2(e) = 8.7. 0 rounds with the dead zone alone."""
_REFITS = 2
"""Times that tables are fitted to codes which were rounded with the tables before."""


class GridRounding(nn.Module):
    """Round latents [n, h, w, K] in code units to codes 0 to 255."""

    keep: Tensor
    """Least magnitude, in steps, at which each value is rounded to the nearest step: [K · 256], by channel and code.
    With qualities [Q · K · 256], by quality first."""

    def __init__(self, keep: Tensor) -> None:
        """`keep` is float32 [K, 256], or [Q, K, 256]."""
        super().__init__()
        self.channels = keep.shape[-2]
        self.register_buffer("keep", keep.flatten().clone())

    @classmethod
    def of_qualities(cls, roundings: Sequence["GridRounding"]) -> "GridRounding":
        """Join the roundings of all qualities, the lowest first."""
        return cls(torch.stack([each.keep.reshape(each.channels, 256) for each in roundings]))

    @classmethod
    def of_dead_zone(cls, channels: int, dead_zone: float) -> "GridRounding":
        """Round as training did: only the border between 0 and ±1 is moved, by `dead_zone` steps."""
        magnitudes = (torch.arange(256) - ZERO).abs()
        keep = torch.where(magnitudes == 1, 0.5 + dead_zone, 0.0)
        return cls(keep.repeat(channels, 1))

    @classmethod
    def of_tables(cls, tables: FrequencyTables, weight: float) -> "GridRounding":
        """Round by the bits of `tables`; a squared error of one step counts `weight` bits."""
        bits = table_bits(tables)
        magnitudes = np.abs(np.arange(256) - ZERO)
        lower = np.arange(256) - np.sign(np.arange(256) - ZERO)
        keep = magnitudes - 0.5 + (bits - bits[:, lower]) / (2 * weight)
        keep[:, ZERO] = 0
        return cls(torch.from_numpy(keep.astype(np.float32)))

    def forward(self, latent: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return codes uint8 of latents in code units, [n, h, w, K], of pictures of these qualities, int64 [n]."""
        steps = latent - ZERO
        # torch and ONNX both round a half to the even neighbour.
        nearest = steps.round().clamp(-ZERO, 255 - ZERO)
        rows = 256 * torch.arange(self.channels, device=latent.device)
        if quality is not None:
            rows = rows + (256 * self.channels * (quality - 1))[:, None, None, None]
        keep = self.keep[nearest.to(torch.int64) + ZERO + rows]
        kept = torch.where(steps.abs() < keep, nearest - nearest.sign(), nearest)
        return (kept + ZERO).to(torch.uint8)


@dataclass(frozen=True)
class RoundingTrial:
    """What one way to round costs on validation pictures."""

    weight: float
    """Bits that a squared error of one step counts; 0 for the dead zone alone."""
    bits_per_pixel: float
    mse: float
    """Mean over pixels in [0, 1]."""
    cost: float
    """bits_per_pixel + λ · 255² · mse, the cost of training."""


def table_bits(tables: FrequencyTables) -> npt.NDArray[np.float64]:
    """Return the bits of each value of each channel, [K, 256], escapes included."""
    frequencies = tables.frequencies[:, :256].astype(np.float64)
    escapes = tables.frequencies[:, 256:].astype(np.float64)
    is_escaped = frequencies == 0
    bits: npt.NDArray[np.float64] = PRECISION - np.log2(np.where(is_escaped, escapes, frequencies)) + 8 * is_escaped
    return bits


def fit_rounding(latents: Tensor, weight: float, dead_zone: float) -> tuple[GridRounding, FrequencyTables]:
    """Return the rounding for `weight` and the tables of the codes that it makes.

    `latents` are training latents [m, K] in code units.
    """
    rounding = GridRounding.of_dead_zone(latents.shape[1], dead_zone)
    tables = FrequencyTables.fit(rounding(latents).numpy())
    for _ in range(_REFITS if weight else 0):
        rounding = GridRounding.of_tables(tables, weight)
        tables = FrequencyTables.fit(rounding(latents).numpy())
    return rounding, tables


def choose_rounding(
    training: Tensor,
    validation: Sequence[Tensor],
    squared_error: Callable[[int, Tensor], float],
    pixels: int,
    lambda_: float,
    dead_zone: float,
) -> tuple[GridRounding, list[RoundingTrial]]:
    """Return the rounding of least cost on validation pictures, and what each way to round costs there.

    Args:
        training: latents [m, K] of training pictures, in code units; tables are fitted to them.
        validation: latents [h, w, K] of validation pictures, in code units.
        squared_error: for the number of a validation picture and its code uint8 [h, w, K], the sum over its pixels of
            the squared error, pixels in [0, 1], as a mean over colours.
        pixels: pixels of all validation pictures together.
        lambda_: λ of training, bits per pixel for a mean squared error of 1 in levels of 0 to 255.
        dead_zone: steps by which training moved the border between 0 and ±1.
    """
    tried: list[tuple[RoundingTrial, GridRounding]] = []
    for weight in WEIGHTS:
        rounding, tables = fit_rounding(training, weight, dead_zone)
        codes = [rounding(latent) for latent in validation]
        bits = sum(tables.entropy_bits(code.flatten(0, 1).numpy()) for code in codes) / pixels
        error = sum(squared_error(index, code) for index, code in enumerate(codes)) / pixels
        tried.append((RoundingTrial(weight, bits, error, bits + lambda_ * 255**2 * error), rounding))
    best = min(tried, key=lambda each: each[0].cost)
    return best[1], [trial for trial, _ in tried]
