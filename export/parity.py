"""Parity: compare the exported files, run by Codec, with torch, and variants with fp32, on validation images."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from aekit.errors import ParityError
from aekit.evaluation.metrics import mse, psnr
from aekit.exporting.graphs import DecoderGraph, EncoderGraph
from aekit.images.decode import Pixels
from aekit.model.codec import Codec

BATCHES = (1, 2, 7)
"""Batch sizes that are compared."""
MOST_LATENT = 1e-3
"""Largest accepted difference of a latent from torch's, as a share of the latents' range."""
MOST_LEVELS = 1
"""Largest accepted difference of a pixel from torch's, in levels of 0 to 255."""
TIE = 0.01
"""Distance from a half, in code units. A latent this close to a half may round to either code."""
MOST_VARIANT_DB = 0.5
"""Largest accepted loss of PSNR, in dB, of a variant that was asked for by name."""
MOST_AUTO_DB = 0.1
"""Largest loss of PSNR, in dB, of a variant that `auto` may choose."""
LEAST_ERROR = 1 / (12 * 255**2)
"""Mean squared error of rounding pixels in [0, 1] to 256 levels."""
_TIMED, _TIMED_PIXELS, _FEWEST, _PASSES = 256, 2**18, 8, 7
"""Largest number of images and of pixels in a timed pass, least number of images, and number of timed passes."""


@dataclass(frozen=True)
class Parity:
    """How far onnxruntime's results are from torch's: the worst case over the batch sizes."""

    images: int
    """Images compared at each batch size. For grid codes they are crops of several sizes."""
    latent_difference: float
    """Largest difference of a latent, divided by the latents' range."""
    codes_differing: int
    """Number of codes that differ. Each is a tie: the two latents lie on either side of a half, or within TIE of it."""
    image_levels: int
    """Largest difference of a pixel, in levels of 0 to 255."""
    pixels_differing: float
    """Share of pixels that differ at all."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**asdict(self), "batches": list(BATCHES)}


@torch.no_grad()
def measure_parity(encoder: EncoderGraph, decoder: DecoderGraph, codec: Codec, groups: Sequence[Pixels]) -> Parity:
    """Compare a Codec with torch on groups of images of one size, each uint8 [n, H, W, C].

    Raises ParityError if a difference is larger than MOST_LATENT, MOST_LEVELS or a tie.
    """
    worst = Parity(0, 0.0, 0, 0, 0.0)
    for images in groups:
        worst = _worse(worst, _parity_of_group(encoder, decoder, codec, images.copy()))
    return worst


def each_quality(codec: Codec, count: int) -> tuple[int, ...] | None:
    """Return a quality for each of so many images: all of the model's in turn; None for a model without qualities."""
    spec = codec.spec
    return tuple(1 + row % spec.qualities for row in range(count)) if spec.has_qualities else None


def _parity_of_group(encoder: EncoderGraph, decoder: DecoderGraph, codec: Codec, images: Pixels) -> Parity:
    quality = each_quality(codec, len(images))
    given = () if quality is None else (torch.tensor(quality),)
    latent_t, code_t = encoder(torch.from_numpy(images), *given)
    image_t = decoder(latent_t, *given).numpy()
    span = max(float(latent_t.max() - latent_t.min()), 1.0)
    worst = Parity(0, 0.0, 0, 0, 0.0)
    for batch in BATCHES:
        latent = torch.from_numpy(codec.encode(images, "float32", batch, quality=quality))
        code = torch.from_numpy(codec.encode(images, "uint8", batch, quality=quality))
        image = codec.decode(latent_t.numpy(), batch, quality=quality)
        off = (latent - latent_t).abs()
        # A code may differ if the two latents lie on either side of a border. Rounding never falls as latents rise.
        tie = off.clamp(min=TIE)
        low, high = (encoder.rounding(moved, *given) for moved in (latent_t - tie, latent_t + tie))
        if bool(((code < low) | (code > high)).any()):
            raise ParityError("the encoder graph", expected="torch's codes except for ties", found="other codes")
        levels = np.abs(image.astype(np.int16) - image_t.astype(np.int16))
        differing = int((code != code_t).sum()), int(levels.max()), float((levels > 0).mean())
        worst = _worse(worst, Parity(0, float(off.max()) / span, *differing))
    if not worst.latent_difference <= MOST_LATENT:
        expected = f"latents within {MOST_LATENT:g} of torch's"
        raise ParityError("the encoder graph", expected=expected, found=f"{worst.latent_difference:g}")
    if worst.image_levels > MOST_LEVELS:
        found = f"{worst.image_levels}"
        raise ParityError("the decoder graph", expected=f"images within {MOST_LEVELS} level", found=found)
    return replace(worst, images=len(images))


