"""The images that export looks at, in the forms in which it needs them: one class for each kind of code.

training images    latents (units, rounding), crops (int8), codes (tables)
validation images  groups of one size (parity), crops (variants), whole pictures (errors)

A set of large pictures would take export hours and memory without bound. So the samples of grid codes are a part of the
pictures, evenly spaced, each cut to SIDE at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aekit.codes.entropy import U8
from aekit.images.decode import Pixels
from aekit.model.codec import Codec
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder
from aekit.training.pictures import PictureData

CALIBRATED_ON = 1000
"""Largest number of training images that calibrate activations."""
COMPARED = 256
"""Largest number of images that are compared with torch, or with another variant."""
NOISE_IMAGES = 256
"""Number of training images on which the rounding noise of latents is measured."""
SIDE = 1024
"""Longest side in pixels to which pictures of any size are cut."""
TRAINING_PIXELS, VALIDATION_PIXELS = 2**24, 2**22
"""Approximate number of pixels of training and of validation pictures of any size that export looks at."""
CROP = 128
"""Longest side in pixels of the crops that calibrate and compare variants of grid codes."""
CROPS = 64
"""Number of crops."""
VISITED = 4
"""For a model of several qualities: each quality looks at the latents of one in VISITED training pictures."""
GROUP = 7
"""Number of pictures of one size that are compared with torch."""
_BATCH, _BATCH_VALUES = 1000, 2**22
"""Largest number of images, and of numbers in them, that are encoded together."""


class Samples(Protocol):
    """The images that export looks at."""

    def latents(self, network: Autoencoder, quality: int | None = None) -> Tensor:
        """Return the network's latents of training images, [m, D]. For grid codes each place is a row.

        A network of several qualities needs one.
        """

    def few(self) -> Pixels:
        """Return training images uint8 [n, H, W, C] on which the rounding noise of latents is measured."""

    def typical(self) -> Pixels:
        """Return training images uint8 [n, H, W, C] that calibrate int8."""

    def groups(self) -> list[Pixels]:
        """Return validation images in groups of one size, each uint8 [n, H, W, C], to compare with torch."""

    def compared(self) -> Pixels:
        """Return validation images uint8 [n, H, W, C] on which variants are compared with fp32."""

    def codes(self, codec: Codec) -> U8:
        """Return the codec's codes of training images, uint8 [m, D]. For grid codes each place is a row."""

    def validation(self) -> Pixels | list[Pixels]:
        """Return the validation images on which errors are measured: an array, or a list of pictures of any size."""


