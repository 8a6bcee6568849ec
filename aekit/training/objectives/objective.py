"""What an objective is: the cost of a batch, and the maps it puts around a network's halves."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Network(Protocol):
    """What an objective asks of the network that it trains; aekit.training.networks.Autoencoder has it."""

    learned: nn.Module | None

    def encode(self, x: Tensor) -> Tensor:
        """Images [n, C, H, W] in [0, 1] to latents [n, D]."""

    def decode(self, z: Tensor) -> Tensor:
        """Latents [n, D] to images [n, C, H, W]."""

    def features(self, x: Tensor) -> Tensor:
        """Outputs of the encoder before the objective turns them into latents."""

    def outputs(self, z: Tensor) -> Tensor:
        """Outputs of the decoder before the objective turns them into images."""


class Objective(ABC):
    """Base of all objectives. Only `loss` has no default; a subclass overrides what differs.

    A subclass is a frozen dataclass. Its fields are the options of its entry in aekit.registry, with the same defaults.
    """

    @property
    def has_prior(self) -> bool:
        """Whether latents are pulled towards N(0, I), so that a draw from it decodes to a likely image."""
        return False

    @property
    def suggested_code_dim(self) -> int | None:
        """Numbers in a code that suit the options, used if neither user nor preset says; None if any number does."""
        return None

    @property
    def bytes_asked(self) -> float | None:
        """Mean bytes of a code that the options ask for; None if they ask for no size."""
        return None

    def learned(self, code_dim: int, channels: int, deviations: Tensor | None) -> nn.Module | None:
        """Make the module that the objective itself learns, or None.

        It is trained, averaged and saved with the network, as `network.learned`, and is left out of the graphs.
        `deviations`, shape [code_dim], are the standard deviations of the principal coefficients that the network
        starts from, for pixels in [0, 1]; None if the network does not start from PCA.
        """
        return None

    def encoder_outputs(self, code_dim: int) -> int:
        """Numbers the encoder gives an image, for a code of `code_dim`."""
        return code_dim

    def prepare(self, x: Tensor) -> Tensor:
        """Images [n, C, H, W] in [0, 1] to what the encoder takes; part of the exported encoder."""
        return x

    def latent(self, features: Tensor) -> Tensor:
        """The encoder's outputs to latents [n, D], without chance; part of the exported encoder."""
        return features

    def image(self, outputs: Tensor) -> Tensor:
        """The decoder's outputs to images; part of the exported decoder."""
        return outputs

    def code_scale(self, network: Network) -> Tensor | None:
        """Return the code units in a latent of 1, shape [code_dim], if training rounded latents to codes; code 128 is
        the latent 0. None means that export calibrates the units on the latents of the training images."""
        return None

    def steer(self, network: Network, x: Tensor, share: float) -> None:  # noqa: B027 - most have nothing to steer
        """Adjust `network.learned` on held-out images [n, C, H, W], without gradients.

        `share` is the share of the run that has passed since the last call.
        """

    @abstractmethod
    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """A scalar to minimise, for images [n, C, H, W] in [0, 1]; all chance comes from `rng`.

        `progress` is the share of the run that is done, 0 to 1.
        """

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Figures on held-out images, each a mean over them; `mse` of the reconstruction, clipped, is among them."""
        return {"mse": float(clipped_mse(network.decode(network.encode(x)), x))}


def clipped_mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of x_hat clipped to [0, 1], as the exported graph clips it.

    The gradient is that of the clipped error too, passed straight through the clip: no pull where clipping already
    makes the pixel right, and the full pull everywhere else.
    """
    error: Tensor = _ClippedError.apply(x_hat, x)
    return error


class _ClippedError(torch.autograd.Function):
    """Written out, because as torch's own operations it would go over the pixels seven times instead of four."""

    @staticmethod
    def forward(ctx: Any, x_hat: Tensor, x: Tensor) -> Tensor:
        difference = x_hat.float().clamp(0, 1).sub_(x)
        ctx.save_for_backward(difference)
        ctx.dtype = x_hat.dtype
        flat = difference.flatten()
        return flat.dot(flat) / flat.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return (difference * (gradients[0] * (2 / difference.numel()))).to(ctx.dtype), None
