"""Parity: the shipped Codec against torch, on real validation images. What is verified is what ships."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from aekit.codec import Codec
from aekit.errors import ParityError
from aekit.export.graphs import DecoderGraph, EncoderGraph
from aekit.images import Pixels

BATCHES = (1, 2, 7)
IMAGES = 256
"""Validation images compared, in batches of each of BATCHES."""
MOST_LATENT = 1e-3
"""Largest latent difference, in code units, relative to the latents' range."""
MOST_LEVELS = 1
"""Largest pixel difference, levels of 255."""
TIE = 0.01
"""Distance from a half, code units, within which two latents may round to different codes."""


@dataclass(frozen=True)
class Parity:
    """How far onnxruntime's results are from torch's: the worst over batches of 1, 2 and 7."""

    images: int
    """Images compared at each batch size."""
    latent_difference: float
    """Largest, in code units, divided by the latents' range."""
    codes_differing: int
    """Codes that differ; every one is a tie, within TIE of a half."""
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
        if bool((differ & (np.abs(latent_t - np.floor(latent_t) - 0.5) > TIE)).any()):
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
