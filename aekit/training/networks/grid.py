"""Grid network: fully convolutional halves for pictures of any size, which start as a block transform.

    x [n, C, H, W] ─ repeat edges to the stride ─▶ c(x) / d + f(x) ─▶ z [n, h, w, K]; h = ceil(H/S), w = ceil(W/S)
    z ─▶ blocks of mean + Σ z · d · component, plus g(z) ─▶ x_hat [n, C, h · S, w · S]

c(x) are principal coefficients of blocks of S × S pixels (the Karhunen-Loève transform, KLT), d their deviations but
at least `finest`. f and g are convolutional and begin at zero, so that training begins as transform coding. Everything
after the last whole block is cut off by whoever knows the picture's size.

The latent has its channels last, as codes are stored: a step, table or scale a channel then broadcasts without a shape.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from aekit.errors import OptionError
from aekit.pca import Pca
from aekit.training.networks.autoencoder import Foldable
from aekit.training.networks.blocks import BlockTransform, pad_to_stride

_STEM = 4
"""Pixels on each side of the blocks that the convolutional branches see and give at their finest level."""
_SEEN = 4.0
"""Factor on pixels and on the encoder branch's output: pixels deviate by about a quarter."""
_GIVEN = 0.1
"""Factor on the decoder branch's output: what the transform misses is about a tenth of a picture's contrast."""


