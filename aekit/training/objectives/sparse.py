"""Sparse autoencoding: a code with many units, of which few are active for any one image.

topk   z keeps the `active` largest positive outputs and sets the rest to 0: the k-sparse autoencoder (Makhzani & Frey
       2014)
kl     z is a sigmoid of the outputs, and the cost adds weight · Σ_j KL(target ‖ mean over the batch of z_j) (Lee et al.
       2008; Ng's lecture notes of 2011)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aekit.errors import OptionError
from aekit.training.objectives.objective import Network, Objective, clipped_mse

_PENALTIES = ("topk", "kl")
_ACTIVE = 0.1
"""Activation, 0 to 1, above which a sigmoid unit counts as active."""


@dataclass(frozen=True)
class Sparse(Objective):
    """cost = mean squared error of a reconstruction from few active units, plus the penalty for `kl`."""

    penalty: str = "topk"
    """How units are made inactive: topk or kl."""
    active: int = 32
    """topk: number of units that stay active for an image."""
    target: float = 0.05
    """kl: mean activation, 0 to 1, that each unit is pulled to."""
    weight: float = 1e-4
    """kl: factor on the penalty in the cost."""

    def __post_init__(self) -> None:
        if self.penalty not in _PENALTIES:
            raise OptionError("penalty", expected=" or ".join(_PENALTIES), found=repr(self.penalty))
        if self.active < 1 or not 0 < self.target < 1 or not 0 <= self.weight <= 1e3:
            raise OptionError(
                "active, target and weight",
                expected="at least 1, between 0 and 1, 0 to 1000",
                found=f"{self.active}, {self.target:g}, {self.weight:g}",
            )

    def encoder_outputs(self, code_dim: int) -> int:
        """Return one number for each unit. Raises OptionError if `active` is larger than the number of units."""
        if self.penalty == "topk" and self.active > code_dim:
            raise OptionError("active", expected=f"at most the code's {code_dim} units", found=str(self.active))
        return code_dim

    def latent(self, features: Tensor) -> Tensor:
        """Return the activations of the units, [n, D]. Most of them are 0 (topk) or near 0 (kl)."""
        if self.penalty == "kl":
            return features.sigmoid()
        # By index, not by a threshold: in bfloat16 many activations are equal, and a threshold would keep all of them.
        largest, places = features.relu().topk(self.active, dim=1)
        return torch.zeros_like(features).scatter(1, places, largest)

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the mean squared error; for kl, plus the penalty."""
        z = network.encode(x)
        cost = clipped_mse(network.decode(z), x)
        if self.penalty == "topk":
            return cost
        rate, target = z.mean(0).clamp(1e-6, 1 - 1e-6), self.target
        divergence = target * (target / rate).log() + (1 - target) * ((1 - target) / (1 - rate)).log()
        return cost + self.weight * divergence.sum()

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Return `mse`, `active` (mean number of active units per image) and `used` (share of the units that at least
        one of these images makes active)."""
        on = network.encode(x) > (_ACTIVE if self.penalty == "kl" else 0)
        used = float(on.any(0).float().mean())
        return {**super().validate(network, x, rng), "active": float(on.float().sum(1).mean()), "used": used}
