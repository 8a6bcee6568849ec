"""What an objective is: the cost of a batch, and the maps it puts around a network's halves."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from aekit.training.networks import Autoencoder


class Objective(ABC):
    """An objective with the plain answer to everything but `loss`; the others answer what differs.

    A subclass is a frozen dataclass whose fields are the objective's options, each with a default.
    """

    criterion = "mse"
    """The figure of `validate` that picks the weights to keep; less is better."""

    @property
    def has_prior(self) -> bool:
        """Whether latents are pulled towards N(0, I), so that a draw from it decodes to a likely image."""
        return False

    @property
    def suggested_code_dim(self) -> int | None:
        """Numbers in a code that suit the objective's options, where neither user nor preset says; None: any."""
        return None

    def learned(self, code_dim: int, channels: int, deviations: Tensor | None) -> nn.Module | None:
        """What the objective itself learns, for a code of `code_dim` numbers of images with so many channels: trained,
        averaged and saved with the network as its `learned`, and left out of the graphs.

        `deviations`, [D], are those of the principal coefficients that a network starts with as its latents, in
        images with pixels in [0, 1], each coefficient divided by its deviation; None of others.
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

    def code_scale(self, network: "Autoencoder") -> Tensor | None:
        """Code units in a latent of 1, [D], where training rounded to them, with 0 at the middle code, 128; None
        leaves them to be calibrated on the range of the training images' latents."""
        return None

    def steer(self, network: "Autoencoder", x: Tensor, share: float) -> None:  # noqa: B027 - most have nothing to steer
        """Adjust, without gradients, what `learned` holds by held-out images [n, C, H, W]; `share` of the run has
        passed since the last time."""

    @abstractmethod
    def loss(self, network: "Autoencoder", x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """A scalar to minimise, for images [n, C, H, W] in [0, 1]; all chance comes from `rng`.

        `progress` is the share of the run that is done, 0 to 1.
        """

    def validate(self, network: "Autoencoder", x: Tensor, rng: torch.Generator) -> dict[str, float]:
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
