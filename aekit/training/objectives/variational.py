"""Variational autoencoding (Kingma & Welling 2014), with β (Higgins et al. 2017) and a warm-up of the KL term.

    −ELBO = E_q(z|x)[−log p(x|z)] + KL(q(z|x) ‖ N(0, I)),  in nats an image
    cost  = E_q(z|x)[−log p(x|z)] + β · warm-up · KL

(Warm-up: Bowman et al. 2016; Sønderby et al. 2016.) The exported encoder gives the posterior's mean, without chance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from aekit.errors import OptionError
from aekit.training.objectives.objective import Network, Objective

_LOGITS = 10.0
"""Logits that a step from black to white spans, for the Bernoulli likelihood."""
_LIKELIHOODS = ("gaussian", "bernoulli")


@dataclass(frozen=True)
class Variational(Objective):
    """Gaussian posterior and prior; the likelihood of the pixels is one of two.

    bernoulli   for black-and-white pictures: pixels are thresholded at 0.5 first, in the exported encoder too
    gaussian    one variance for all pixels, always the best one for the batch: the mean squared error (Rybkin,
                Daniilidis & Levine 2021), so that nothing has to be tuned
    """

    beta: float = 1.0
    warmup: float = 0.1
    """Share of the run over which the KL term rises from 0 to its full weight."""
    likelihood: str = "gaussian"

    def __post_init__(self) -> None:
        if self.likelihood not in _LIKELIHOODS:
            raise OptionError("likelihood", expected=" or ".join(_LIKELIHOODS), found=repr(self.likelihood))
        if not 0 <= self.beta <= 1e4 or not 0 <= self.warmup <= 1:
            raise OptionError(
                "beta and warmup", expected="0 to 10000 and 0 to 1", found=f"{self.beta:g} and {self.warmup:g}"
            )

    @property
    def has_prior(self) -> bool:
        """Unless β is 0."""
        return self.beta > 0

    def encoder_outputs(self, code_dim: int) -> int:
        """A mean and a log variance for each number of the code."""
        return 2 * code_dim

    def prepare(self, x: Tensor) -> Tensor:
        """Black and white, for the Bernoulli likelihood."""
        return (x >= 0.5).to(x.dtype) if self.likelihood == "bernoulli" else x

    def latent(self, features: Tensor) -> Tensor:
        """The posterior's mean."""
        return features[:, : features.shape[1] // 2]

    def image(self, outputs: Tensor) -> Tensor:
        """The likelihood's mean."""
        return self._logits(outputs).sigmoid() if self.likelihood == "bernoulli" else outputs

    def _logits(self, outputs: Tensor) -> Tensor:
        """Outputs on the scale of pixels, where networks start and learn best, as logits."""
        return _LOGITS * (outputs - 0.5)

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """The cost above of a batch, with one sample of z an image; nats an image."""
        reconstruction, divergence = self._terms(network, x, rng)
        warm = 1.0 if self.warmup == 0 else min(1.0, progress / self.warmup)
        return reconstruction + self.beta * warm * divergence

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """−ELBO (β = 1) and its KL term, nats an image, beside the error of the deterministic reconstruction."""
        reconstruction, divergence = (float(term) for term in self._terms(network, x, rng))
        figures = super().validate(network, x, rng)
        return {**figures, "neg_elbo": reconstruction + divergence, "kl": divergence}

    def _terms(self, network: Network, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """−log p(x|z) for a z drawn from the posterior, and the KL divergence: means over the batch, in nats."""
        mean, log_variance = network.features(x).chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)  # wider than any posterior here; keeps exp finite early on
        noise = torch.randn(mean.shape, generator=rng).to(mean.device)
        outputs = network.outputs(mean + (0.5 * log_variance).exp() * noise)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / len(x)
        if self.likelihood == "bernoulli":
            logits, target = self._logits(outputs), self.prepare(x)
            return binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(x), divergence
        pixels = x[0].numel()
        variance = (outputs - x).square().mean().clamp(min=1e-8)
        return pixels / 2 * (math.log(2 * math.pi) + 1 + variance.log()), divergence
