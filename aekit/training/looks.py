"""Recognise images that are stored in colour but gray, and images that are black and white."""

import dataclasses

import numpy as np

from aekit.training.config import TrainConfig
from aekit.training.data import TrainingData
from aekit.training.pictures import PictureData

_PART = 256
"""Images that are looked at together."""
_SEEN = 1000
"""Images that decide whether a set is black and white."""
_DARK, _LIGHT, _SHARE = 64, 191, 0.85
"""A set is black and white if this share of its pixels is at most _DARK or at least _LIGHT."""
_LEAST = 0.02
"""Least share of pixels of each kind in a black-and-white set."""


def looks_gray(data: TrainingData | PictureData) -> bool:
    """Return whether every pixel of images stored in colour has three equal numbers."""
    for images in (data.train, data.validation):
        parts = images if isinstance(images, list) else (images[at : at + _PART] for at in range(0, len(images), _PART))
        for part in parts:
            if (part[..., :1] != part[..., 1:]).any():
                return False
    return True


def looks_black_and_white(data: TrainingData | PictureData) -> bool:
    """Return whether nearly all pixels are near black or near white, as in scanned digits."""
    rows = np.linspace(0, len(data.train) - 1, min(len(data.train), _SEEN)).astype(int)
    pixels = np.concatenate([data.train[row].ravel() for row in rows])
    dark, light = float((pixels <= _DARK).mean()), float((pixels >= _LIGHT).mean())
    return dark + light >= _SHARE and min(dark, light) >= _LEAST


def with_likelihood(config: TrainConfig, data: TrainingData | PictureData) -> TrainConfig:
    """Return the config. For the objective `variational`, choose the likelihood by the images unless it is given."""
    if config.objective != "variational" or config.options.get("likelihood", "auto") != "auto":
        return config
    likelihood = "bernoulli" if looks_black_and_white(data) else "gaussian"
    return dataclasses.replace(config, options={**config.options, "likelihood": likelihood})