def _worse(one: Parity, other: Parity) -> Parity:
    """Return the larger value of each figure, and the images of both."""
    worst = {name: max(value, getattr(other, name)) for name, value in vars(one).items()}
    return Parity(**{**worst, "images": one.images + other.images})


@dataclass(frozen=True)
class VariantCost:
    """Loss and speed of a variant, compared with fp32. Codec runs both; speeds are measured on one CPU thread."""

    images: int
    """Number of images compared."""
    latent_difference: float
    """Largest difference of a latent from fp32's, divided by the latents' range."""
    cost_db: float
    """Loss of PSNR in dB if both graphs are the variant's."""
    encoder_cost_db: float
    """Loss of PSNR in dB if the encoder is the variant's and the decoder is fp32's."""
    encoder_speed: float
    """Encoded images per second, divided by fp32's, on the machine that exported."""
    decoder_speed: float
    """Decoded images per second, divided by fp32's, on the machine that exported."""
    bytes: int
    """Size of both graphs in bytes."""

    def check(self, name: str) -> None:
        """Raise ParityError if the variant loses more than MOST_VARIANT_DB. `name` is the variant's."""
        if not self.cost_db <= MOST_VARIANT_DB:
            raise ParityError(
                f"the variant {name}",
                expected=f"a cost of at most {MOST_VARIANT_DB} dB",
                found=f"{self.cost_db:.2f} dB",
                fix="export fp32, or give --variant auto, which keeps a variant that is good enough",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)


def fastest(measured: dict[str, VariantCost]) -> str:
    """Return the variant with the fastest encoder, because the encoder runs on the device.

    Candidates are fp32 and the variants in `measured` that lose at most MOST_AUTO_DB.
    """
    speeds = {name: cost.encoder_speed for name, cost in measured.items() if cost.cost_db <= MOST_AUTO_DB}
    return max({"fp32": 1.0, **speeds}.items(), key=lambda item: item[1])[0]


def measure_variant(exact: Codec, variant: Codec, images: Pixels) -> VariantCost:
    """Compare a variant with fp32 on images uint8 [n, H, W, C]; for grid codes H and W are multiples of the stride.

    Raises ParityError if the variant's results depend on the batch.
    """
    quality = each_quality(exact, len(images))
    latent_e, latent_v = exact.encode(images, quality=quality), variant.encode(images, quality=quality)
    for batch in BATCHES:
        if not np.allclose(variant.encode(images, batch_size=batch, quality=quality), latent_v, atol=0.1):
            raise ParityError(
                f"the variant {variant.bundle.variant}",
                expected="latents that do not depend on the batch size",
                found=f"other latents in batches of {batch}",
            )
    errors = [
        mse(images, decoder.decode(latents, quality=quality))
        for decoder, latents in ((exact, latent_e), (exact, latent_v), (variant, latent_v))
    ]
    span = max(float(np.ptp(latent_e)), 1.0)
    count = min(_TIMED, max(_TIMED_PIXELS // (images.shape[1] * images.shape[2]), _FEWEST))
    timed = np.resize(images, (count, *images.shape[1:]))
    latents = np.resize(latent_e, (count, *latent_e.shape[1:]))
    alone = [Codec(codec.bundle, "cpu", threads=1) for codec in (exact, variant)]
    return VariantCost(
        len(images),
        float(np.abs(latent_v - latent_e).max()) / span,
        psnr_loss(errors[0], errors[2]),
        psnr_loss(errors[0], errors[1]),
        _speed(*(partial(codec.encode, timed, quality=each_quality(codec, count)) for codec in alone)),
        _speed(*(partial(codec.decode, latents, quality=each_quality(codec, count)) for codec in alone)),
        sum(entry["bytes"] for entry in variant.bundle.manifest["files"].values()),
    )


def psnr_loss(before: float, after: float) -> float:
    """Return the loss of PSNR in dB between two mean squared errors, for pixels in [0, 1].

    An error below LEAST_ERROR counts as LEAST_ERROR, so that the loss is finite even for a lossless model.
    """
    return psnr(max(before, LEAST_ERROR)) - psnr(max(after, LEAST_ERROR))


def _speed(exact: Callable[[], object], variant: Callable[[], object]) -> float:
    """Return how many times as fast `variant` is: the median over alternating passes, after one warm-up pass."""
    ratios = []
    for _ in range(_PASSES + 1):
        began = time.perf_counter()
        exact()
        between = time.perf_counter()
        variant()
        ratios.append((between - began) / (time.perf_counter() - between))
    return statistics.median(ratios[1:])
