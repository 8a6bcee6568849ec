"""Modulation: a grid network scales and shifts its channels by the quality (FiLM, Perez et al. 2018)."""

import torch
from torch import Tensor, nn


class Modulation(nn.Module):
    """x · (1 + gain[quality]) + bias[quality] for each channel of x [n, C, h, w]; begins as the identity."""

    def __init__(self, qualities: int, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(qualities, width))
        self.bias = nn.Parameter(torch.zeros(qualities, width))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """`quality` is int64 [n], 1 or more."""
        gain, bias = (rows[quality - 1][:, :, None, None] for rows in (self.gain, self.bias))
        return x * (1 + gain) + bias


class Branch(nn.Sequential):
    """Layers in a row. Those that are modulations get the quality of each picture, int64 [n]."""

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        for layer in self:
            x = layer(x, quality) if isinstance(layer, Modulation) else layer(x)
        return x
