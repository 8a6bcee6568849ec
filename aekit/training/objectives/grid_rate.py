"""Rate and distortion of grid codes. objectives/rate.py explains the cost, the latents' probabilities and λ.

Three things differ from vector codes:

- The last part of a run counts the bits of rounded latents. A channel that mostly rounds to zero then costs what it
  will cost in an archive.
- In that part, and in the exported encoder, a wider range of latents rounds to zero.
- No channel begins with a step so fine that its codes would not fit a byte.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aekit.errors import OptionError
from aekit.training.networks.blocks import BlockStatistics, deviations_of
from aekit.training.objectives.grid import Figures, GridObjective
from aekit.training.objectives.objective import Network
from aekit.training.objectives.rate import (
    LEVELS,
    OVER,
    LatentModel,
    Rate,
    model_of,
    slope_of,
    step_of_size,
    within_levels,
)
from aekit.training.objectives.rounding import (
    DEAD_ZONE,
    ROUNDED_SHARE,
    bits_per_pixel,
    clipped_mse_inside,
    errors_inside,
    round_with_dead_zone,
    straight_through,
)

_LAMBDA = 5e-3
"""Default of λ if neither λ nor a size is given."""
_MARGIN = 1.25
"""Factor by which a coefficient may exceed the largest one that was seen before its code leaves the range."""


@dataclass(frozen=True)
class GridRate(Rate, GridObjective):
    """cost = bits per pixel + λ · 255² · mean squared error, over the pixels inside pictures.

    The bits are those of an entropy coder that has one table for each channel of the code.
    """

    @property
    def suggested_code_dim(self) -> int | None:
        """None: the layout gives the channels of a code, whatever size is asked for."""
        return None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior != "tables":
            expected, fix = "tables for grid codes, whose context model export fits", "leave it out"
            raise OptionError("prior", expected=expected, found=self.prior, fix=fix)

    @property
    def dead_zone(self) -> float:
        """Steps by which the border between the codes 0 and ±1 lies beyond a half."""
        return DEAD_ZONE

    def error_weight(self, network: Network) -> float:
        """Return λ."""
        return float(model_of(network).log_lambda.exp())

    def finest(self, channels: int, start: BlockStatistics | None) -> float:
        """Return the step that is best for λ, or about right for the size that is asked for, for pixels in [0, 1].

        Raises OptionError if a code of the pictures can't be as large as asked.
        """
        if not self.bytes or start is None:
            return math.sqrt(slope_of(channels) / (self.lambda_ or _LAMBDA))
        numbers = start.places * len(start.pca.scales)
        if self.bytes > numbers / 2:
            raise OptionError(
                "bytes", expected=f"at most half a byte per number of a mean code, {numbers / 2:,.0f}",
                found=f"{self.bytes:g}", fix="ask for fewer bytes",
            )  # fmt: skip
        return step_of_size(8 * self.bytes / start.places, torch.from_numpy(start.pca.scales))

    def learned_of_blocks(self, code_dim: int, channels: int, start: BlockStatistics | None) -> LatentModel:
        """Make the model of the latents."""
        finest = self.finest(channels, start)
        weight = slope_of(channels) / finest**2
        if start is None:
            return LatentModel(torch.ones(code_dim), weight)
        deviations = deviations_of(start.pca, code_dim, finest)
        scale, found = deviations / finest, len(start.largest)
        furthest = start.largest.clamp(min=1e-12) / deviations[:found]  # of latents, as they are at first
        scale[:found] = torch.minimum(scale[:found], (LEVELS // 2 - 1) / (_MARGIN * furthest))
        return LatentModel(scale, weight)

    def crop_loss(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the cost of crops: bits of the noisy latent, or later of the rounded one; error of the rounded one.

        While bits are counted of rounded latents, the steps keep their size. The bits of a latent that rounds to zero
        hardly depend on it then, and the steps would become finer than is best.
        """
        model = model_of(network)
        is_rounded = progress > 1 - ROUNDED_SHARE
        scale = model.scale.detach() if is_rounded else model.scale
        steps = within_levels(network.features(x) * scale)
        if is_rounded:
            coded = rounded = straight_through(steps, round_with_dead_zone(steps, self.dead_zone))
        else:
            rounded = straight_through(steps, steps.round())
            coded = steps + torch.rand(steps.shape, generator=rng).to(steps.device) - 0.5
        error = clipped_mse_inside(network.decode(rounded / scale), x, inside)
        rate = bits_per_pixel(model.bits(coded), inside)
        return rate + model.log_lambda.exp() * 255**2 * error

    def measure(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Return figures of codes rounded as the exported encoder rounds: `mse`, `bytes` and `bits_per_pixel`."""
        model = model_of(network)
        rounded = round_with_dead_zone(model.steps(network.features(x)), self.dead_zone)
        bits = model.bits_of_each(rounded).sum((1, 2, 3))
        error = errors_inside(network.decode(rounded / model.scale), x, inside)
        return {"mse": error, "bytes": bits / 8, "bits_per_pixel": bits / inside.sum((1, 2, 3))}

    def summary(self, network: Network, means: Figures) -> Figures:
        """Add `loss` and `lambda` to the figures.

        `loss` ranks weights: it is the cost or, if a size is requested, the error with a penalty for codes that are
        too large.
        """
        weight = float(model_of(network).log_lambda.exp())
        loss = means["bits_per_pixel"] + weight * 255**2 * means["mse"]
        if self.bytes:
            loss = means["mse"] * max(means["bytes"] / self.bytes, 1.0) ** OVER
        return {**means, "loss": loss, "lambda": weight}

    def steer_crops(self, network: Network, crops: Sequence[Tensor], places: float, share: float) -> None:
        """Adjust λ by the size of the codes of held-out pictures, if a size is requested."""
        if not self.bytes:
            return
        model, bits, seen = model_of(network), 0.0, 0
        for x in crops:
            rounded = round_with_dead_zone(model.steps(network.features(x)), self.dead_zone)
            bits += float(model.bits(rounded)) * len(rounded)
            seen += rounded[..., 0].numel()
        self.move_lambda(model, torch.tensor(bits / seen * places, device=model.log_lambda.device), share)
