"""PCA: the start of the residual network, and the baseline that an autoencoder of the same code size has to beat."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aekit.errors import SourceError, reason
from aekit.images.decode import Pixels
from aekit.outputs.staging import staged_file

_BATCH = 1000
MOST_VALUES = 250_000_000
"""Largest matrix that PCA is fitted on, pixels × images: 1 GB of float32. A larger set is thinned evenly."""


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
        """Fit the `code_dim` leading components of uint8 images [n, H, W, C].

        There are fewer components if there are fewer images or pixels.
        """
        from sklearn.decomposition import PCA

        step = -(-images.size // MOST_VALUES)
        flat = images[::step].reshape(-1, images[0].size).astype(np.float32) / np.float32(255)
        fitted = PCA(min(code_dim, *flat.shape), random_state=0).fit(flat)
        scales = np.sqrt(np.nan_to_num(np.maximum(fitted.explained_variance_, 0)))  # NaN for a single image
        return cls(*(part.astype(np.float32) for part in (fitted.mean_, fitted.components_, scales)))

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
