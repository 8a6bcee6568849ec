"""Draw random latents and decode them to new images.

The entry `latent` of model.json holds the distribution of the model's latents, in code units:

    {"source": "prior", "mean": …, "std": …}            N(0, I) in the network's units, of a variational model
    {"source": "training", "mean": …, "cholesky": …}    a Gaussian fitted to the training images' latents
    {"source": "training", "mean": …, "std": …}         the same with independent dimensions, for long codes

Each array is little-endian float32 in base64. `mean` and `std` hold D numbers. `cholesky` holds D(D + 1)/2: the lower
triangle of L, row by row, where L·Lᵀ is the covariance.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aekit.errors import BundleError, OptionError
from aekit.images.decode import Pixels
from aekit.model.bundle import MANIFEST, Bundle
from aekit.model.codec import BATCH_SIZE, Codec

Floats = npt.NDArray[np.float32]

MOST = 10_000
"""Largest number of images drawn by one call. They all go into one picture."""
MOST_COVARIANCE = 256
"""Largest code size whose full covariance is kept. For larger codes only standard deviations are kept."""
_LARGEST = 1e13
"""Largest number accepted in a distribution. Export scales a dimension by at most 255 / 1e-9, so no honest model has a
larger one, and sums of numbers below it stay finite."""


@dataclass(frozen=True)
class LatentGaussian:
    """A Gaussian distribution of a model's latents, in code units."""

    source: str
    """`prior`: the distribution that training pushed latents towards. `training`: fitted to the training images."""
    mean: Floats
    """Mean, float32 [D]."""
    spread: Floats
    """float32: the covariance's Cholesky factor, lower triangular [D, D]; or standard deviations [D]."""

    @classmethod
    def prior(cls, scale: Floats, offset: Floats) -> Self:
        """Return N(0, I) in code units, where a latent z becomes z · scale + offset; both are [D].

        This includes dimensions that no training image changes. Their scale is large, or 1, but the decoder undoes it
        and receives N(0, 1), which it was trained on.
        """
        return cls("prior", offset.astype(np.float32), np.abs(scale).astype(np.float32))

    @classmethod
    def fitted(cls, latents: Floats) -> Self:
        """Return the maximum-likelihood Gaussian of latents [n, D]. A constant dimension stays constant."""
        mean = latents.mean(axis=0, dtype=np.float64)
        if latents.shape[1] > MOST_COVARIANCE:
            deviations = latents.std(axis=0, dtype=np.float64)
            return cls("training", mean.astype(np.float32), deviations.astype(np.float32))
        centred = latents - mean
        # A covariance may be singular, so the Cholesky factor is computed from the eigenvectors: C = VΛVᵀ = RᵀR with
        # QR = √Λ Vᵀ. Then L = Rᵀ, with the signs of its columns chosen so that the diagonal is not negative.
        values, vectors = np.linalg.eigh(centred.T @ centred / len(latents))
        upper = np.linalg.qr(np.sqrt(values.clip(min=0))[:, None] * vectors.T).R
        lower = (upper * np.where(upper.diagonal() < 0, -1, 1)[:, None]).T
        return cls("training", mean.astype(np.float32), lower.astype(np.float32))

    @classmethod
    def of_model(cls, bundle: Bundle) -> Self:
        """Read the distribution from model.json. Raises BundleError if it is missing or malformed."""
        where = f"{bundle.path / MANIFEST}: latent"
        if "latent" not in bundle.manifest:
            fix = "export the run again with this version of aekit"
            raise BundleError(where, expected="the distribution of latents", found="nothing", fix=fix)
        values, size = bundle.manifest["latent"], bundle.spec.code_dim
        kinds = [{"source", "mean", spread} for spread in ("std", "cholesky")]
        if not isinstance(values, dict) or set(values) not in kinds:
            found = str(sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__)[:80]
            raise BundleError(where, expected="source, mean, and std or cholesky", found=found)
        if values["source"] not in ("prior", "training"):
            raise BundleError(f"{where}: source", expected="prior or training", found=repr(values["source"])[:80])
        mean = _unpack(values["mean"], size, f"{where}: mean")
        if "std" in values:
            spread = _unpack(values["std"], size, f"{where}: std")
        else:
            rows = _unpack(values["cholesky"], size * (size + 1) // 2, f"{where}: cholesky")
            spread = np.zeros((size, size), np.float32)
            spread[np.tril_indices(size)] = rows
        if not ((spread.diagonal() if spread.ndim == 2 else spread) >= 0).all():
            raise BundleError(where, expected="standard deviations that are not negative", found="negative ones")
        return cls(values["source"], mean, spread)

    def to_dict(self) -> dict[str, str]:
        """Return JSON-ready values. `of_model` reads them back without loss."""
        full = self.spread.ndim == 2
        rows = self.spread[np.tril_indices(len(self.mean))] if full else self.spread
        return {"source": self.source, "mean": _pack(self.mean), "cholesky" if full else "std": _pack(rows)}

    def draw(self, count: int, seed: int) -> Iterator[Floats]:
        """Yield `count` latents in batches, float32 [at most BATCH_SIZE, D]. The same seed gives the same latents."""
        rng = np.random.default_rng(seed)
        for start in range(0, count, BATCH_SIZE):
            noise = rng.standard_normal((min(BATCH_SIZE, count - start), len(self.mean)), np.float32)
            yield self.mean + (noise @ self.spread.T if self.spread.ndim == 2 else noise * self.spread)


def check_count(count: int, *, least: int = 1) -> None:
    """Raise OptionError unless `count` is from `least` to MOST."""
    if not least <= count <= MOST:
        raise OptionError("--n", expected=f"{least} to {MOST:,} images", found=f"{count:,}"[:80])


def check_model(codec: Codec) -> None:
    """Raise OptionError for a model of grid codes: random or mixed grids are no pictures that it has learned."""
    if codec.spec.is_grid:
        raise OptionError(
            str(codec.bundle.path),
            expected="a model of vector codes to draw images from",
            found="one of grid codes, for pictures of any size",
            fix="train at one size, such as --size 32x32, with --objective variational",
        )


def sample(codec: Codec, count: int, seed: int = 0) -> Pixels:
    """Decode `count` random latents to images, uint8 [count, H, W, C]. The same seed gives the same latents.

    Raises OptionError if the model has grid codes, `count` is not from 1 to MOST or the seed is negative; BundleError
    if model.json does not have the distribution of the latents or the decoder is missing or damaged; ProviderError if
    the decoder can't be run.
    """
    check_model(codec)
    check_count(count)
    if seed < 0:
        raise OptionError("--seed", expected="0 or more", found=str(seed)[:80])
    latents = LatentGaussian.of_model(codec.bundle)
    return np.concatenate([codec.decode(batch) for batch in latents.draw(count, seed)])


def _pack(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _unpack(text: Any, count: int, where: str) -> Floats:
    """Return float32 [count] from base64. Raises BundleError if `text`, which comes from a file, is anything else."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (ValueError, binascii.Error):
        data = b""
    if len(data) != 4 * count:
        raise BundleError(where, expected=f"base64 of {count} float32", found=repr(text)[:80])
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not (np.abs(values) <= _LARGEST).all():
        raise BundleError(where, expected=f"numbers up to {_LARGEST:g}", found="NaN, infinity or larger ones")
    return values
