"""Measures of a reconstruction."""

import math

import numpy as np

from aekit.images.decode import Pixels


def mse(images: Pixels, reconstructions: Pixels) -> float:
    """Mean squared error over all pixels of uint8 arrays of one shape, pixels in [0, 1]."""
    total = 0
    for start in range(0, len(images), 1024):  # in blocks: the difference needs four times the images' memory
        difference = images[start : start + 1024].astype(np.int32) - reconstructions[start : start + 1024]
        total += int(np.square(difference, out=difference).sum(dtype=np.int64))
    return total / images.size / 255**2


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB for pixels in [0, 1]: −10 log10(MSE); infinite for no error."""
    return math.inf if mean_squared_error == 0 else -10 * math.log10(mean_squared_error)
