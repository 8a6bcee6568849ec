"""Rounding for grid codes: a zone around zero that is wider than a step, gradients past it, and errors inside pictures.

Most numbers of a grid code are zero. A latent a little over half a step costs several bits as a 1 and saves little
error, so it is rounded to 0 instead (Sullivan 1996, dead-zone quantisers). Decoders know nothing of it.
"""

from typing import Any

import torch
from torch import Tensor

DEAD_ZONE = 0.16
"""Steps by which the border between 0 and ±1 lies beyond a half. Chosen on test pictures of three sets, one model each.
Against plain rounding it saved about 17 % of the bytes on blood cells, 15 % on traffic signs and 0 to 4 % on magnetic
tiles. Errors differed, so bytes were compared along the slope of the codecs' envelope: take these as rough figures."""
LAST_SHARE = 0.25
"""Share of a run at its end in which the encoder and its steps are fixed. The decoder and the probabilities then learn
from codes that are rounded as the exported encoder rounds them. Rounding has no gradient. An encoder that learned here
with the gradient of latents that are not rounded made larger codes. On held-out blood cells, its cost was 0.194 after
2,400 steps, and 0.189 in its best epoch. With a fixed encoder the cost was 0.185."""


def round_with_dead_zone(steps: Tensor, dead_zone: float = DEAD_ZONE) -> Tensor:
    """Round latents in steps of the grid; those within 0.5 + `dead_zone` of zero become 0. Any shape.

    Exactly at a border the larger magnitude is taken.
    """
    size = steps.abs()
    lowered = size + 0.5 - dead_zone * (size < 1.5)
    return steps.sign() * lowered.floor()


def straight_through(steps: Tensor, rounded: Tensor) -> Tensor:
    """The rounded latents, with the gradient of those that were not rounded (Bengio et al. 2013)."""
    return steps + (rounded - steps).detach()


def clipped_mse_inside(x_hat: Tensor, x: Tensor, inside: Tensor, factors: Tensor | None = None) -> Tensor:
    """Mean squared error over the pixels inside pictures of x_hat [n, C, H, W] clipped to [0, 1].

    `inside` is [n, 1, H, W], 1 for a pixel of the picture and 0 for a repeated edge. The gradient passes the clip as
    in `clipped_mse`. The squared errors of each picture are multiplied by its number in `factors`, [n].
    """
    clipped = straight_through(x_hat, x_hat.clamp(0, 1))
    squares: Any = (clipped - x).square() * (inside if factors is None else inside * factors[:, None, None, None])
    total: Tensor = squares.sum() / (inside.sum() * x.shape[1])
    return total


def errors_inside(x_hat: Tensor, x: Tensor, inside: Tensor) -> Tensor:
    """Mean squared error of each picture over its pixels, [n]. Arguments are those of clipped_mse_inside."""
    squares = (x_hat.clamp(0, 1) - x).square() * inside
    return squares.sum((1, 2, 3)) / (inside.sum((1, 2, 3)) * x.shape[1])


def repeat_edges(x: Tensor, inside: Tensor) -> Tensor:
    """Replace pixels outside pictures by the nearest pixel inside, as padding does.

    x is [n, C, H, W]; `inside` is [n, 1, H, W]. The pixels inside each picture form a rectangle.
    """
    for axis in (2, 3):
        line = inside[:, 0].amax(4 - axis) > 0  # over the other axis: [n, H], then [n, W]
        places = torch.arange(line.shape[1], device=x.device)
        first, last = line.int().argmax(1), line.shape[1] - 1 - line.flip(1).int().argmax(1)
        nearest = torch.minimum(torch.maximum(places, first[:, None]), last[:, None])
        index = nearest[:, None, :, None] if axis == 2 else nearest[:, None, None, :]
        x = x.gather(axis, index.expand(x.shape))
    return x


def bits_per_pixel(bits: Tensor, inside: Tensor) -> Tensor:
    """Bits a pixel inside pictures; `bits` are a mean over the n pictures of `inside` [n, 1, H, W]."""
    return torch.as_tensor(bits * len(inside) / inside.sum())
