"""The model: its folder on disk, its sessions in onnxruntime, and what they compute.

The public names load on first use, so that importing this package imports nothing else:

    Bundle          a model folder, read and checked
    Codec           a model, ready to turn images into codes and codes into images
    LatentGaussian  the distribution of a model's latents
    sample          new images from random latents
    interpolate     images between two images
    examine         what this install can run a model on
"""

from typing import TYPE_CHECKING

from aekit.lazy import lazily

if TYPE_CHECKING:
    from aekit.model.bundle import Bundle
    from aekit.model.codec import Codec
    from aekit.model.doctor import examine
    from aekit.model.interpolation import interpolate
    from aekit.model.sampling import LatentGaussian, sample

__all__ = ["Bundle", "Codec", "LatentGaussian", "examine", "interpolate", "sample"]

_HOMES = {
    "Bundle": "aekit.model.bundle",
    "Codec": "aekit.model.codec",
    "LatentGaussian": "aekit.model.sampling",
    "examine": "aekit.model.doctor",
    "interpolate": "aekit.model.interpolation",
    "sample": "aekit.model.sampling",
}

__getattr__, __dir__ = lazily(__name__, _HOMES)
