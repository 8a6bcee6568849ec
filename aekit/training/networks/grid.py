"""Grid network: fully convolutional halves for pictures of any size, which start as a block transform.

    x [n, C, H, W] ─ repeat edges to the stride ─▶ c(x) / d + f(x) ─▶ z [n, h, w, K]; h = ceil(H/S), w = ceil(W/S)
    z ─▶ blocks of mean + Σ z · d · component, plus g(z) ─▶ x_hat [n, C, h · S, w · S]

c(x) are principal coefficients of blocks of S × S pixels (the Karhunen-Loève transform, KLT), d their deviations but
at least `finest`. f and g are convolutional and begin at zero, so that training begins as transform coding. The decoder
gives whole blocks; the caller, who knows the picture's size, crops them.

With several qualities, f and g differ a little by the quality of each picture: see modulation.py.

The latent has its channels last, as codes are stored: a step, table or scale a channel then broadcasts without a shape.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from aekit.pca import Pca
from aekit.training.networks.autoencoder import Foldable
from aekit.training.networks.blocks import BlockTransform, pad_to_stride
from aekit.training.networks.layouts import STEM, GridLayout
from aekit.training.networks.modulation import Branch, Modulation

_SEEN = 4.0
"""Factor on pixels and on the encoder branch's output: pixels deviate by about a quarter."""
_GIVEN = 0.1
"""Factor on the decoder branch's output: what the transform misses is about a tenth of a picture's contrast."""


class _Block(nn.Module):
    """x + conv(gelu(conv(x))), 3×3 each; begins as the identity.

    With as much CPU time, depthwise blocks of like kMAC took 22 % fewer steps and ended no better, in one run each.
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

    def __init__(self, layout: GridLayout, channels: int, transform: BlockTransform, qualities: int = 1) -> None:
        super().__init__()
        self.stride = layout.stride
        self.register_buffer("deviations", transform.deviations.clone())
        self.register_buffer("mean", transform.mean.clone())
        self.transform = nn.Parameter(transform.components.clone())
        widths = [width for width, _ in layout.encoder]
        branch: list[nn.Module] = [nn.Conv2d(channels * STEM**2, widths[0], 1)]
        for depth, (width, blocks) in enumerate(layout.encoder):
            branch += [Modulation(qualities, width)] if qualities > 1 else []
            branch += [_Block(width) for _ in range(blocks)]
            if depth + 1 < len(widths):
                branch.append(nn.Conv2d(width, widths[depth + 1], 2, stride=2))
        branch += [nn.GELU(), _zero(nn.Conv2d(widths[-1], layout.code_channels, 1))]
        self.branch = Branch(*branch)

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        x = pad_to_stride(x, self.stride)
        with _exact(x):
            blocks = pixel_unshuffle(x, self.stride) - self.mean[:, None, None]
            weight = self.transform / self.deviations[:, None]
            coefficients = nn.functional.conv2d(blocks, weight[:, :, None, None])
        seen = (pixel_unshuffle(x, STEM) - self.mean.mean()) * _SEEN
        out: Tensor = (coefficients + self.branch(seen, quality) * _SEEN).permute(0, 2, 3, 1)
        return out

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The same with the mean, the deviations and all factors in the weights, and blocks taken by strides."""
        first, *middle, last = self.branch
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
        assert first.bias is not None and last.bias is not None
        weight = self.transform / self.deviations[:, None]
        seen = first.weight.flatten(1) * _SEEN
        return FoldedEncoder(
            self.stride,
            _strided(weight, -weight @ self.mean, self.stride),
            _strided(seen, first.bias - seen.sum(1) * self.mean.mean(), STEM),
            middle,
            _conv(last.weight * _SEEN, last.bias * _SEEN),
        )


class GridDecoder(Foldable):
    """Latents [n, h, w, K] to pictures [n, C, h·S, w·S]."""

    deviations: Tensor
    mean: Tensor

    def __init__(self, layout: GridLayout, channels: int, transform: BlockTransform, qualities: int = 1) -> None:
        super().__init__()
        self.stride = layout.stride
        self.register_buffer("deviations", transform.deviations.clone())
        self.register_buffer("mean", transform.mean.clone())
        self.transform = nn.Parameter(transform.components.clone())
        levels = layout.decoder[::-1]  # from the code to the pixels
        branch: list[nn.Module] = [nn.Conv2d(layout.code_channels, levels[0][0], 1)]
        for depth, (width, blocks) in enumerate(levels):
            branch += [Modulation(qualities, width)] if qualities > 1 else []
            branch += [_Block(width) for _ in range(blocks)]
            if depth + 1 < len(levels):
                branch += [nn.Conv2d(width, 4 * levels[depth + 1][0], 1), nn.PixelShuffle(2)]
        branch += [nn.GELU(), _zero(nn.Conv2d(levels[-1][0], channels * STEM**2, 1))]
        self.branch = Branch(*branch)

    def forward(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        z = z.permute(0, 3, 1, 2)
        with _exact(z):
            weight = (self.transform * self.deviations[:, None]).T
            blocks = nn.functional.conv2d(z, weight[:, :, None, None], self.mean)
        out: Tensor = pixel_shuffle(blocks, self.stride) + pixel_shuffle(self.branch(z, quality), STEM) * _GIVEN
        return out

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The same with the deviations and the factor in the weights."""
        *before, last = self.branch
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        weight = (self.transform * self.deviations[:, None]).T[:, :, None, None]
        return FoldedDecoder(
            self.stride, _conv(weight, self.mean), before, _conv(last.weight * _GIVEN, last.bias * _GIVEN)
        )


class FoldedEncoder(nn.Module):
    """What GridEncoder computes, for export."""

    def __init__(
        self, stride: int, transform: nn.Conv2d, first: nn.Conv2d, middle: list[nn.Module], last: nn.Conv2d
    ) -> None:
        super().__init__()
        self.stride, self.transform = stride, transform
        self.branch = Branch(first, *middle, last)

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        x = pad_to_stride(x, self.stride)
        out: Tensor = (self.transform(x) + self.branch(x, quality)).permute(0, 2, 3, 1)
        return out


class FoldedDecoder(nn.Module):
    """What GridDecoder computes, for export."""

    def __init__(self, stride: int, transform: nn.Conv2d, before: list[nn.Module], last: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.transform = stride, transform
        self.branch = Branch(*before, last)

    def forward(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        z = z.permute(0, 3, 1, 2)
        out: Tensor = pixel_shuffle(self.transform(z), self.stride) + pixel_shuffle(self.branch(z, quality), STEM)
        return out


def grid(
    layout: GridLayout, channels: int, principal: Pca | None, finest: float = 0.0, qualities: int = 1
) -> tuple[GridEncoder, GridDecoder]:
    """Both halves, for pictures of so many channels, their free weights drawn from torch's generator.

    `principal` holds the components of blocks of the training pictures; without it the weights are of use only to be
    replaced by saved ones. See `BlockTransform.of` for `finest`.
    """
    transform = BlockTransform.of(principal, channels * layout.stride**2, layout.code_channels, finest)
    return GridEncoder(layout, channels, transform, qualities), GridDecoder(layout, channels, transform, qualities)


def _exact(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which products are computed in float32. In bfloat16 the transform would lose fine steps."""
    return torch.autocast(x.device.type, enabled=False)


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
