"""Errors of reconstructions."""

import math
from collections.abc import Sequence

import numpy as np

from aekit.images.decode import Pixels


def mse(images: Pixels, reconstructions: Pixels) -> float:
    """Return the mean squared error of two uint8 arrays of one shape, for pixels scaled to [0, 1]."""
    total = 0
    for start in range(0, len(images), 1024):  # in blocks: a difference takes four times the memory
        difference = images[start : start + 1024].astype(np.int32) - reconstructions[start : start + 1024]
        total += int(np.square(difference, out=difference).sum(dtype=np.int64))
    return total / images.size / 255**2


def mean_mse(pictures: Pixels | Sequence[Pixels], reconstructions: Pixels | Sequence[Pixels]) -> float:
    """Return the mean over pictures of their mean squared errors, for pixels scaled to [0, 1].

    Pictures are uint8 [H, W, C] of any sizes. A small picture counts as much as a large one. For pictures of one size
    this is the error over all pixels.
    """
    if isinstance(pictures, np.ndarray) and isinstance(reconstructions, np.ndarray):
        return mse(pictures, reconstructions)  # at once, which is faster
    return sum(map(mse, pictures, reconstructions)) / len(pictures)


def psnr(mean_squared_error: float) -> float:
    """Return the peak signal-to-noise ratio in dB, −10 log10(MSE) for pixels in [0, 1]; infinite if the MSE is 0."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)
