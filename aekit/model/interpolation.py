"""Decode latents on the straight line between the latents of two images."""

from pathlib import Path

import numpy as np

from aekit.images.decode import Pixels, decode_file
from aekit.model.codec import Codec
from aekit.model.sampling import check_count, check_model


def interpolate(codec: Codec, first: Path, last: Path, count: int) -> tuple[Pixels, Pixels]:
    """Decode `count` evenly spaced latents from the latent of image `first` to the latent of image `last`, inclusive.

    Returns the two images as the encoder receives them, uint8 [2, H, W, C], and the decoded images, uint8
    [count, H, W, C].

    Raises OptionError if the model has grid codes or `count` is not from 2 to sampling.MOST, ImageError if an image
    can't be read, BundleError if a graph is missing or damaged, and ProviderError if a graph can't be run.
    """
    check_model(codec)
    check_count(count, least=2)
    ends = np.stack([decode_file(path, codec.spec.fixed)[0] for path in (first, last)])
    start, stop = codec.encode(ends)
    share = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    return ends, codec.decode((1 - share) * start + share * stop)
