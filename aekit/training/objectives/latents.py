"""The learned model of latents that `rate` trains with the network: their grid, the probabilities of its points, and λ.

The latent is rounded to a grid. Each dimension has its own step. Each rounded number costs −log2 of its probability.
A mixture of logistics gives the probability (Salimans et al. 2017 use it for pixels).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from aekit.training.objectives.objective import Network

_COMPONENTS = 3
"""Number of logistics in the mixture of each dimension."""
LEVELS = 256
"""Number of values of a code. Latents outside the range are clipped, in training and in the exported graph."""
_RARE = 2.0**-30
"""Least probability that the cost uses. Smaller ones are lost in the difference of two float32 sigmoids."""


@dataclass(frozen=True)
class Latents:
    """The grid that latents [n, …, D] are rounded to, the probabilities of its points, and λ.

    Each field broadcasts to the latents. Fields with a number for each logistic have one more dimension.
    """

    scale: Tensor
    """Number of grid steps in a latent of 1: [D], or [n, 1, 1, D] if the pictures of a batch differ in quality."""
    size: Tensor
    """Latent that a step becomes for the decoder: 1 / scale, or a learned number for a model of several qualities."""
    shares: Tensor
    means: Tensor
    log_widths: Tensor
    log_lambda: Tensor
    """A scalar, or [n]."""

    def steps(self, z: Tensor) -> Tensor:
        """Convert latents to grid steps, not rounded, clipped to the range of a code."""
        return within_levels(z * self.scale)

    def bits(self, steps: Tensor) -> Tensor:
        """Return the mean bits per image of latents in grid steps, a scalar."""
        return self.bits_of_each(steps).sum() / len(steps)

    def bits_of_each(self, steps: Tensor) -> Tensor:
        """Return the bits of each number of latents […, D] in grid steps, […, D].

        The probability of a number is the mixture's mass in the interval of one step around it.
        """
        return mixture_bits(steps, self.shares, self.means, self.log_widths)


def mixture_bits(steps: Tensor, shares: Tensor, means: Tensor, log_widths: Tensor) -> Tensor:
    """Return the bits of numbers […, D] under mixtures of logistics. Parameters broadcast to […, D, components]."""
    # Both tails of a logistic are alike; floats are more precise in the lower one.
    away = (steps.unsqueeze(-1) - means).abs()
    narrow = (-log_widths).exp()
    interval = ((0.5 - away) * narrow).sigmoid() - ((-0.5 - away) * narrow).sigmoid()
    probability = (interval * shares.softmax(-1)).sum(-1)
    return -probability.clamp(min=_RARE).log2()


class LatentModel(nn.Module):
    """The learned part of the cost: grid, probabilities and λ. With qualities, each has one row for every quality."""

    def __init__(self, scale: Tensor, weight: float | Sequence[float]) -> None:
        """Start with `scale` [D], or [Q, D] for Q qualities, and the value of λ, which is [Q] with qualities."""
        super().__init__()
        self.log_scale = nn.Parameter(scale.log())
        # At a low quality, many latents near zero become zero. The mean latent of a step is then not its middle.
        self.log_size = nn.Parameter(-scale.log()) if scale.ndim > 1 else None
        self.shares = nn.Parameter(torch.zeros(*scale.shape, _COMPONENTS))
        self.means = nn.Parameter(scale[..., None] * torch.linspace(-1, 1, _COMPONENTS))
        self.log_widths = nn.Parameter((scale[..., None] / 2).log().repeat_interleave(_COMPONENTS, -1))
        # λ is a parameter so that it is averaged and saved with the others. It needs no gradient: steer moves it.
        self.log_lambda = nn.Parameter(torch.as_tensor(np.log(weight), dtype=torch.float32), requires_grad=False)

    @property
    def scale(self) -> Tensor:
        """Number of grid steps in a latent of 1, [D] or [Q, D]."""
        return self.log_scale.exp()

    @property
    def size(self) -> Tensor:
        """Latent that a step becomes for the decoder, [D] or [Q, D]."""
        return 1 / self.scale if self.log_size is None else self.log_size.exp()

    def of(self, quality: Tensor | None = None) -> Latents:
        """Return the model of latents of a batch.

        `quality` int64 [n], 1 or more, is the quality of each picture in a batch; None for a model of one quality.
        """
        rows = (self.scale, self.size, self.shares, self.means, self.log_widths)
        if quality is None:
            return Latents(*rows, self.log_lambda)
        scale, size, shares, means, widths = (row[quality - 1][:, None, None] for row in rows)
        return Latents(scale, size, shares, means, widths, self.log_lambda[quality - 1])

    def steps(self, z: Tensor) -> Tensor:
        """Convert latents [n, D] to grid steps, not rounded, clipped to the range of a code."""
        return self.of().steps(z)

    def bits(self, steps: Tensor) -> Tensor:
        """Return the mean bits per image of latents [n, D] in grid steps, a scalar."""
        return self.of().bits(steps)

    def bits_of_each(self, steps: Tensor) -> Tensor:
        """Return the bits of each number of latents […, D] in grid steps, […, D]."""
        return self.of().bits_of_each(steps)


def within_levels(steps: Tensor) -> Tensor:
    """Clip latents in grid steps to the range of a code."""
    return steps.clamp(-LEVELS // 2, LEVELS // 2 - 1)


def model_of(network: Network) -> LatentModel:
    """Return the network's model of latents."""
    return cast(LatentModel, network.learned)
