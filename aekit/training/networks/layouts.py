"""Layouts of grid networks: strides, channels, depth, and what follows from them: work a pixel and reach."""

import math
from dataclasses import dataclass
from itertools import pairwise

from aekit.errors import OptionError

STEM = 4
"""Pixels on each side of the blocks that the convolutional branches see and give at their finest level."""


def _levels(stride: int) -> int:
    """Levels of a branch from blocks of STEM pixels to those of the stride. Raises OptionError for other strides."""
    if stride not in (8, 16):
        raise OptionError("stride", expected="8 or 16", found=str(stride))
    return int(math.log2(stride // STEM)) + 1


@dataclass(frozen=True)
class GridLayout:
    """Sizes of a grid network."""

    stride: int
    """Pixels on each side of the block that one place of the code stands for: 8 or 16."""
    code_channels: int
    """Numbers at each place of the code."""
    encoder: tuple[tuple[int, int], ...]
    """(channels, blocks) of the encoder's levels, the finest first, a quarter of the pixels' sides, then halves."""
    decoder: tuple[tuple[int, int], ...]
    """(channels, blocks) of the decoder's levels, the finest first."""

    def __post_init__(self) -> None:
        levels = _levels(self.stride)
        for name, sizes in (("encoder", self.encoder), ("decoder", self.decoder)):
            if len(sizes) != levels:
                raise OptionError(
                    f"grid {name}", expected=f"{levels} levels for stride {self.stride}", found=str(len(sizes))
                )
        if not 1 <= self.code_channels <= self.stride**2:
            raise OptionError(
                "code channels", expected=f"1 to {self.stride**2}, pixels of a block", found=str(self.code_channels)
            )

    def kmac(self, channels: int) -> tuple[float, float]:
        """Thousands of multiplications a pixel of the encoder and of the decoder, for pictures of so many channels."""
        block = self.stride**2
        linear = channels * block * self.code_channels / block  # one matrix product a block, shared by its pixels
        sizes = []
        for levels in (self.encoder, self.decoder):
            work = 0.0
            for depth, (width, blocks) in enumerate(levels):
                places = 1 / (STEM * 2**depth) ** 2  # a pixel
                work += blocks * places * 18 * width**2
            for depth, ((fine, _), (coarse, _)) in enumerate(pairwise(levels)):
                work += 4 * fine * coarse / (STEM * 2 ** (depth + 1)) ** 2
            work += channels * levels[0][0] + self.code_channels * levels[-1][0] / block
            sizes.append((work + linear) / 1000)
        return sizes[0], sizes[1]

    @property
    def halo(self) -> tuple[int, int]:
        """Places around a place that its code depends on, and that the pixels of its block depend on.

        A tile of a picture with a margin of so many places has the codes and pixels that the whole picture has.
        """
        reach = [
            sum(2 * blocks * STEM * 2**depth for depth, (_, blocks) in enumerate(levels))  # two 3×3 a block
            for levels in (self.encoder, self.decoder)
        ]
        return -(-reach[0] // self.stride), -(-reach[1] // self.stride)


LAYOUTS = {
    "tiny": GridLayout(16, 48, ((24, 1), (32, 1), (48, 1)), ((16, 1), (48, 1), (96, 1))),
    "small": GridLayout(16, 64, ((32, 1), (64, 1), (96, 2)), ((32, 2), (96, 2), (192, 2))),
    "default": GridLayout(16, 64, ((48, 1), (80, 2), (128, 2)), ((64, 3), (160, 2), (192, 3))),
    "large": GridLayout(16, 96, ((64, 2), (96, 2), (160, 2)), ((96, 3), (192, 3), (256, 3))),
}
"""Layouts by the name of their preset."""
