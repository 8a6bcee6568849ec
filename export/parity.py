"""Parity: the shipped Codec against torch, and variants against fp32, on real validation images. What is verified is
what ships."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
IMAGES = 256
"""Validation images compared, in batches of each of BATCHES."""
MOST_LATENT = 1e-3
"""Largest latent difference, in code units, relative to the latents' range."""
MOST_LEVELS = 1
"""Largest pixel difference, levels of 255."""
TIE = 0.01
"""Distance from a half, in code units, within which a latent may always round to the other code."""
MOST_VARIANT_DB = 0.5
"""Largest cost of a variant that was asked for by name, dB of PSNR."""
MOST_AUTO_DB = 0.1
"""Largest cost of one that `auto` may choose."""
LEAST_ERROR = 1 / (12 * 255**2)
"""Mean squared error of rounding pixels in [0, 1] to 256 levels."""
_TIMED, _PASSES = 256, 7
"""Images in a timed run, and how often it is timed."""


@dataclass(frozen=True)
class Parity:
    """How far onnxruntime's results are from torch's: the worst over batches of 1, 2 and 7."""

    images: int
    """Images compared at each batch size."""
    latent_difference: float
    """Largest, in code units, divided by the latents' range."""
    codes_differing: int
    """Codes that differ; in each, the two latents lie on either side of a half, or within TIE of it."""
    image_levels: int
    """Largest difference of a pixel, levels of 255."""
    pixels_differing: float
    """Share of pixels that differ at all."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "batches": list(BATCHES)}


@torch.no_grad()
def measure_parity(encoder: EncoderGraph, decoder: DecoderGraph, codec: Codec, images: Pixels) -> Parity:
    """Compare on images uint8 [n, H, W, C]. Raises ParityError if a difference is larger than the limits above."""
    images = images[:IMAGES].copy()
    latent_t, code_t = (part.numpy() for part in encoder(torch.from_numpy(images)))
    image_t = decoder(torch.from_numpy(latent_t)).numpy()
    span = max(float(np.ptp(latent_t)), 1.0)
    worst_latent, ties, worst_level, pixels = 0.0, 0, 0, 0.0
    for batch in BATCHES:
        latent = codec.encode(images, "float32", batch)
        code = codec.encode(images, "uint8", batch)
        image = codec.decode(latent_t, batch)
        worst_latent = max(worst_latent, float(np.abs(latent - latent_t).max()) / span)
        differ = code != code_t
        # A code may differ if the two latents lie on either side of a half; how far apart they are is judged below.
        tie = np.maximum(np.abs(latent - latent_t), TIE)
        if bool((differ & (np.abs(latent_t - np.floor(latent_t) - 0.5) > tie)).any()):
            raise ParityError("the encoder graph", expected="torch's codes but for ties", found="others")
        ties = max(ties, int(differ.sum()))
        levels = np.abs(image.astype(np.int16) - image_t.astype(np.int16))
        worst_level = max(worst_level, int(levels.max()))
        pixels = max(pixels, float((levels > 0).mean()))
    if not worst_latent <= MOST_LATENT:
        raise ParityError(
            "the encoder graph", expected=f"latents within {MOST_LATENT:g} of torch's", found=f"{worst_latent:g}"
        )
    if worst_level > MOST_LEVELS:
        raise ParityError("the decoder graph", expected=f"images within {MOST_LEVELS} level", found=f"{worst_level}")
    return Parity(len(images), worst_latent, ties, worst_level, pixels)


@dataclass(frozen=True)
class VariantCost:
    """What a variant costs and saves beside fp32, both through the shipped Codec on one CPU thread."""

    images: int
    """Images compared."""
    latent_difference: float
    """Largest, in code units, divided by the latents' range."""
    cost_db: float
    """Loss of PSNR where both graphs are of the variant, dB."""
    encoder_cost_db: float
    """The same where the decoder is fp32's, dB."""
    encoder_speed: float
    """Images a second over those of fp32, on the machine that exported."""
    decoder_speed: float
    bytes: int
    """Size of both graphs."""

    def check(self, name: str) -> None:
        """Raise ParityError if it costs more than MOST_VARIANT_DB."""
        if not self.cost_db <= MOST_VARIANT_DB:
            raise ParityError(
                f"the variant {name}",
                expected=f"a cost of at most {MOST_VARIANT_DB} dB",
                found=f"{self.cost_db:.2f} dB",
                fix="export fp32, or --variant auto, which keeps what is good enough",
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def fastest(measured: dict[str, VariantCost]) -> str:
    """The variant whose encoder, which runs on the device, is fastest, of fp32 and those that cost MOST_AUTO_DB or
    less."""
    speeds = {name: cost.encoder_speed for name, cost in measured.items() if cost.cost_db <= MOST_AUTO_DB}
    return max({"fp32": 1.0, **speeds}.items(), key=lambda item: item[1])[0]


def measure_variant(exact: Codec, variant: Codec, images: Pixels) -> VariantCost:
    """Compare a variant with fp32 on images uint8 [n, H, W, C].

    Raises ParityError if the variant's results depend on the batch.
    """
    images = images[:IMAGES]
    latent_e, latent_v = exact.encode(images), variant.encode(images)
    for batch in BATCHES:
        if not np.allclose(variant.encode(images, batch_size=batch), latent_v, atol=0.1):
            raise ParityError(
                f"the variant {variant.bundle.variant}", expected="one result", found="another by the batch"
            )
    errors = [
        mse(images, decoder.decode(latents))
        for decoder, latents in ((exact, latent_e), (exact, latent_v), (variant, latent_v))
    ]
    span = max(float(np.ptp(latent_e)), 1.0)
    timed = np.resize(images, (_TIMED, *images.shape[1:]))
    latents = np.resize(latent_e, (_TIMED, latent_e.shape[1]))
    alone = [Codec(codec.bundle, "cpu", threads=1) for codec in (exact, variant)]
    return VariantCost(
        len(images),
        float(np.abs(latent_v - latent_e).max()) / span,
        psnr_loss(errors[0], errors[2]),
        psnr_loss(errors[0], errors[1]),
        _speed(*(partial(codec.encode, timed) for codec in alone)),
        _speed(*(partial(codec.decode, latents) for codec in alone)),
        sum(entry["bytes"] for entry in variant.bundle.manifest["files"].values()),
    )


def psnr_loss(before: float, after: float) -> float:
    """Loss of PSNR in dB between two mean squared errors, for pixels in [0, 1]. An error below that of rounding to
    levels counts as LEAST_ERROR, so that the loss of a lossless model is finite."""
    return psnr(max(before, LEAST_ERROR)) - psnr(max(after, LEAST_ERROR))


def _speed(exact: Callable[[], object], variant: Callable[[], object]) -> float:
    """How many times as fast the second is: the median over alternating passes, after one that warms up."""
    ratios = []
    for _ in range(_PASSES + 1):
        began = time.perf_counter()
        exact()
        between = time.perf_counter()
        variant()
        ratios.append((between - began) / (time.perf_counter() - between))
    return statistics.median(ratios[1:])
