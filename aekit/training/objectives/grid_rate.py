"""Rate and distortion of grid codes. objectives/rate.py explains the cost and λ.

Two things differ from vector codes:

- The exported encoder rounds a wider range of latents to zero. The decoder and the probabilities learn that in the last
  part of a run, while the encoder stays as it is.
- No channel begins with a step so fine that its codes would not fit a byte.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aekit.errors import OptionError
from aekit.spec import MAX_QUALITIES
from aekit.training.networks.blocks import BlockStatistics, deviations_of
from aekit.training.objectives.grid import Figures, GridObjective
from aekit.training.objectives.latents import LEVELS, LatentModel, model_of, within_levels
from aekit.training.objectives.objective import Network
from aekit.training.objectives.rate import OVER, Rate, slope_of, step_of_size
from aekit.training.objectives.rounding import (
    DEAD_ZONE,
    LAST_SHARE,
    bits_per_pixel,
    clipped_mse_inside,
    errors_inside,
    round_with_dead_zone,
    straight_through,
)

_LAMBDA = 5e-3
"""Default of λ if neither λ nor a size is given."""
_SPREAD = 5.0
"""Ratio of λ at the highest quality to λ in the middle. The ratio of the middle to the lowest quality is the same."""
BALANCE = 0.1
"""Exponent b: the cost of a quality is divided by λ^b. Costs grow about as λ^0.55. A smaller b gives more weight to the
highest qualities, which lose most against a model of one quality.

Change of bits against models of one quality, on test pictures of blood cells, one run each:

    b      lowest   middle   highest quality
    0.4    −4.0 %   −3.7 %   +7.6 %
    0.2    −0.3 %   −2.9 %   +5.6 %
    0.1    +1.4 %   −2.3 %   +4.6 %
"""
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

    def _check_qualities(self) -> None:
        if not 1 <= self.qualities <= MAX_QUALITIES:
            raise OptionError("qualities", expected=f"1 to {MAX_QUALITIES}", found=str(self.qualities)[:80])
        if self.qualities > 1 and self.bytes:
            fix = "leave --bytes out: `aekit compress --bytes` chooses a quality for each picture"
            raise OptionError("bytes and qualities", expected="one of them", found="both", fix=fix)

    def weights(self) -> list[float]:
        """Return λ of each quality, the lowest first."""
        middle = self.lambda_ or _LAMBDA
        return [middle * _SPREAD ** (2 * place - 1) for place in np.linspace(0, 1, self.qualities)]

    @property
    def last_share(self) -> float:
        """Share of a run at its end in which the encoder is fixed."""
        return LAST_SHARE

    def error_weights(self, network: Network) -> list[float]:
        """Return λ of each quality, the lowest first."""
        weights: list[float] = model_of(network).log_lambda.exp().reshape(-1).tolist()
        return weights

    def finest(self, channels: int, start: BlockStatistics | None) -> float:
        """Return the step that is best for λ, or about right for the size that is asked for, for pixels in [0, 1].

        With qualities it is the finest of their steps. Raises OptionError if a code of the pictures can't be as large
        as asked.
        """
        if self.qualities > 1:
            return math.sqrt(slope_of(channels) / self.weights()[-1])
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
        if self.qualities > 1:
            weights = self.weights()
            rows = [self._scale(code_dim, start, finest, math.sqrt(slope_of(channels) / each)) for each in weights]
            return LatentModel(torch.stack(rows), weights)
        return LatentModel(self._scale(code_dim, start, finest, finest), slope_of(channels) / finest**2)

    def _scale(self, code_dim: int, start: BlockStatistics | None, finest: float, step: float) -> Tensor:
        """Return the first number of steps in a latent of 1, [K], for steps of this size, pixels in [0, 1].

        A latent of 1 stands for `finest` at least.
        """
        if start is None:
            return torch.ones(code_dim)
        deviations = deviations_of(start.pca, code_dim, finest)
        scale, found = deviations / step, len(start.largest)
        furthest = start.largest.clamp(min=1e-12) / deviations[:found]  # of latents, as they are at first
        scale[:found] = torch.minimum(scale[:found], (LEVELS // 2 - 1) / (_MARGIN * furthest))
        return scale

    def crop_loss(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the cost of crops: bits of the noisy latent, error of the rounded one.

        In the last part of a run the encoder is fixed. Bits and error are then measured on codes that are rounded as
        the exported encoder rounds them.

        With qualities, the crops of a batch have as many different qualities as possible.
        """
        model = model_of(network)
        quality = self._mixed(len(x), rng)
        latents = model.of(quality)
        is_fixed = progress >= 1 - self.last_share
        scale = latents.scale.detach() if is_fixed else latents.scale
        with torch.set_grad_enabled(not is_fixed):
            steps = within_levels(network.features(x, quality) * scale)
        if is_fixed:
            coded = rounded = round_with_dead_zone(steps, self.dead_zone)
        else:
            rounded = straight_through(steps, steps.round())
            coded = steps + torch.rand(steps.shape, generator=rng).to(steps.device) - 0.5
        lambda_ = latents.log_lambda.exp()
        x_hat = network.decode(rounded / scale if quality is None else rounded * latents.size, quality)
        if quality is None:
            rate = bits_per_pixel(latents.bits(coded), inside)
            return rate + lambda_ * 255**2 * clipped_mse_inside(x_hat, x, inside)
        balance = self._balance(latents.log_lambda)
        bits = (latents.bits_of_each(coded).sum((1, 2, 3)) * balance).sum() / inside.sum()
        return bits + 255**2 * clipped_mse_inside(x_hat, x, inside, lambda_ * balance)

    def _mixed(self, count: int, rng: torch.Generator) -> Tensor | None:
        """Return a quality for each of `count` crops, int64, as evenly as possible; None for a model of one quality."""
        if self.qualities == 1:
            return None
        first = int(torch.randint(self.qualities, (1,), generator=rng))
        return 1 + (first + torch.randperm(max(count, self.qualities), generator=rng)[:count]) % self.qualities

    def _balance(self, log_lambda: Tensor) -> Tensor:
        """Return the factor on the cost of each crop, [n]. Without it the highest quality would outweigh the others."""
        return (-BALANCE * (log_lambda - math.log(self.lambda_ or _LAMBDA))).exp()

    def measure(self, network: Network, x: Tensor, inside: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Return figures of codes rounded as the exported encoder rounds: `mse`, `bytes` and `bits_per_pixel`.

        With qualities, each picture has one of them by chance, and `cost` is its cost.
        """
        quality = self._mixed(len(x), rng)
        latents = model_of(network).of(quality)
        rounded = round_with_dead_zone(latents.steps(network.features(x, quality)), self.dead_zone)
        bits = latents.bits_of_each(rounded).sum((1, 2, 3))
        error = errors_inside(network.decode(rounded * latents.size, quality), x, inside)
        figures = {"mse": error, "bytes": bits / 8, "bits_per_pixel": bits / inside.sum((1, 2, 3))}
        if quality is not None:
            cost = figures["bits_per_pixel"] + latents.log_lambda.exp() * 255**2 * error
            figures["cost"] = cost * self._balance(latents.log_lambda)
        return figures

    def summary(self, network: Network, means: Figures) -> Figures:
        """Add `loss` and `lambda` to the figures.

        `loss` ranks weights: it is the cost or, if a size is requested, the error with a penalty for codes that are
        too large. With qualities it is `cost`, in which all of them weigh alike.
        """
        if "cost" in means:
            return {"loss" if name == "cost" else name: value for name, value in means.items()}
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
