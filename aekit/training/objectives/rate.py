"""Rate and distortion: the fewest bits for an error, or the least error for a size (Ballé et al. 2017, 2018).

    cost = bits per pixel + λ · 255² · mean squared error,  pixels in [0, 1]

The latent is rounded to a grid, and each rounded number costs −log2 of its probability. The grid, the probabilities and
λ are a LatentModel (objectives/latents.py), which is learned with the network.

Rounding has no gradient, so training replaces it in two ways. The bits are computed for the latent with uniform noise
of one step's width; the noisy latent's density at a grid point equals the rounded latent's probability (Ballé et al.
2017). The decoder gets the rounded latent, and the gradient passes straight through the rounding (Minnen & Singh 2020).

Export keeps the grid: one step is one code. A network that starts as PCA starts as transform coding: it codes principal
coefficients, all with the step that is best for λ.

If the user asks for a size, λ is the multiplier of a constraint (dual ascent). λ rises while held-out images take fewer
bytes than asked for, and falls while they take more.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aekit.errors import OptionError
from aekit.spec import MAX_CODE_DIM
from aekit.training.objectives.latents import LatentModel, model_of
from aekit.training.objectives.objective import Network, Objective, clipped_mse

_STEPS = 4.0
"""Initial number of grid steps in a latent of 1, for a network that starts from random weights."""
_FEWEST_STEPS = 0.25
"""Least initial number of grid steps in a latent of 1. With fewer, all latents of a dimension would round to 0, and the
dimension would learn nothing."""
_LAMBDA = 5e-4
"""Default of λ if neither λ nor a size is given. Digits of 28×28 pixels then take about 13 bytes."""
_NUMBERS = 3.0
"""Suggested numbers in a code for each byte asked for. With twice as many, codes became a tenth larger at the same
error: numbers that round to few values cost more during training than they improve."""
_AIM = 0.99
"""Share of the requested size that steering aims at. New images and the coder's tables take up to 1 % more."""
_STEER = 40.0
"""Speed of steering. If the size is wrong by the factor f, λ changes by f**(_STEER · s) over the share s of a run."""
_MOST_CHANGE = 0.1
"""Largest change of log λ in one call of `steer`."""
_PRIORS = ("tables", "context")
MOST_BYTES = 2**24
"""Largest size of a code that may be asked for, in bytes."""
OVER = 4
"""Penalty on weights whose codes are too large: a size f times the requested one multiplies the error by f**OVER."""


