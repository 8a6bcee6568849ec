"""Probabilities of vector latents, as the context model has them: each number depends on the numbers before it.

A small network sees the earlier dimensions of the same latent. It moves the mixture of logistics of a dimension, and
makes it wider or narrower. So the transform learns to spend bits where the context coder saves them. Export turns
the network into the coder's integers (aekit.training.vector_context).
"""

from torch import Tensor

from aekit.training.context_layout import MOST_SEEN, VECTOR_HIDDEN, vector_layout
from aekit.training.grouped import GroupedNetworks
from aekit.training.objectives.latents import LatentModel, mixture_bits

_MOST_INPUT = 8.0
"""Largest absolute value of an input, in deviations. Latents beyond it count as this value."""
_WIDTHS = (-3.5, 6.0)
"""Least and largest logarithm of a logistic's width, in steps."""


class VectorPrior(LatentModel):
    """A LatentModel whose mixtures depend on the earlier dimensions of the same latent."""

    start: Tensor
    """Number of grid steps in a latent of 1 at the start of training, [D]."""

    def __init__(self, scale: Tensor, weight: float) -> None:
        super().__init__(scale, weight)
        sizes = [group.channels for group in vector_layout(len(scale))]
        self.networks = GroupedNetworks(sizes, VECTOR_HIDDEN, MOST_SEEN)
        self.register_buffer("start", scale.clone())

    def bits(self, steps: Tensor) -> Tensor:
        """Return the mean bits per image of latents [n, D] in grid steps, a scalar."""
        return self.bits_of_each(steps).sum() / len(steps)

    def bits_of_each(self, steps: Tensor) -> Tensor:
        """Return the bits of each number of latents [n, D] in grid steps, [n, D]."""
        moved, wider = self.networks((steps / self.start).clamp(-_MOST_INPUT, _MOST_INPUT))
        means = self.means + (moved * self.start).unsqueeze(-1)
        widths = (self.log_widths + wider.unsqueeze(-1)).clamp(*_WIDTHS)
        return mixture_bits(steps, self.shares, means, widths)
