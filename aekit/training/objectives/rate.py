"""Rate and distortion: the fewest bits for an error, or the least error for a size (Ballé et al. 2017, 2018).

    cost = bits a pixel + λ · 255² · mean squared error,  pixels in [0, 1]

The latent is rounded to a grid, a step of its own for each dimension, and each of its numbers costs −log2 of its
probability, which a mixture of logistics gives (as in Salimans et al. 2017, for latents) that is learned with the
network. Rounding has no gradient. So the bits are those of the latent with uniform noise of a step's width, whose
density at the grid's points is the rounded latent's probability (Ballé et al. 2017), and the decoder is given the
rounded latent, with the gradient passed straight through (Minnen & Singh 2020). Export keeps the grid: a step is a
code. A network that starts as PCA starts here as transform coding: principal coefficients, all with the step that is
best for λ.

With a size asked for, λ is the multiplier of a constraint: it rises while held-out images take less and falls while
they take more, until they take that (dual ascent).
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from aekit.errors import OptionError
from aekit.training.objectives.objective import Network, Objective, clipped_mse

_COMPONENTS = 3
"""Logistics in the mixture of a dimension."""
_STEPS = 4.0
"""Steps of the grid that a latent of 1 is before training, where the network starts from chance."""
_FEWEST_STEPS = 0.25
"""The same at least: a dimension whose latents all round to 0 would learn nothing."""
_LEVELS = 256
"""Values of a code; beyond the ends of their range latents are clipped, in training as in the exported graph."""
_RARE = 2.0**-30
"""Probabilities below this count as this: what a float32 difference of two sigmoids can tell from nothing."""
_LAMBDA = 5e-4
"""Where neither λ nor a size is given: digits of 28×28 pixels take about 13 bytes."""
_NUMBERS = 3.0
"""Numbers in a code for each byte asked for. Those that round to few values cost more than they give while the network
learns: with twice as many, codes became a tenth larger at the same error."""
_AIM = 0.99
"""Share of the size asked for that λ is found for: other images and the coder's tables take up to a per cent more."""
_STEER = 40.0
"""How fast λ follows: over a share s of the run, a size wrong by the factor f changes it by f**(_STEER · s)."""
_MOST_CHANGE = 0.1
"""Of log λ at a time."""
_OVER = 4
"""A size above the one asked for by the factor f makes weights count as worse by f**_OVER."""