@dataclass(frozen=True)
class Rate(Objective):
    """cost = bits per pixel + λ · 255² · mean squared error.

    The bits are those of an entropy coder that has one table for each number of the code, or a context model.
    """

    lambda_: float = 0.0
    """λ: bits per pixel that an error of 1 is worth, as a mean of squared levels of 0 to 255. 0 means 0.0005, or, with
    `bytes`, the λ that reaches the size."""
    bytes: float = 0.0
    """Mean bytes that a code should take; training finds the λ that reaches them. 0 asks for no size."""
    prior: str = "tables"
    """What training expects of the entropy coder of vector codes: a table for each number (`tables`), or a context
    model (`context`). Runs of earlier versions have tables."""
    qualities: int = 1
    """Number of qualities of a model of grid codes, 1 to MAX_QUALITIES (aekit.spec)."""

    def __post_init__(self) -> None:
        if self.lambda_ and self.bytes:
            raise OptionError("lambda and bytes", expected="one of them", found=f"{self.lambda_:g} and {self.bytes:g}")
        if self.lambda_ and not 1e-8 <= self.lambda_ <= 10:
            raise OptionError("lambda", expected="1e-08 to 10, such as 0.0005", found=f"{self.lambda_:g}")
        if self.bytes and not 0.1 <= self.bytes <= MOST_BYTES:
            raise OptionError("bytes", expected=f"0.1 to {MOST_BYTES:,} per image", found=f"{self.bytes:g}")
        if self.prior not in _PRIORS:
            raise OptionError("prior", expected=" or ".join(_PRIORS), found=repr(self.prior)[:80])
        self._check_qualities()

    def _check_qualities(self) -> None:
        if self.qualities != 1:
            fix = "leave --qualities out, or train with --network grid"
            raise OptionError("qualities", expected="1 for vector codes", found=str(self.qualities), fix=fix)

    @property
    def suggested_code_dim(self) -> int | None:
        """Numbers in a code for the requested size, about two to four bits each; None if no size is requested."""
        return min(max(4, math.ceil(_NUMBERS * self.bytes)), MAX_CODE_DIM) if self.bytes else None

    @property
    def bytes_asked(self) -> float | None:
        """The option `bytes`, or None if it is not given."""
        return self.bytes or None

    @property
    def quality_count(self) -> int:
        """The option `qualities`."""
        return self.qualities

    def learned(self, code_dim: int, channels: int, deviations: Tensor | None) -> LatentModel:
        """Make the model of the latents. Raises OptionError if codes of this size can't take the requested bytes."""
        if self.bytes > code_dim / 2:
            raise OptionError(
                "bytes", expected=f"at most half a byte per number, {code_dim / 2:g}", found=f"{self.bytes:g}",
                fix="give a larger --code-dim",
            )  # fmt: skip
        weight = self.lambda_ or _LAMBDA
        make: type[LatentModel] = LatentModel
        if self.prior == "context":
            from aekit.training.objectives.vector_prior import VectorPrior

            make = VectorPrior
        if deviations is None:
            return make(torch.full((code_dim,), _STEPS), weight)
        # A step Δ adds Δ²/12 to the squared error of a coefficient and log2(1/Δ) to its bits. At the best step the
        # derivatives of the two parts of the cost cancel: λ · 255² · Δ²/6 = channels · log2(e).
        slope = slope_of(channels)
        step = step_of_size(8 * self.bytes, deviations) if self.bytes else math.sqrt(slope / weight)
        return make((deviations / step).clamp(min=_FEWEST_STEPS), slope / step**2)

    def code_scale(self, network: Network) -> Tensor:
        """Return the number of grid steps in a latent of 1, [D]: one step is one code unit."""
        return model_of(network).scale.detach()

    def code_size(self, network: Network) -> Tensor | None:
        """Return the latents that code units become, [Q, D], for a model of several qualities."""
        model = model_of(network)
        return None if model.log_size is None else model.size.detach()

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the cost of a batch: bits of the noisy latent, error of the rounded latent."""
        model = model_of(network)
        steps = model.steps(network.features(x))
        noise = torch.rand(steps.shape, generator=rng).to(steps.device) - 0.5
        rounded = steps + (steps.round() - steps).detach()
        error = clipped_mse(network.decode(rounded / model.scale), x)
        return _cost(model, model.bits(steps + noise), error, x)

    def steer(self, network: Network, x: Tensor, share: float) -> None:
        """Adjust λ by the size of the codes of held-out images, if a size is requested.

        `share` is the share of the run that has passed since the last call.
        """
        if not self.bytes:
            return
        model = model_of(network)
        self.move_lambda(model, model.bits(model.steps(network.features(x)).round()), share)

    def move_lambda(self, model: LatentModel, bits: Tensor, share: float) -> None:
        """Move λ towards the requested size. `bits` are the mean bits of held-out images now, a scalar."""
        target_bits = 8 * _AIM * self.bytes
        change = _STEER * share * (target_bits / bits.clamp(min=target_bits / 8)).log()
        model.log_lambda.add_(change.clamp(-_MOST_CHANGE, _MOST_CHANGE))

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Return figures of the rounded latents, as means over images.

        `mse` is their error, `bytes` the size of a code, `lambda` is λ. `loss` ranks weights: it is the cost or, if a
        size is requested, the error with a penalty for codes that are too large.
        """
        model = model_of(network)
        steps = model.steps(network.features(x))
        rounded = steps.round()
        error, bits = clipped_mse(network.decode(rounded / model.scale), x), model.bits(rounded)
        loss = _cost(model, bits, error, x)
        if self.bytes:
            loss = error * (bits / (8 * self.bytes)).clamp(min=1) ** OVER
        figures = {"mse": float(error), "bytes": float(bits) / 8, "loss": float(loss)}
        return {**figures, "lambda": float(model.log_lambda.exp())}


def slope_of(channels: int) -> float:
    """Return λ times the square of the step that is best for it, for pixels in [0, 1] of so many channels."""
    return 6 * channels * math.log2(math.e) / 255**2


def step_of_size(bits: float, deviations: Tensor) -> float:
    """Return the step, approximately, at which independent Gaussians with these deviations, [D], take `bits` bits."""
    steps = torch.logspace(-4, 4, 801, dtype=torch.float64)[:, None]
    # The bits of one Gaussian: log2(deviation / step · √(2πe)) for fine steps, falling to 0 for coarse steps.
    sizes = (1 + 2 * math.pi * math.e * (deviations / steps).square()).log2().sum(1) / 2
    return float(steps[(sizes - bits).abs().argmin()])


def _cost(model: LatentModel, bits: Tensor, error: Tensor, x: Tensor) -> Tensor:
    return bits / x[0, 0].numel() + model.log_lambda.exp() * 255**2 * error
