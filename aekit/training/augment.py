"""Augmentation: small affine warps, changes of light and mirror images.

A network then learns the kind of image rather than the images.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

_SPREAD = (0.08, 0.10, 0.08, 0.10, 0.08, 0.08)
"""Standard deviations of a warp's six numbers: scale x, shear x, shift x, shear y, scale y, shift y.

A shift of 1 is half the image's width or height.
"""

_GAIN, _TINT, _LIFT = 0.3, 0.05, 0.06
"""Standard deviations of the logarithm of an image's gain, of the logarithm of each colour's own gain, and of the light
that is added."""


def warp(x: Tensor, share: float, rng: torch.Generator, strength: float = 1.0) -> Tensor:
    """Warp some of the images, in place, and return them.

    Args:
        x: images [n, C, H, W], float in [0, 1].
        share: probability, 0 to 1, that an image is warped. Pixels at the edge are repeated outward.
        rng: source of all chance.
        strength: factor on the standard deviations of the warps.
    """
    chosen = (torch.rand(len(x), generator=rng) < share).nonzero()[:, 0]
    if not len(chosen):
        return x
    moves = torch.randn((len(chosen), 6), generator=rng) * (strength * torch.tensor(_SPREAD))
    moves += torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    chosen, moves = chosen.to(x.device), moves.to(x.device)
    y_unit, x_unit = (torch.linspace(1 / n - 1, 1 - 1 / n, n, device=x.device) for n in x.shape[2:])
    # The place that each pixel is taken from, −1 to 1. It is a term of the column plus a term of the row. One addition
    # a pixel is faster than the small matrix products of affine_grid.
    source = moves.view(-1, 2, 3, 1, 1)
    grid = (source[:, :, 0] * x_unit + source[:, :, 2]) + source[:, :, 1] * y_unit[:, None]
    # index_select and index_copy_ move whole images; x[chosen] moves one number at a time.
    moved = grid_sample(x.index_select(0, chosen), grid.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    return x.index_copy_(0, chosen, moved).clamp_(0, 1)


def relight(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Make some of the images lighter or darker, and mirror half of as many. Return new images.

    Args:
        x: colour images [n, 3, H, W], float in [0, 1].
        share: probability, 0 to 1, that an image gets other light.
        rng: source of all chance.
    """
    one = (len(x), 1, 1, 1)
    is_lit = (torch.rand(one, generator=rng) < share).float()
    gain = _GAIN * torch.randn(one, generator=rng) + _TINT * torch.randn((len(x), 3, 1, 1), generator=rng)
    lift = _LIFT * torch.randn(one, generator=rng)
    is_mirrored = torch.rand(one, generator=rng) < share / 2
    lit = (x * (is_lit * gain).exp().to(x.device) + (is_lit * lift).to(x.device)).clamp_(0, 1)
    return torch.where(is_mirrored.to(x.device), lit.flip(3), lit)
