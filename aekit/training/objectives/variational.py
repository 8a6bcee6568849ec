"""Variational autoencoding (Kingma & Welling 2014), with β (Higgins et al. 2017) and a warm-up of the KL term.

    −ELBO = E_q(z|x)[−log p(x|z)] + KL(q(z|x) ‖ N(0, I)),  in nats an image
    cost  = E_q(z|x)[−log p(x|z)] + β · warm-up · KL

(Warm-up: Bowman et al. 2016; Sønderby et al. 2016.) The exported encoder returns the posterior's mean, without chance.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from aekit.errors import OptionError, unknown_value
from aekit.training.objectives.objective import Network, Objective

_LOGITS = 10.0
"""Difference in logits between black and white, for the Bernoulli likelihood."""
_LIKELIHOODS = ("auto", "gaussian", "bernoulli")


@dataclass(frozen=True)
class Variational(Objective):
    """Variational autoencoding with a Gaussian posterior and prior, and one of two likelihoods of the pixels.

    bernoulli   for black-and-white images: pixels are first thresholded at 0.5, in the exported encoder too
    gaussian    one variance for all pixels, equal to the batch's mean squared error, which is the most likely value
                (Rybkin, Daniilidis & Levine 2021); so there is no variance to tune
    """

    beta: float = 1.0
    """Factor on the KL term."""
    warmup: float = 0.1
    """Share of the run over which the KL term rises from 0 to its full weight."""
    likelihood: str = "auto"
    """Distribution of pixels: gaussian or bernoulli. At the start of a run `auto` becomes the one that suits the
    images; in a run that an older aekit began, it means gaussian."""

    def __post_init__(self) -> None:
        if self.likelihood not in _LIKELIHOODS:
            raise unknown_value("likelihood", self.likelihood, _LIKELIHOODS)
        if not 0 <= self.beta <= 1e4 or not 0 <= self.warmup <= 1:
            raise OptionError(
                "beta and warmup", expected="0 to 10000 and 0 to 1", found=f"{self.beta:g} and {self.warmup:g}"
            )

    @property
    def has_prior(self) -> bool:
        """Whether the KL term pulls latents towards N(0, I): yes, unless β is 0."""
        return self.beta > 0

    def encoder_outputs(self, code_dim: int) -> int:
        """Return two numbers for each number of the code: a mean and a log variance."""
        return 2 * code_dim

    def prepare(self, x: Tensor) -> Tensor:
        """Threshold the pixels at 0.5 for the Bernoulli likelihood; else return them unchanged."""
        return (x >= 0.5).to(x.dtype) if self.likelihood == "bernoulli" else x

    def latent(self, features: Tensor) -> Tensor:
        """Return the posterior's mean, [n, D]."""
        return features[:, : features.shape[1] // 2]

    def image(self, outputs: Tensor) -> Tensor:
        """Return the likelihood's mean for each pixel."""
        return self._logits(outputs).sigmoid() if self.likelihood == "bernoulli" else outputs

    def _logits(self, outputs: Tensor) -> Tensor:
        """Convert outputs to logits. Outputs have the scale of pixels, where networks start and learn best."""
        return _LOGITS * (outputs - 0.5)

    def loss(self, network: Network, x: Tensor, rng: torch.Generator, progress: float) -> Tensor:
        """Return the cost of a batch in nats per image, with one sample of z for each image."""
        reconstruction, divergence = self._terms(network, x, rng)
        warm = 1.0 if self.warmup == 0 else min(1.0, progress / self.warmup)
        return reconstruction + self.beta * warm * divergence

    def validate(self, network: Network, x: Tensor, rng: torch.Generator) -> dict[str, float]:
        """Return `neg_elbo` (−ELBO with β = 1) and `kl`, in nats per image, and `mse` of the deterministic
        reconstruction."""
        reconstruction, divergence = (float(term) for term in self._terms(network, x, rng))
        figures = super().validate(network, x, rng)
        return {**figures, "neg_elbo": reconstruction + divergence, "kl": divergence}

    def _terms(self, network: Network, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return −log p(x|z) for a z drawn from the posterior, and the KL divergence: means over the batch, in nats."""
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
