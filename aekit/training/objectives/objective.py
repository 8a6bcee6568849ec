"""The base class of objectives: the cost of a batch, and the maps around a network's encoder and decoder."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Network(Protocol):
    """The interface that an objective needs of a network. aekit.training.networks.Autoencoder implements it."""

    learned: nn.Module | None

    def encode(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map images [n, C, H, W] in [0, 1] to latents [n, D]."""

    def decode(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map latents [n, D] to images [n, C, H, W]."""

    def features(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return the encoder's outputs before the objective turns them into latents."""

    def outputs(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return the decoder's outputs before the objective turns them into images."""


class Objective(ABC):
    """Base of all objectives. A subclass must define `loss` and may override the rest.

    A subclass is a frozen dataclass. Its fields are the options of its entry in aekit.registry, with the same defaults.
    """

    @property
    def has_prior(self) -> bool:
        """Whether training pulls latents towards N(0, I), so that a random draw decodes to a likely image."""
        return False

    @property
    def suggested_code_dim(self) -> int | None:
        """Numbers in a code that suit the options, used if neither the user nor the preset sets code_dim; None if the
        options do not suggest any."""
        return None

    @property
    def bytes_asked(self) -> float | None:
        """Mean bytes of a code that the options ask for; None if they ask for no size."""
        return None

    @property
    def quality_count(self) -> int:
        """Number of qualities of the model."""
        return 1

    def learned(self, code_dim: int, channels: int, deviations: Tensor | None) -> nn.Module | None:
        """Make the module that the objective itself learns, or return None.

        It becomes `network.learned`. It is trained, averaged and saved with the network, but not exported.
        `deviations`, shape [code_dim], are the standard deviations of the principal coefficients that the network
        starts from, for pixels in [0, 1]; None if the network does not start from PCA.
        """
        return None

    def encoder_outputs(self, code_dim: int) -> int:
        """Return how many numbers the encoder returns for each image, given the size of the code.

        Raises OptionError if the options do not allow this size.
        """
        return code_dim

    def prepare(self, x: Tensor) -> Tensor:
        """Map images [n, C, H, W] in [0, 1] to the encoder's inputs. Part of the exported encoder."""
        return x

    def latent(self, features: Tensor) -> Tensor:
        """Map the encoder's outputs to latents [n, D], without chance. Part of the exported encoder."""
        return features

    def image(self, outputs: Tensor) -> Tensor:
        """Map the decoder's outputs to images [n, C, H, W]. Part of the exported decoder."""
        return outputs

    def code_scale(self, network: Network) -> Tensor | None:
        """Return the number of code units in a latent of 1, shape [code_dim], if training rounded latents to codes.

        The latent 0 is then the code 128. None means that export calibrates the units on the training images.
        """
        return None

    def code_size(self, network: Network) -> Tensor | None:
        """Return the latent that a code unit becomes for the decoder, [Q, code_dim], if training learned it by itself.

        None means the inverse of `code_scale`.
        """
        return None

    def steer(self, network: Network, x: Tensor, share: float) -> None:  # noqa: B027 - most have nothing to steer
        """Adjust `network.learned` on held-out images [n, C, H, W], without gradients.

        `share` is the share of the run that has passed since the last call.
        """

    @abstractmethod
    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the cost of images [n, C, H, W] in [0, 1], a scalar to minimise.

        All chance comes from `rng`. `progress` is the share of the run that is done, 0 to 1.
        """

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Return figures on held-out images [n, C, H, W], each a mean over them, by name.

        `mse`, of the reconstruction clipped to [0, 1], is always among them.
        """
        return {"mse": float(clipped_mse(network.decode(network.encode(x)), x))}


def clipped_mse(x_hat: Tensor, x: Tensor) -> Tensor:
    """Return the mean squared error of x_hat clipped to [0, 1], as the exported graph clips it.

    The gradient is computed from the clipped error and passed straight through the clip. It is zero where clipping
    makes the pixel right, and it does not vanish at other clipped pixels.
    """
    error: Tensor = _ClippedError.apply(x_hat, x)
    return error


class _ClippedError(torch.autograd.Function):
    """The function of clipped_mse. It passes over the pixels four times; torch's own operations would do so seven
    times."""

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