@dataclass(frozen=True)
class VectorSamples:
    """Images of one size."""

    data: TrainingData

    @torch.no_grad()
    def latents(self, network: Autoencoder, quality: int | None = None) -> Tensor:
        """Return the latents of all training images."""
        images = self.data.train
        step = min(_BATCH, max(_BATCH_VALUES // images[0].size, 1))
        return torch.cat(
            [network.encode(to_floats(images[start : start + step])) for start in range(0, len(images), step)]
        )

    def few(self) -> Pixels:
        """Return the first training images."""
        return self.data.train[:NOISE_IMAGES]

    def typical(self) -> Pixels:
        """Return training images that are spread over the set: the first ones of a folder may all be of one class."""
        images = self.data.train
        return images[:: max(len(images) // CALIBRATED_ON, 1)][:CALIBRATED_ON]

    def groups(self) -> list[Pixels]:
        """Return the first validation images, as one group."""
        return [self.compared()]

    def compared(self) -> Pixels:
        """Return the first validation images."""
        return self.data.validation[:COMPARED]

    def codes(self, codec: Codec) -> U8:
        """Return the codes of all training images."""
        return codec.encode(self.data.train, "uint8")

    def validation(self) -> Pixels:
        """Return all validation images."""
        return self.data.validation


class GridSamples:
    """Pictures of any size, or parts of them."""

    def __init__(self, data: PictureData) -> None:
        """Choose the pictures."""
        self.stride = data.geometry.stride
        self.train = spread(data.train, TRAINING_PIXELS)
        self.held_out = spread(data.validation, VALIDATION_PIXELS)

    @torch.no_grad()
    def latents(self, network: Autoencoder, quality: int | None = None) -> Tensor:
        """Return the latents of all places of the training pictures; with a quality, of each VISITED-th picture."""
        pictures = self.train if quality is None else self.train[quality % VISITED :: VISITED] or self.train
        given = () if quality is None else (torch.tensor([quality]),)
        return torch.cat([network.encode(to_floats(each[None]), *given).flatten(0, 2) for each in pictures])

    def few(self) -> Pixels:
        """Return a few crops: float64 arithmetic is slow."""
        return self.typical()[:8]

    def typical(self) -> Pixels:
        """Return crops of training pictures."""
        return self._crops(self.train)

    def groups(self) -> list[Pixels]:
        """Return crops in several sizes, odd ones among them, and the largest picture."""
        side = self.stride
        sizes = [(1, 1), (1, 300), (side + 1, 3 * side - 1), (2 * side, side)]
        largest = max(self.held_out, key=np.size)
        rng = np.random.default_rng(0)
        return [*(crops(self.held_out, GROUP, size, rng) for size in sizes), largest[None]]

    def compared(self) -> Pixels:
        """Return crops of validation pictures."""
        return self._crops(self.held_out)

    def codes(self, codec: Codec) -> U8:
        """Return the codes of all places of the training pictures."""
        return np.concatenate([codec.encode([each], "uint8").rows() for each in self.train])

    def validation(self) -> list[Pixels]:
        """Return the validation pictures."""
        return self.held_out

    def _crops(self, pictures: Sequence[Pixels]) -> Pixels:
        """Return crops in whole blocks, as large as most pictures are, but at most CROP on a side."""
        sides = np.median([picture.shape[:2] for picture in pictures], axis=0)
        height, width = (min(-(-int(side) // self.stride) * self.stride, CROP) for side in sides)
        return crops(pictures, CROPS, (height, width), np.random.default_rng(0))


def samples_of(data: TrainingData | PictureData) -> Samples:
    """Return the samples of a run's images."""
    return GridSamples(data) if isinstance(data, PictureData) else VectorSamples(data)


def spread(pictures: Sequence[Pixels], most: int) -> list[Pixels]:
    """Return evenly spaced pictures of about `most` pixels in all, at least one, each cut to SIDE around its centre."""
    total = sum(min(picture.shape[0], SIDE) * min(picture.shape[1], SIDE) for picture in pictures)
    count = max(1, min(len(pictures), len(pictures) * most // total))
    rows = np.linspace(0, len(pictures) - 1, count).round().astype(int)
    return [_centre(pictures[row]) for row in rows]


def crops(pictures: Sequence[Pixels], count: int, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """Return `count` crops of one size, uint8 [count, *size, C]: of each picture in turn, each at a random place.

    A smaller picture is repeated until it is large enough.
    """
    made = []
    for _, picture in zip(range(count), _in_turn(pictures), strict=False):
        missing = [max(wanted - side, 0) for wanted, side in zip(size, picture.shape, strict=False)]
        whole = np.pad(picture, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="wrap")
        top, left = (int(rng.integers(side - wanted + 1)) for wanted, side in zip(size, whole.shape, strict=False))
        made.append(whole[top : top + size[0], left : left + size[1]])
    return np.stack(made)


def to_floats(images: Pixels) -> Tensor:
    """Convert images uint8 [n, H, W, C] to floats in [0, 1], [n, C, H, W]."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255


def _centre(picture: Pixels) -> Pixels:
    top, left = (max(side - SIDE, 0) // 2 for side in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def _in_turn(pictures: Sequence[Pixels]) -> Iterator[Pixels]:
    """Yield the pictures over and over, in an order that is spread over the set."""
    step = max(len(pictures) // CROPS, 1)
    while True:
        yield from pictures[::step]
