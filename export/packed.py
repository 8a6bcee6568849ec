"""The folded halves of a grid network, rewritten so that a device moves few bytes for each pixel.

image uint8 ─ repeat edges, still uint8 ─▶ floats [n, C, H, W] ─▶ latents
latents ─▶ floats [n, C·16, H/4, W/4] ─ clip, round ─▶ uint8 ─ pixels of cells of 4×4 ─▶ image uint8

All factors are in the weights. The decoder computes nothing in floats at the full resolution.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from aekit.training.networks.grid import FoldedDecoder, FoldedEncoder
from aekit.training.networks.layouts import STEM
from aekit.training.networks.modulation import Branch


class PackedEncoder(nn.Module):
    """Images uint8 [n, H, W, C] of any size to the latents [n, h, w, K] of a folded encoder."""

    @torch.no_grad()
    def __init__(self, folded: FoldedEncoder) -> None:
        super().__init__()
        first, *rest = folded.branch
        assert isinstance(first, nn.Conv2d)
        self.stride = folded.stride
        self.transform = _conv(folded.transform.weight / 255, folded.transform.bias, folded.stride)
        self.branch = Branch(_conv(first.weight / 255, first.bias, STEM), *rest)

    def forward(self, image: Tensor, quality: Tensor | None = None) -> Tensor:
        x = repeat_edges(image, self.stride).permute(0, 3, 1, 2).float()
        out: Tensor = (self.transform(x) + self.branch(x, quality)).permute(0, 2, 3, 1)
        return out


def repeat_edges(image: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of images [n, H, W, C] until both sides are multiples of `stride`.

    Bytes in this order are gathered in a third of the time of floats [n, C, H, W].
    """
    for dimension, side in ((1, image.shape[1]), (2, image.shape[2])):
        places = torch.arange((side + stride - 1) // stride * stride, device=image.device)
        image = image.index_select(dimension, places.clamp(max=side - 1))
    return image


class PackedDecoder(nn.Module):
    """Latents [n, h, w, K] to cells of the image that a folded decoder gives, [n, C·16, H/4, W/4]."""

    @torch.no_grad()
    def __init__(self, folded: FoldedDecoder) -> None:
        super().__init__()
        self.cells = folded.stride // STEM
        sides = (-1, self.cells, STEM, self.cells, STEM)
        weight, bias = folded.transform.weight, folded.transform.bias  # [C·S², K, 1, 1]
        assert bias is not None
        weight = weight.unflatten(0, sides).permute(0, 2, 4, 1, 3, 5, 6, 7).flatten(0, 4)
        self.transform = _conv(weight, bias.unflatten(0, sides).permute(0, 2, 4, 1, 3).flatten())
        self.branch = folded.branch

    def forward(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        z = z.permute(0, 3, 1, 2)
        out: Tensor = pixel_shuffle(self.transform(z), self.cells) + self.branch(z, quality)
        return out


def pixels_of(cells: Tensor) -> Tensor:
    """Convert cells [n, C·16, H/4, W/4] to an image [n, H, W, C] of the same numbers."""
    return pixel_shuffle(cells, STEM).permute(0, 2, 3, 1)


def _conv(weight: Tensor, bias: Tensor | None, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3]), stride)
    assert bias is not None and layer.bias is not None
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer
