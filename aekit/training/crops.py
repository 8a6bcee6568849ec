"""Batches of crops from pictures of differing sizes, which stay in memory as they were read: uint8, never resized.

A batch holds crops of one size. Pictures whose padded sides are smaller than the crop are taken whole, together with
others of that padded size: so a network sees edges in training exactly as it sees them when it encodes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aekit.errors import OptionError

Picture = npt.NDArray[np.uint8]
"""One picture, uint8 [H, W, C]."""


@dataclass(frozen=True)
class CropBatch:
    """Crops of one size and which of their pixels belong to pictures."""

    pixels: Tensor
    """uint8 [n, C, h, w]; both sides are multiples of the stride. Edges are repeated outside the pictures."""
    inside: Tensor
    """float32 [n, 1, h, w]: 1 where a pixel belongs to its picture, 0 where an edge was repeated."""


class CropSampler:
    """Draws crops: each picture is as likely as any other (or, by area, each place), each place in it as likely.

    pictures ─ grouped by min(crop, padded side) ─▶ one group a batch ─▶ places ─▶ flips ─▶ CropBatch
    """

    def __init__(
        self, pictures: Sequence[Picture], crop: int, stride: int, *, flips: bool = False, by_area: bool = False
    ) -> None:
        """Group the pictures by the size of their crops.

        `crop` is the longest side of a crop, a multiple of `stride`. With `flips`, crops are mirrored and transposed
        at random. With `by_area`, a picture is as likely as its number of places.

        Raises OptionError if there is no picture, `crop` is no multiple of `stride`, or numbers of channels differ.
        """
        if crop < stride or crop % stride:
            raise OptionError("crop", expected=f"a multiple of the stride, {stride}", found=str(crop))
        if len({picture.shape[2] for picture in pictures}) != 1:
            raise OptionError("pictures", expected="one or more, all gray or all in colour", found=str(len(pictures)))
        self.pictures, self.crop, self.stride, self.flips = pictures, crop, stride, flips
        groups: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            height, width = (min(crop, padded_side(side, stride)) for side in picture.shape[:2])
            groups.setdefault((height, width), []).append(index)
        self.sizes = list(groups)
        self.members = [np.array(groups[size]) for size in self.sizes]
        weights = np.ones(len(pictures))
        if by_area:
            weights[:] = [math.prod(padded_side(side, stride) for side in picture.shape[:2]) for picture in pictures]
        self.weights = [weights[members] / weights[members].sum() for members in self.members]
        self.shares = np.array([weights[members].sum() for members in self.members]) / weights.sum()

    def batch(self, places: int, rng: np.random.Generator) -> CropBatch:
        """Draw crops of one size that have about `places` places of the code together; at least one crop."""
        group = int(rng.choice(len(self.sizes), p=self.shares))
        height, width = self.sizes[group]
        count = max(1, round(places * self.stride**2 / (height * width)))
        transposed = self.flips and bool(rng.integers(2))  # of a whole batch, which has one size
        crops, masks = [], []
        for index in rng.choice(self.members[group], count, p=self.weights[group]):
            crop, mask = self._crop(self.pictures[index], height, width, rng)
            if self.flips:
                for axis in (0, 1):
                    if rng.integers(2):
                        crop, mask = np.flip(crop, axis), np.flip(mask, axis)
            crops.append(crop.transpose(1, 0, 2) if transposed else crop)
            masks.append(mask.T if transposed else mask)
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
        return CropBatch(pixels, torch.from_numpy(np.stack(masks))[:, None])

    def _crop(
        self, picture: Picture, height: int, width: int, rng: np.random.Generator
    ) -> tuple[Picture, npt.NDArray[np.float32]]:
        rows, row_mask = self._places(picture.shape[0], height, rng)
        columns, column_mask = self._places(picture.shape[1], width, rng)
        crop: Picture = picture[rows][:, columns]
        return crop, np.outer(row_mask, column_mask)

    def _places(
        self, side: int, length: int, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Rows or columns of a crop, and whether each lies inside. Crops may reach as far as padding does."""
        places = np.arange(length) + int(rng.integers(padded_side(side, self.stride) - length + 1))
        return np.minimum(places, side - 1), (places < side).astype(np.float32)


def padded_side(side: int, stride: int) -> int:
    """Return the smallest multiple of `stride` that is at least `side`."""
    return -(-side // stride) * stride
