"""Augmentation: small affine warps, so that a network learns the kind of image rather than the images."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

_SPREAD = (0.08, 0.10, 0.08, 0.10, 0.08, 0.08)
"""Standard deviations: scale x, shear x, shift x (of half the width), shear y, scale y, shift y."""


def warp(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Images [n, C, H, W] in [0, 1], of which each is warped with probability `share`; edges are repeated outward."""
    chosen = (torch.rand(len(x), generator=rng) < share).nonzero()[:, 0]
    if not len(chosen):
        return x
    moves = torch.randn((len(chosen), 6), generator=rng) * torch.tensor(_SPREAD)
    moves += torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    chosen = chosen.to(x.device)
    picked = x[chosen]
    matrices = moves.view(-1, 2, 3).to(x.device)
    grid = affine_grid(matrices, list(picked.shape), align_corners=False)
    x = x.clone()
    x[chosen] = grid_sample(picked, grid, padding_mode="border", align_corners=False).clamp_(0, 1)
    return x
