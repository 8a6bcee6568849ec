"""Plain autoencoding: the mean squared error over pixels (Rumelhart, Hinton & Williams 1986)."""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from aekit.training.networks import Autoencoder


class Plain:
    """cost = mean over images and pixels of (image − reconstruction)², pixels in [0, 1]."""

    def loss(self, network: Autoencoder, images: Tensor, rng: torch.Generator) -> Tensor:
        """The mean squared error of a batch [n, C, H, W]."""
        return mse_loss(network.decode(network.encode(images)), images)
