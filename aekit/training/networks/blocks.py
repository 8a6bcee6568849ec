"""Blocks of pictures: padding to whole blocks, and the principal transform of blocks that grid networks start as."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from aekit.pca import Pca


@dataclass(frozen=True)
class BlockTransform:
    """The block KLT that a grid network starts as, its values in the order of torch's pixel_unshuffle."""

    mean: Tensor
    """[C · S²], pixels in [0, 1]."""
    components: Tensor
    """[K, C · S²], orthonormal rows."""
    deviations: Tensor
    """[K], at least the finest step."""

    @classmethod
    def of(cls, principal: Pca | None, values: int, count: int, finest: float) -> "BlockTransform":
        """The transform of `principal`, fitted on blocks of `values` numbers; zeros and ones without one.

        `count` is the number of channels to make. `finest` is the least deviation of a latent, for pixels in [0, 1].
        Give the step that codes are rounded with: channels that hardly differ then mostly round to zero.
        """
        mean, components, deviations = torch.zeros(values), torch.zeros(count, values), torch.ones(count)
        if principal is not None:
            found = min(len(principal.scales), count)  # fewer than asked for, on a set of few blocks
            mean = torch.from_numpy(principal.mean.copy())
            components[:found] = torch.from_numpy(principal.components[:found])
            least = max(finest, float(principal.scales[0]) * 1e-3 + 1e-12)
            deviations.fill_(least)
            deviations[:found] = torch.from_numpy(principal.scales[:found]).clamp(min=least)
        return cls(mean, components, deviations)


def pad_to_stride(x: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of pictures [n, C, H, W] until both sides are multiples of `stride`.

    Written with indices, because they export with free sizes; torch's own padding takes the sizes of the example.
    """
    height, width = x.shape[-2:]
    for dimension, side in ((2, height), (3, width)):
        places = torch.arange((side + stride - 1) // stride * stride, device=x.device)
        x = x.index_select(dimension, places.clamp(max=side - 1))
    return x


def sample_blocks(pictures: Sequence[Tensor], stride: int, count: int, rng: torch.Generator) -> Tensor:
    """About `count` blocks of pictures uint8 [H, W, C], as uint8 [m, C · S²] in the order of pixel_unshuffle.

    Each picture gives equally many, but no more than it has; edges are repeated as the encoder repeats them.
    """
    each = max(1, math.ceil(count / len(pictures)))
    parts = []
    for picture in pictures:
        whole = pad_to_stride(picture.permute(2, 0, 1)[None], stride)
        blocks = pixel_unshuffle(whole, stride)[0].flatten(1).T
        parts.append(blocks[torch.randperm(len(blocks), generator=rng)[:each]])
    return torch.cat(parts)