def _levels(stride: int) -> int:
    """Levels of a branch from blocks of _STEM pixels to those of the stride. Raises OptionError for other strides."""
    if stride not in (8, 16):
        raise OptionError("stride", expected="8 or 16", found=str(stride))
    return int(math.log2(stride // _STEM)) + 1


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
                places = 1 / (_STEM * 2**depth) ** 2  # a pixel
                work += blocks * places * 18 * width**2
            for depth, ((fine, _), (coarse, _)) in enumerate(pairwise(levels)):
                work += 4 * fine * coarse / (_STEM * 2 ** (depth + 1)) ** 2
            work += channels * levels[0][0] + self.code_channels * levels[-1][0] / block
            sizes.append((work + linear) / 1000)
        return sizes[0], sizes[1]


LAYOUTS = {
    "tiny": GridLayout(16, 48, ((24, 1), (32, 1), (48, 1)), ((16, 1), (48, 1), (96, 1))),
    "small": GridLayout(16, 64, ((32, 1), (64, 1), (96, 2)), ((32, 2), (96, 2), (192, 2))),
    "default": GridLayout(16, 64, ((48, 1), (80, 2), (128, 2)), ((64, 3), (160, 2), (192, 3))),
    "large": GridLayout(16, 96, ((64, 2), (96, 2), (160, 2)), ((96, 3), (192, 3), (256, 3))),
}
"""Layouts by the name of their preset."""


class _Block(nn.Module):
    """x + conv(gelu(conv(x))), 3×3 each; begins as the identity.

    Depthwise blocks of like kMAC were slower on a CPU and no better after the same time (3,295 steps against 2,558).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = _zero(nn.Conv2d(width, width, 3, padding=1))
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(self.gelu(self.first(x)))
        return out


class GridEncoder(Foldable):
    """Pictures [n, C, H, W] in [0, 1] of any size to latents [n, ceil(H/S), ceil(W/S), K]."""

    deviations: Tensor
    """What a latent of 1 stands for at first, [K]: the coefficient's deviation, but at least the finest step."""

    mean: Tensor

    def __init__(self, layout: GridLayout, channels: int, transform: BlockTransform) -> None:
        super().__init__()
        self.stride = layout.stride
        self.register_buffer("deviations", transform.deviations.clone())
        self.register_buffer("mean", transform.mean.clone())
        self.transform = nn.Parameter(transform.components.clone())
        widths = [width for width, _ in layout.encoder]
        branch: list[nn.Module] = [nn.Conv2d(channels * _STEM**2, widths[0], 1)]
        for depth, (width, blocks) in enumerate(layout.encoder):
            branch += [_Block(width) for _ in range(blocks)]
            if depth + 1 < len(widths):
                branch.append(nn.Conv2d(width, widths[depth + 1], 2, stride=2))
        branch += [nn.GELU(), _zero(nn.Conv2d(widths[-1], layout.code_channels, 1))]
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_stride(x, self.stride)
        blocks = pixel_unshuffle(x, self.stride) - self.mean[:, None, None]
        weight = self.transform / self.deviations[:, None]
        coefficients = nn.functional.conv2d(blocks, weight[:, :, None, None])
        seen = (pixel_unshuffle(x, _STEM) - self.mean.mean()) * _SEEN
        out: Tensor = (coefficients + self.branch(seen) * _SEEN).permute(0, 2, 3, 1)
        return out

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The same with the mean, the deviations and all factors in the weights, and blocks taken by strides."""
        first, *middle, last = self.branch
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
        assert first.bias is not None and last.bias is not None
        weight = self.transform / self.deviations[:, None]
        seen = first.weight.flatten(1) * _SEEN
        return _FoldedEncoder(
            self.stride,
            _strided(weight, -weight @ self.mean, self.stride),
            _strided(seen, first.bias - seen.sum(1) * self.mean.mean(), _STEM),
            middle,
            _conv(last.weight * _SEEN, last.bias * _SEEN),
        )


class GridDecoder(Foldable):
    """Latents [n, h, w, K] to pictures [n, C, h·S, w·S]."""

    deviations: Tensor
    mean: Tensor

    def __init__(self, layout: GridLayout, channels: int, transform: BlockTransform) -> None:
        super().__init__()
        self.stride = layout.stride
        self.register_buffer("deviations", transform.deviations.clone())
        self.register_buffer("mean", transform.mean.clone())
        self.transform = nn.Parameter(transform.components.clone())
        levels = layout.decoder[::-1]  # from the code to the pixels
        branch: list[nn.Module] = [nn.Conv2d(layout.code_channels, levels[0][0], 1)]
        for depth, (width, blocks) in enumerate(levels):
            branch += [_Block(width) for _ in range(blocks)]
            if depth + 1 < len(levels):
                branch += [nn.Conv2d(width, 4 * levels[depth + 1][0], 1), nn.PixelShuffle(2)]
        branch += [nn.GELU(), _zero(nn.Conv2d(levels[-1][0], channels * _STEM**2, 1))]
        self.branch = nn.Sequential(*branch)

    def forward(self, z: Tensor) -> Tensor:
        z = z.permute(0, 3, 1, 2)
        weight = (self.transform * self.deviations[:, None]).T
        blocks = nn.functional.conv2d(z, weight[:, :, None, None], self.mean)
        out: Tensor = pixel_shuffle(blocks, self.stride) + pixel_shuffle(self.branch(z), _STEM) * _GIVEN
        return out

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The same with the deviations and the factor in the weights."""
        *before, last = self.branch
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        weight = (self.transform * self.deviations[:, None]).T[:, :, None, None]
        return _FoldedDecoder(
            self.stride, _conv(weight, self.mean), before, _conv(last.weight * _GIVEN, last.bias * _GIVEN)
        )


class _FoldedEncoder(nn.Module):
    """What GridEncoder computes, for export."""

    def __init__(
        self, stride: int, transform: nn.Conv2d, first: nn.Conv2d, middle: list[nn.Module], last: nn.Conv2d
    ) -> None:
        super().__init__()
        self.stride, self.transform = stride, transform
        self.branch = nn.Sequential(first, *middle, last)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_stride(x, self.stride)
        out: Tensor = (self.transform(x) + self.branch(x)).permute(0, 2, 3, 1)
        return out


class _FoldedDecoder(nn.Module):
    """What GridDecoder computes, for export."""

    def __init__(self, stride: int, transform: nn.Conv2d, before: list[nn.Module], last: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.transform = stride, transform
        self.branch = nn.Sequential(*before, last)

    def forward(self, z: Tensor) -> Tensor:
        z = z.permute(0, 3, 1, 2)
        out: Tensor = pixel_shuffle(self.transform(z), self.stride) + pixel_shuffle(self.branch(z), _STEM)
        return out


def grid(
    layout: GridLayout, channels: int, principal: Pca | None, finest: float = 0.0
) -> tuple[GridEncoder, GridDecoder]:
    """Both halves, for pictures of so many channels, their free weights drawn from torch's generator.

    `principal` holds the components of blocks of the training pictures; without it the weights are of use only to be
    replaced by saved ones. See `BlockTransform.of` for `finest`.
    """
    transform = BlockTransform.of(principal, channels * layout.stride**2, layout.code_channels, finest)
    return GridEncoder(layout, channels, transform), GridDecoder(layout, channels, transform)


def _strided(rows: Tensor, bias: Tensor, side: int) -> nn.Conv2d:
    """The product of rows [K, C · side²] with blocks in the order of pixel_unshuffle, as a strided convolution."""
    return _conv(rows.unflatten(1, (-1, side, side)), bias, side)


def _conv(weight: Tensor, bias: Tensor, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], stride)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)  # type: ignore[union-attr]
    return layer


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
