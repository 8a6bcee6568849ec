"""PCA, the baseline that any autoencoder of the same code size has to beat."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aekit.errors import SourceError
from aekit.images.decode import Pixels
from aekit.outputs.staging import staged_file

_BATCH = 1000
MOST_VALUES = 250_000_000
"""Largest matrix PCA is fitted on, pixels × images: 1 GB of float32; a larger set is thinned evenly."""


@dataclass(frozen=True)
class Pca:
    """Principal components of images in [0, 1]."""

    mean: npt.NDArray[np.float32]
    """[pixels]."""
    components: npt.NDArray[np.float32]
    """[code_dim, pixels], orthonormal rows."""
    scales: npt.NDArray[np.float32]
    """[code_dim], standard deviation of the images along each, falling."""

    @classmethod
    def fit(cls, images: Pixels, code_dim: int) -> "Pca":
        """The `code_dim` leading components of uint8 images [n, H, W, C]; fewer if there are fewer images or pixels."""
        from sklearn.decomposition import PCA

        step = -(-images.size // MOST_VALUES)
        flat = images[::step].reshape(-1, images[0].size).astype(np.float32) / np.float32(255)
        fitted = PCA(min(code_dim, *flat.shape), random_state=0).fit(flat)
        scales = np.sqrt(np.nan_to_num(np.maximum(fitted.explained_variance_, 0)))  # NaN for a single image
        return cls(*(part.astype(np.float32) for part in (fitted.mean_, fitted.components_, scales)))

    def leading(self, code_dim: int) -> "Pca":
        """The first `code_dim` components alone."""
        return Pca(self.mean, self.components[:code_dim], self.scales[:code_dim])

    def save(self, path: Path) -> None:
        """Write the components to an .npz file."""
        with staged_file(path) as part, part.open("wb") as file:
            np.savez(file, mean=self.mean, components=self.components, scales=self.scales)

    @classmethod
    def load(cls, path: Path) -> "Pca":
        """Read what save wrote. Raises SourceError if it is not that."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                mean, components, scales = (np.asarray(arrays[name]) for name in ("mean", "components", "scales"))
            if not all(part.dtype == np.float32 and np.isfinite(part).all() for part in (mean, components, scales)):
                raise ValueError("arrays that are not finite float32")
            if mean.ndim != 1 or components.shape != (scales.size, mean.size):
                raise ValueError(f"shapes {mean.shape}, {components.shape} and {scales.shape}")
        except Exception as error:  # numpy, zipfile and zlib raise every kind of error on damaged bytes
            reason = str(error).split("\n")[0][:160] or type(error).__name__
            raise SourceError(str(path), expected="saved principal components", found=reason) from error
        return cls(mean, components, scales)

    def mse(self, images: Pixels) -> float:
        """Mean squared error of projecting uint8 images, clipped to [0, 1] but not rounded to levels."""
        total = 0.0
        for start in range(0, len(images), _BATCH):
            x = images[start : start + _BATCH].reshape(-1, self.mean.size).astype(np.float32) / np.float32(255)
            x_hat = ((x - self.mean) @ self.components.T) @ self.components + self.mean
            total += float(np.square(np.clip(x_hat, 0, 1) - x).sum(dtype=np.float64))
        return total / images.size
