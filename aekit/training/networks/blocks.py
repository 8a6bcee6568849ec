"""Blocks of pictures: padding to whole blocks, and the principal transform of blocks that grid networks start as."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aekit.images.decode import Pixels
from aekit.pca import Pca

_BLOCKS = 24_000
"""Blocks of training pictures that the principal transform is fitted on, about."""


@dataclass(frozen=True)
class BlockStatistics:
    """What a grid network needs to know of its training pictures to start as a block transform."""

    pca: Pca
    """Principal components of blocks, pixels in [0, 1], each block in the order of torch's pixel_unshuffle."""
    largest: Tensor
    """Largest magnitude of each principal coefficient among the blocks, float32 [components]."""
    places: float
    """Mean number of places in the code of a picture."""

    @classmethod
    def of(cls, pictures: Sequence[Pixels], stride: int, count: int, seed: int) -> "BlockStatistics":
        """Fit the `count` leading components on blocks sampled from pictures uint8 [H, W, C].

        There are fewer components if there are fewer blocks or pixels in a block.
        """
        rng = torch.Generator().manual_seed(seed)
        blocks = sample_blocks(pictures, stride, _BLOCKS, rng)
        pca = Pca.fit(blocks.numpy()[:, None, :, None], count)
        centred = blocks.float() / 255 - torch.from_numpy(pca.mean)
        largest = (centred @ torch.from_numpy(pca.components).T).abs().amax(0)
        places = [
            math.ceil(height / stride) * math.ceil(width / stride) for height, width, _ in map(np.shape, pictures)
        ]
        return cls(pca, largest, sum(places) / len(places))


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
            deviations = deviations_of(principal, count, finest)
        return cls(mean, components, deviations)


def deviations_of(principal: Pca, count: int, finest: float) -> Tensor:
    """Return what a latent of 1 stands for at first, [count]: each coefficient's deviation, but at least `finest`."""
    found = min(len(principal.scales), count)
    least = max(finest, float(principal.scales[0]) * 1e-3 + 1e-12)
    deviations = torch.full((count,), least)
    deviations[:found] = torch.from_numpy(principal.scales[:found]).clamp(min=least)
    return deviations


def pad_to_stride(x: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of pictures [n, C, H, W] until both sides are multiples of `stride`.

    Written with indices, because they export with free sizes; torch's own padding takes the sizes of the example.
    """
    height, width = x.shape[-2:]
    for dimension, side in ((2, height), (3, width)):
        places = torch.arange((side + stride - 1) // stride * stride, device=x.device)
        x = x.index_select(dimension, places.clamp(max=side - 1))
    return x


def sample_blocks(pictures: Sequence[Pixels], stride: int, count: int, rng: torch.Generator) -> Tensor:
    """Sample about `count` blocks of pictures uint8 [H, W, C]: uint8 [m, C · S²] in the order of pixel_unshuffle.

    Each picture gives equally many, but no more than it has. If there are more than `count` pictures, a part of them
    gives one block each. Edges are repeated as the encoder repeats them.
    """
    each = max(1, math.ceil(count / len(pictures)))
    parts = []
    for picture in pictures[:: math.ceil(len(pictures) / count)]:
        rows, columns = (math.ceil(side / stride) for side in picture.shape[:2])
        for place in torch.randperm(rows * columns, generator=rng)[:each].tolist():
            top, left = place // columns * stride, place % columns * stride
            block = picture[top : top + stride, left : left + stride]
            missing = [(0, stride - side) for side in block.shape[:2]]
            parts.append(np.pad(block, (*missing, (0, 0)), mode="edge").transpose(2, 0, 1).reshape(-1))
    return torch.from_numpy(np.stack(parts))