class LatentModel(nn.Module):
    """The grid that latents are rounded to, how likely its points are, and the weight of an error against bits."""

    def __init__(self, scale: Tensor, weight: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(scale.log())
        self.shares = nn.Parameter(torch.zeros(len(scale), _COMPONENTS))
        self.means = nn.Parameter(scale[:, None] * torch.linspace(-1, 1, _COMPONENTS))
        self.log_widths = nn.Parameter((scale[:, None] / 2).log().repeat(1, _COMPONENTS))
        # A parameter, so that it is averaged and saved with the others, but no gradient moves it.
        self.log_lambda = nn.Parameter(torch.tensor(math.log(weight)), requires_grad=False)

    @property
    def scale(self) -> Tensor:
        """Steps of the grid in a latent of 1, [D]."""
        return self.log_scale.exp()

    def steps(self, z: Tensor) -> Tensor:
        """Latents [n, D] in steps of the grid, not rounded, where codes can follow."""
        return (z * self.scale).clamp(-_LEVELS // 2, _LEVELS // 2 - 1)

    def bits(self, steps: Tensor) -> Tensor:
        """Mean over images of the bits of latents [n, D] in steps: of the interval of one step around each number."""
        away = (steps.unsqueeze(-1) - self.means).abs()  # both tails are alike; the lower one's floats are the finer
        narrow = (-self.log_widths).exp()
        interval = ((0.5 - away) * narrow).sigmoid() - ((-0.5 - away) * narrow).sigmoid()
        probability = (interval * self.shares.softmax(-1)).sum(-1)
        return -probability.clamp(min=_RARE).log2().sum() / len(steps)


@dataclass(frozen=True)
class Rate(Objective):
    """cost = bits a pixel + λ · 255² · mean squared error; bits as an entropy coder with one table a number takes."""

    lambda_: float = 0.0
    """λ, bits a pixel for an error of 1 in levels of 255 squared; 0 takes 0.0005 unless `bytes` is given."""
    bytes: float = 0.0
    """Bytes that a code shall take, for which λ is then found; 0 leaves it at the λ given."""

    def __post_init__(self) -> None:
        if self.lambda_ and self.bytes:
            raise OptionError("lambda and bytes", expected="one of them", found=f"{self.lambda_:g} and {self.bytes:g}")
        if self.lambda_ and not 1e-8 <= self.lambda_ <= 10:
            raise OptionError("lambda", expected="1e-08 to 10, such as 0.0005", found=f"{self.lambda_:g}")
        if self.bytes and not 0.1 <= self.bytes <= 65536:
            raise OptionError("bytes", expected="0.1 to 65536 an image", found=f"{self.bytes:g}")

    @property
    def suggested_code_dim(self) -> int | None:
        """About two to four bits a number, for the size asked for."""
        return max(4, math.ceil(_NUMBERS * self.bytes)) if self.bytes else None

    @property
    def bytes_asked(self) -> float | None:
        """The option `bytes`, or None without it."""
        return self.bytes or None

    def learned(self, code_dim: int, channels: int, deviations: Tensor | None) -> LatentModel:
        """The model of the latents. Raises OptionError if so many numbers can't take the bytes asked for."""
        if self.bytes > code_dim / 2:
            raise OptionError(
                "bytes", expected=f"at most half a byte a number, {code_dim / 2:g}", found=f"{self.bytes:g}",
                fix="give a larger --code-dim",
            )  # fmt: skip
        weight = self.lambda_ or _LAMBDA
        if deviations is None:
            return LatentModel(torch.full((code_dim,), _STEPS), weight)
        # A step Δ adds Δ²/12 to the squared error of a coefficient and log2(1/Δ) to its bits. At the best one the
        # derivatives of the cost cancel: λ · 255² · Δ²/6 = channels · log2(e).
        slope = 6 * channels * math.log2(math.e) / 255**2
        step = _step_of_size(8 * self.bytes, deviations) if self.bytes else math.sqrt(slope / weight)
        return LatentModel((deviations / step).clamp(min=_FEWEST_STEPS), slope / step**2)

    def code_scale(self, network: Network) -> Tensor:
        """Steps of the grid in a latent of 1, [D]."""
        return _model(network).scale.detach()

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """The cost of a batch, with noise for the bits and rounding for the error."""
        model = _model(network)
        steps = model.steps(network.features(x))
        noise = torch.rand(steps.shape, generator=rng).to(steps.device) - 0.5
        rounded = steps + (steps.round() - steps).detach()
        error = clipped_mse(network.decode(rounded / model.scale), x)
        return _cost(model, model.bits(steps + noise), error, x)

    def steer(self, network: Network, x: Tensor, share: float) -> None:
        """Move λ, if it is to be found, by the size of the codes of held-out images; `share` of the run has passed
        since the last time."""
        if not self.bytes:
            return
        model = _model(network)
        steps = model.steps(network.features(x)).round()
        asked, found = 8 * _AIM * self.bytes, model.bits(steps)
        change = _STEER * share * (asked / found.clamp(min=asked / 8)).log()
        model.log_lambda.add_(change.clamp(-_MOST_CHANGE, _MOST_CHANGE))

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """The error of rounded latents, their bytes an image, the cost's with noise, and what is best: the cost or,
        with a size asked for, the error, made worse where that size is exceeded."""
        model = _model(network)
        steps = model.steps(network.features(x))
        rounded = steps.round()
        error, bits = clipped_mse(network.decode(rounded / model.scale), x), model.bits(rounded)
        noise = torch.rand(steps.shape, generator=rng).to(steps.device) - 0.5
        loss = _cost(model, bits, error, x)
        if self.bytes:
            loss = error * (bits / (8 * self.bytes)).clamp(min=1) ** _OVER
        noisy = float(model.bits(steps + noise)) / 8
        figures = {"mse": float(error), "bytes": float(bits) / 8, "noisy_bytes": noisy, "loss": float(loss)}
        return {**figures, "lambda": float(model.log_lambda.exp())}


def _step_of_size(bits: float, deviations: Tensor) -> float:
    """The step with which independent Gaussians of these deviations, [D], take so many bits, about."""
    steps = torch.logspace(-4, 4, 801, dtype=torch.float64)[:, None]
    # log2(deviation/step · √2πe) of fine steps, nearing 0 for coarse ones
    sizes = (1 + 2 * math.pi * math.e * (deviations / steps).square()).log2().sum(1) / 2
    return float(steps[(sizes - bits).abs().argmin()])


def _cost(model: LatentModel, bits: Tensor, error: Tensor, x: Tensor) -> Tensor:
    return bits / x[0, 0].numel() + model.log_lambda.exp() * 255**2 * error


def _model(network: Network) -> LatentModel:
    return cast(LatentModel, network.learned)
