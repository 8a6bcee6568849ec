"""PCA: the start of the residual network, and the baseline that an autoencoder of the same code size has to beat."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aekit.errors import SourceError, reason
from aekit.images.decode import Pixels
from aekit.outputs.staging import staged_file

_BATCH = 1000
_MOST_WORK = 10**11
"""Largest number of multiplications of a fit, about two seconds on two cores. If all images would need more, the fit
uses a random part of them."""
_SPARE = 10
"""Number of directions beyond the components asked for. They make the iteration more precise."""
_ROUNDS = 2
"""Number of power iterations. Each passes twice over the images."""


@dataclass(frozen=True)
class Pca:
    """Principal components of images with pixels in [0, 1]."""

    mean: npt.NDArray[np.float32]
    """Mean image, shape [pixels]."""
    components: npt.NDArray[np.float32]
    """Components as orthonormal rows, shape [code_dim, pixels]."""
    scales: npt.NDArray[np.float32]
    """Standard deviation of the images along each component, in descending order, shape [code_dim]."""

    @classmethod
    def fit(cls, images: Pixels, code_dim: int) -> "Pca":
        """Fit the `code_dim` leading components of uint8 images [n, H, W, C], or of a part of them if there are many.

        There are fewer components if there are fewer images or pixels.
        """
        pixels = images[0].size
        followed = min(code_dim + _SPARE, pixels)
        most = max(_MOST_WORK // (pixels * followed * (2 * _ROUNDS + 1)), 2 * followed)
        if len(images) > most:  # at random: in MNIST, every second digit comes from one group of writers
            images = images[np.sort(np.random.default_rng(0).choice(len(images), most, replace=False))]
        flat = images.reshape(len(images), pixels).astype(np.float32)
        flat /= np.float32(255)
        mean = flat.mean(0, dtype=np.float64).astype(np.float32)
        flat -= mean
        components, values = _leading(flat, min(code_dim, *flat.shape))
        scales = values / max(len(flat) - 1, 1) ** 0.5
        return cls(mean, *(np.ascontiguousarray(part, np.float32) for part in (components, scales)))

    def leading(self, code_dim: int) -> "Pca":
        """Return the PCA with only the first `code_dim` components."""
        return Pca(self.mean, self.components[:code_dim], self.scales[:code_dim])

    def save(self, path: Path) -> None:
        """Write the components to an .npz file. Raises OutputError if it can't be written."""
        with staged_file(path, follow=False) as part, part.open("wb") as file:
            np.savez(file, mean=self.mean, components=self.components, scales=self.scales)

    @classmethod
    def load(cls, path: Path) -> "Pca":
        """Read a file that `save` wrote. Raises SourceError if it is missing, damaged or another file."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                mean, components, scales = (np.asarray(arrays[name]) for name in ("mean", "components", "scales"))
            if not all(part.dtype == np.float32 and np.isfinite(part).all() for part in (mean, components, scales)):
                raise ValueError("arrays that are not finite float32")
            if mean.ndim != 1 or components.shape != (scales.size, mean.size):
                raise ValueError(f"shapes {mean.shape}, {components.shape} and {scales.shape}")
        except Exception as error:  # numpy, zipfile and zlib raise every kind of error on damaged bytes
            raise SourceError(str(path), expected="saved principal components", found=reason(error)) from error
        return cls(mean, components, scales)

    def mse(self, images: Pixels) -> float:
        """Return the mean squared error of projecting uint8 images [n, H, W, C] on the components.

        Pixels are in [0, 1]. The projections are clipped but not rounded to levels.
        """
        total = 0.0
        for start in range(0, len(images), _BATCH):
            x = images[start : start + _BATCH].reshape(-1, self.mean.size).astype(np.float32) / np.float32(255)
            x_hat = ((x - self.mean) @ self.components.T) @ self.components + self.mean
            total += float(np.square(np.clip(x_hat, 0, 1) - x).sum(dtype=np.float64))
        return total / images.size


def _leading(centred: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the `count` leading right singular vectors of a matrix [n, pixels], as rows, and the singular values.

    If these are a part of all, they are found by subspace iteration from random directions (Halko, Martinsson & Tropp
    2011, section 4.5).
    """
    rows, pixels = centred.shape
    followed = count + _SPARE
    if followed >= 0.8 * min(rows, pixels):
        return _all(centred, count)
    basis = np.random.default_rng(0).standard_normal((pixels, followed), np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    projected = (centred @ basis).astype(np.float64)
    squares, turns = np.linalg.eigh(projected.T @ projected)
    order = squares.argsort()[::-1][:count]
    return (basis @ turns[:, order].astype(np.float32)).T, np.sqrt(np.maximum(squares[order], 0))


def _all(centred: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return what `_leading` does, from the eigenvectors of all products of rows, or of columns if these are fewer."""
    is_wide = centred.shape[0] <= centred.shape[1]
    exact = centred.astype(np.float64)
    squares, vectors = np.linalg.eigh(exact @ exact.T if is_wide else exact.T @ exact)
    order = squares.argsort()[::-1][:count]
    values = np.sqrt(np.maximum(squares[order], 0))
    if not is_wide:
        return vectors[:, order].T, values
    # Rows of values near zero are rounding errors; the orthonormal basis replaces them.
    return np.linalg.qr((vectors[:, order].T @ exact).T)[0].T, values
