"""Objectives for grid codes: costs of crops and figures of whole pictures, in which repeated edges count for nothing.

x [n, C, H, W], inside [n, 1, H, W] ── encoder ──▶ z [n, h, w, K] ── decoder ──▶ x_hat [n, C, H, W]

Both sides of x are multiples of the stride. `inside` is 1 where a pixel belongs to a picture and 0 where the picture's
last row or column was repeated.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aekit.training.networks.blocks import BlockStatistics
from aekit.training.objectives.denoising import Denoising
from aekit.training.objectives.objective import Network, Objective
from aekit.training.objectives.plain import Plain
from aekit.training.objectives.rounding import clipped_mse_inside, errors_inside, repeat_edges

Figures = dict[str, float]
"""Validation figures by name, each a mean over pictures."""

_LEVEL_NOISE = 12**-0.5 / 255
"""Deviation of a pixel's rounding to 256 levels. Coefficients that deviate less say nothing of the picture."""


class GridObjective(Objective):
    """Base of the objectives for grid codes."""

    @property
    def dead_zone(self) -> float:
        """Steps by which the border between the codes 0 and ±1 lies beyond a half. The exported encoder rounds so."""
        return 0.0

    @property
    def last_share(self) -> float:
        """Share of a run at its end that trains in another way. The learning rate starts again there."""
        return 0.0

    def error_weights(self, network: Network) -> list[float]:
        """Return λ of each quality, or an empty list if training counts no bits.

        λ is the number of bits per pixel that training counts a mean squared error of 1 as, for levels of 0 to 255.
        """
        return []

    def finest(self, channels: int, start: BlockStatistics | None) -> float:
        """Return the least deviation, for pixels in [0, 1], that a latent of 1 stands for at first.

        Raises OptionError if the pictures' codes can't have what the options ask for.
        """
        return _LEVEL_NOISE

    def learned_of_blocks(self, code_dim: int, channels: int, start: BlockStatistics | None) -> nn.Module | None:
        """Make the module that the objective itself learns, or return None. See Objective.learned.

        Without `start` its numbers are placeholders until saved ones are loaded.
        """
        return None

    @abstractmethod
    def crop_loss(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the cost of crops, a scalar to minimise. See Objective.loss."""

    @abstractmethod
    def measure(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Return figures of held-out pictures by name, each [n]. `mse` is always among them."""

    def summary(self, network: Network, means: Figures) -> Figures:
        """Return the figures of a validation, given the means over pictures of what `measure` returned."""
        return means

    def steer_crops(self, network: Network, crops: Sequence[Tensor], places: float, share: float) -> None:
        """Adjust `network.learned` on batches of held-out crops, without gradients.

        Each place of a held-out picture is as likely to be in a crop as any other. `places` is the mean number of
        places of a picture's code; `share` is the share of the run that has passed since the last call.
        """


@dataclass(frozen=True)
class GridPlain(Plain, GridObjective):
    """cost = mean over pixels inside pictures of (x − x̂)²."""

    def crop_loss(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the mean squared error of crops."""
        return clipped_mse_inside(network.decode(network.encode(x)), x, inside)

    def measure(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Return `mse`."""
        return {"mse": errors_inside(network.decode(network.encode(x)), x, inside)}


@dataclass(frozen=True)
class GridDenoising(Denoising, GridObjective):
    """cost = mean squared error between clean crops and the reconstructions of noisy ones."""

    def crop_loss(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the mean squared error between clean crops and the reconstructions of their noisy copies."""
        return clipped_mse_inside(self._denoised(network, x, inside, rng), x, inside)

    def measure(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Return `mse` for clean inputs, and `denoised_mse` for noisy inputs compared with the clean pictures."""
        clean = network.decode(network.encode(x))
        denoised = self._denoised(network, x, inside, rng)
        return {"mse": errors_inside(clean, x, inside), "denoised_mse": errors_inside(denoised, x, inside)}

    def _denoised(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator) -> Tensor:
        # The encoder repeats the edges of a noisy picture, noise and all.
        return network.decode(network.encode(repeat_edges(self.corrupt(x, rng), inside)))
