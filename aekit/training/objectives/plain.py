"""Plain autoencoding: the mean squared error over pixels (Rumelhart, Hinton & Williams 1986)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aekit.training.objectives.objective import Network, Objective, clipped_mse


@dataclass(frozen=True)
class Plain(Objective):
    """cost = mean over images and pixels of (x − x̂)², pixels in [0, 1]."""

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the mean squared error of a batch."""
        return clipped_mse(network.decode(network.encode(x)), x)
