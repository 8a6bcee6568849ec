"""Networks that start from random weights: fully connected layers (such as the book's network), and convolutions."""

import math
from itertools import pairwise

from torch import Tensor, nn

from aekit.errors import OptionError
from aekit.pca import Pca
from aekit.spec import Geometry
from aekit.training.config import TrainConfig


def mlp(config: TrainConfig, geometry: Geometry, outputs: int, _: Pca | None) -> tuple[nn.Module, nn.Module]:
    """Make an encoder and a decoder of fully connected layers: pixels → hidden … → code, and back in reverse."""
    image_shape = (geometry.channels, geometry.height, geometry.width)
    squash: list[nn.Module] = [nn.Sigmoid()] if config.squash else []
    encoder = [nn.Flatten(), *_layers((geometry.pixels, *config.hidden, outputs)), *squash]
    layers = _layers((config.code_dim, *config.hidden[::-1], geometry.pixels))
    return nn.Sequential(*encoder), nn.Sequential(*layers, *squash, nn.Unflatten(1, image_shape))


def _layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Make linear layers of these sizes with a GELU between each two."""
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), nn.GELU()]
    return modules[:-1]


_SMALLEST = 8
"""Stages are added until the longer side is at most this many pixels."""


class _Residual(nn.Module):
    """x + conv(gelu(conv(gelu(x)))): a pre-activation block (He et al. 2016) without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # the block starts as the identity, so a deep network trains stably
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(self.gelu(self.first(self.gelu(x))))
        return out


def conv(config: TrainConfig, geometry: Geometry, outputs: int, _: Pca | None) -> tuple[nn.Module, nn.Module]:
    """Make a convolutional encoder and decoder.

    The encoder has strided convolutions and a linear layer to the code. Each stage halves the sides, rounding up. The
    decoder enlarges by nearest-neighbour resizing followed by a convolution, which leaves no checkerboard pattern
    (Odena et al. 2016).

    Raises OptionError if the config gives no stages, or more stages than the image can be halved.
    """
    widths = config.hidden
    if not widths:
        raise OptionError("--hidden", expected="channels of the conv network's stages, such as 32,64", found="none")
    # Without enough halvings, the linear layer would have nearly all the weights.
    halvings = math.ceil(math.log2(max(geometry.height, geometry.width) / _SMALLEST))
    widths += (widths[-1],) * (halvings - len(widths))
    sides = [(geometry.height, geometry.width)]
    for _stage in widths:
        height, width = sides[-1]
        if min(height, width) < 2:
            raise OptionError(
                "--hidden", expected=f"at most {len(sides) - 1} stages for {geometry}", found=f"{len(widths)}"
            )
        sides.append((math.ceil(height / 2), math.ceil(width / 2)))
    features = widths[-1] * sides[-1][0] * sides[-1][1]

    encoder: list[nn.Module] = []
    for before, after in pairwise((geometry.channels, *widths)):
        encoder += [nn.Conv2d(before, after, 3, stride=2, padding=1), _Residual(after)]
    encoder += [nn.GELU(), nn.Flatten(), nn.Linear(features, outputs)]

    decoder: list[nn.Module] = [nn.Linear(config.code_dim, features), nn.Unflatten(1, (widths[-1], *sides[-1]))]
    for (before, after), side in zip(pairwise((*widths[::-1], widths[0])), sides[-2::-1], strict=True):
        decoder += [_Residual(before), nn.Upsample(side, mode="nearest"), nn.Conv2d(before, after, 3, padding=1)]
    decoder += [nn.GELU(), nn.Conv2d(widths[0], geometry.channels, 3, padding=1)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
