"""What model.json keeps for archives: the entropy models of the exported encoder's codes, and their sizes.

An archive stores codes of the exported graph, so the models are fitted to codes of that graph, not to torch's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from aekit.codes.tables import MAX_TABLES_DIM
from aekit.exporting.entropy_models import bits_per_pixel, fit_entropy_models, fit_vector_models
from aekit.exporting.figures import decoded_error
from aekit.exporting.samples import TRAINING_PIXELS, GridSamples, Samples
from aekit.images.decode import Pixels
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.registry import objective_facts
from aekit.spec import ModelSpec
from aekit.training.objectives.vector_prior import VectorPrior

_FEWEST_VISITS = 2
"""Least number of qualities at which each training picture is encoded to fit entropy models."""


def fit_archive_models(
    codec: Codec, samples: Samples, entropy: str, prior: VectorPrior | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit the entropy models to codes of training images, and measure them on validation images.

    Args:
        codec: the model that is shipped.
        samples: the images that export looks at.
        entropy: the option `entropy`: auto, static or context.
        prior: the probabilities that the transform was trained with, if they depend on the context.

    Returns the entries of model.json, which are empty if codes are too long for tables; and what they add to the
    figures of validation images.
    """
    if isinstance(samples, GridSamples):
        return _for_grids(codec, samples, entropy)
    if codec.spec.code_dim > MAX_TABLES_DIM:
        return {}, {}
    held_out = np.asarray(codec.encode(samples.validation(), "uint8"))
    return fit_vector_models(samples.codes(codec), held_out, _for_vectors(entropy, codec.spec), prior), {}


def _for_vectors(entropy: str, spec: ModelSpec) -> str:
    """Return the option `entropy` for vector codes: auto tries a context model only where uint8 codes are the default.

    Models of other objectives seldom write archives, and a context model takes time to train.
    """
    is_tried = entropy != "auto" or objective_facts(spec.objective).stores_uint8_only
    return entropy if is_tried else "static"


def _for_grids(codec: Codec, samples: GridSamples, entropy: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entropy models of grid codes with their figures, and the bits and errors of all qualities."""
    held_out, spec = samples.held_out, codec.spec
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in held_out)
    tested = [_grids(codec, held_out, [each] * len(held_out)) for each in range(1, spec.qualities + 1)]
    models = fit_entropy_models(_training_codes(codec, samples), tested, pixels, entropy)
    rates = bits_per_pixel(models["entropy"])
    figures: dict[str, Any] = {"bits_per_pixel": rates[spec.default_quality - 1]}
    if spec.has_qualities:
        figures["qualities"] = [
            {"quality": number, "bits_per_pixel": rate, **decoded_error(codec, held_out, codes)}
            for number, (rate, codes) in enumerate(zip(rates, tested, strict=True), 1)
        ]
    return models, figures


def _training_codes(codec: Codec, samples: GridSamples) -> GridCodes:
    """Return codes of training pictures. With qualities, each picture is encoded at a few, in turn, to save time."""
    pictures, count = samples.train, codec.spec.qualities
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    visits = min(max(TRAINING_PIXELS // pixels, _FEWEST_VISITS), count)
    qualities = [1 + (row + visit * count // visits) % count for visit in range(visits) for row in range(len(pictures))]
    return _grids(codec, [*pictures] * visits, qualities)


def _grids(codec: Codec, pictures: list[Pixels], qualities: Sequence[int]) -> GridCodes:
    """Return the uint8 codes of pictures at these qualities. A model of one quality ignores `qualities`."""
    has_qualities = codec.spec.has_qualities
    return GridCodes.joined(
        codec.encode([picture], "uint8", quality=quality if has_qualities else None)
        for picture, quality in zip(pictures, qualities, strict=True)
    )
