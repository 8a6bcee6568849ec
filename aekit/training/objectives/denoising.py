"""Denoising: remove noise from images (Vincent, Larochelle, Bengio & Manzagol 2008; Vincent et al. 2010)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aekit.errors import OptionError, unknown_value
from aekit.training.augment import warp
from aekit.training.objectives.objective import Network, Objective, clipped_mse

_NOISES = ("gaussian", "masking", "salt-and-pepper", "warp")


@dataclass(frozen=True)
class Denoising(Objective):
    """cost = mean squared error between the clean image and the reconstruction of a noisy one.

    x̃ = x + strength · N(0, 1), clipped to [0, 1]     gaussian
    x̃ = x with a share `strength` of pixels at 0       masking
    x̃ = x with a share `strength` of pixels at 0 or 1  salt-and-pepper
    x̃ = x sheared, scaled and shifted a little         warp; `strength` 1 warps as much as augmentation does
    """

    noise: str = "gaussian"
    """Kind of noise: gaussian, masking, salt-and-pepper or warp."""
    strength: float = 0.5
    """Standard deviation (gaussian), share of pixels (masking, salt-and-pepper), or factor on the size of a warp."""

    def __post_init__(self) -> None:
        if self.noise not in _NOISES:
            raise unknown_value("noise", self.noise, _NOISES)
        if not 0 < self.strength <= (10 if self.noise in ("gaussian", "warp") else 1):
            raise OptionError(
                "strength", expected="a standard deviation, or a share of pixels up to 1", found=str(self.strength)
            )

    def corrupt(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Return a noisy copy of images [n, C, H, W]. All colour channels of a pixel are masked together."""
        if self.noise == "warp":
            return warp(x.clone(), 1.0, rng, self.strength)
        if self.noise == "gaussian":
            noise = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x.device)
            return (x + self.strength * noise).clamp_(0, 1)
        hit = (torch.rand((len(x), 1, *x.shape[2:]), generator=rng) < self.strength).to(x.device)
        if self.noise == "masking":
            return x.masked_fill(hit, 0)
        pepper = (torch.rand(hit.shape, generator=rng) < 0.5).to(x.device)
        return torch.where(hit, pepper.to(x.dtype), x)

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the mean squared error between clean images and the reconstructions of their noisy copies."""
        return clipped_mse(network.decode(network.encode(self.corrupt(x, rng))), x)

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Return `mse` for clean inputs, and `denoised_mse` for noisy inputs compared with the clean images."""
        denoised = network.decode(network.encode(self.corrupt(x, rng)))
        return {**super().validate(network, x, rng), "denoised_mse": float(clipped_mse(denoised, x))}
