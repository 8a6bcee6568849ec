"""Augmentation: small affine warps, so that a network learns the kind of image rather than the images."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

_SPREAD = (0.08, 0.10, 0.08, 0.10, 0.08, 0.08)
"""Standard deviations: scale x, shear x, shift x (of half the width), shear y, scale y, shift y."""


def warp(x: Tensor, share: float, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Images [n, C, H, W] in [0, 1], of which each is warped with probability `share`; edges are repeated outward.

    `strength` multiplies the deviations of the warps. `x` is changed in place and returned.
    """
    chosen = (torch.rand(len(x), generator=rng) < share).nonzero()[:, 0]
    if not len(chosen):
        return x
    moves = torch.randn((len(chosen), 6), generator=rng) * (strength * torch.tensor(_SPREAD))
    moves += torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    chosen, moves = chosen.to(x.device), moves.to(x.device)
    y_unit, x_unit = (torch.linspace(1 / n - 1, 1 - 1 / n, n, device=x.device) for n in x.shape[2:])
    # Where each pixel is taken from, −1 to 1: a sum of what its column and its row give, one addition a pixel, which
    # beats affine_grid's small products.
    source = moves.view(-1, 2, 3, 1, 1)
    grid = (source[:, :, 0] * x_unit + source[:, :, 2]) + source[:, :, 1] * y_unit[:, None]
    # By rows: index_select and index_copy_ move whole images, x[chosen] one number at a time.
    moved = grid_sample(x.index_select(0, chosen), grid.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    return x.index_copy_(0, chosen, moved).clamp_(0, 1)
