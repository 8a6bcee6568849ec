"""Draw latents and decode them: new images from a model, or the way from one image to another. numpy alone, no torch.

model.json keeps, under the key `latent`, how the model's latents are distributed, in code units:

    {"source": "prior", "mean": …, "std": …}            N(0, I) in the network's units, of a variational model
    {"source": "training", "mean": …, "cholesky": …}    a Gaussian fitted to the training images' latents
    {"source": "training", "mean": …, "std": …}         the same with independent dimensions, for long codes

Each array is base64 of little-endian float32: `mean` and `std` of D numbers, `cholesky` of D(D + 1)/2, the lower
triangle of L row by row, with L·Lᵀ the covariance.
"""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aekit.errors import BundleError, OptionError
from aekit.images.decode import Pixels, decode_file
from aekit.model.bundle import MANIFEST, Bundle
from aekit.model.codec import BATCH_SIZE, Codec

Floats = npt.NDArray[np.float32]

MOST = 10_000
"""Images drawn at most: they go into one picture."""
MOST_COVARIANCE = 256
"""Longest code whose covariance is kept; of longer ones the deviations alone."""
_LARGEST = 1e13
"""No number of an honest model is larger: a dimension is scaled up by 255 / 1e-9 at most. Their sums stay finite."""


@dataclass(frozen=True)
class LatentGaussian:
    """The Gaussian that a model's latents are drawn from, in code units."""

    source: str
    """`prior`, what the model was trained towards; or `training`, fitted to the training images' latents."""
    mean: Floats
    """[D]."""
    spread: Floats
    """Lower triangular [D, D], the covariance's Cholesky factor; or [D], standard deviations."""

    @classmethod
    def prior(cls, scale: Floats, offset: Floats) -> Self:
        """N(0, I) under the map of a latent to code units, z · scale + offset, both [D].

        That holds for dimensions that the training images never moved too: their scale is large, or 1, but the decoder
        undoes it, and sees the N(0, 1) that it was trained on.
        """
        return cls("prior", offset.astype(np.float32), np.abs(scale).astype(np.float32))

    @classmethod
    def fitted(cls, latents: Floats) -> Self:
        """The maximum-likelihood Gaussian of latents [n, D]; dimensions that never move are never moved by it."""
        mean = latents.mean(axis=0, dtype=np.float64)
        if latents.shape[1] > MOST_COVARIANCE:
            deviations = latents.std(axis=0, dtype=np.float64)
            return cls("training", mean.astype(np.float32), deviations.astype(np.float32))
        centred = latents - mean
        # A Cholesky factor by way of the eigenvectors, since a covariance may be singular: C = VΛVᵀ = RᵀR with
        # QR = √Λ Vᵀ, and L = Rᵀ with its signs turned so that the diagonal is not negative.
        values, vectors = np.linalg.eigh(centred.T @ centred / len(latents))
        upper = np.linalg.qr(np.sqrt(values.clip(min=0))[:, None] * vectors.T).R
        lower = (upper * np.where(upper.diagonal() < 0, -1, 1)[:, None]).T
        return cls("training", mean.astype(np.float32), lower.astype(np.float32))

    @classmethod
    def of_model(cls, bundle: Bundle) -> Self:
        """What model.json says. Raises BundleError if it says nothing, or what no model can mean."""
        where = f"{bundle.path / MANIFEST}: latent"
        if "latent" not in bundle.manifest:
            fix = "export the run again with this version of aekit"
            raise BundleError(where, expected="how latents are distributed", found="nothing", fix=fix)
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
            raise BundleError(where, expected="deviations that are not negative", found="others")
        return cls(values["source"], mean, spread)

    def to_dict(self) -> dict[str, str]:
        """JSON-ready values, which of_model reads back to the same bits."""
        full = self.spread.ndim == 2
        rows = self.spread[np.tril_indices(len(self.mean))] if full else self.spread
        return {"source": self.source, "mean": _pack(self.mean), "cholesky" if full else "std": _pack(rows)}

    def draw(self, count: int, seed: int) -> Iterator[Floats]:
        """`count` latents, in batches float32 [at most BATCH_SIZE, D]; the same ones for the same seed."""
        rng = np.random.default_rng(seed)
        for start in range(0, count, BATCH_SIZE):
            noise = rng.standard_normal((min(BATCH_SIZE, count - start), len(self.mean)), np.float32)
            yield self.mean + (noise @ self.spread.T if self.spread.ndim == 2 else noise * self.spread)


def check_count(count: int, *, least: int = 1) -> None:
    """Raise OptionError if count is not `least` to MOST."""
    if not least <= count <= MOST:
        raise OptionError("--n", expected=f"{least} to {MOST:,} images", found=f"{count:,}")


def sample(codec: Codec, count: int, seed: int = 0) -> Pixels:
    """Images of `count` random latents, uint8 [count, H, W, C].

    Raises OptionError if count is not 1 to MOST or the seed is negative, BundleError if the model does not say how its
    latents are distributed.
    """
    check_count(count)
    if seed < 0:
        raise OptionError("--seed", expected="0 or more", found=str(seed))
    latents = LatentGaussian.of_model(codec.bundle)
    return np.concatenate([codec.decode(batch) for batch in latents.draw(count, seed)])


def interpolate(codec: Codec, first: Path, last: Path, count: int) -> tuple[Pixels, Pixels]:
    """The two images as the encoder sees them, [2, H, W, C], and those of `count` latents on the straight line between
    theirs, [count, H, W, C], both ends included; all uint8.

    Raises OptionError if count is not 2 to MOST, ImageError if an image can't be read.
    """
    check_count(count, least=2)
    ends = np.stack([decode_file(path, codec.spec.geometry)[0] for path in (first, last)])
    start, stop = codec.encode(ends)
    share = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    return ends, codec.decode((1 - share) * start + share * stop)


def _pack(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _unpack(text: Any, count: int, where: str) -> Floats:
    """`count` numbers. Raises BundleError if `text`, which comes from a file, does not hold them."""
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
