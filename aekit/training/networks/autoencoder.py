"""The autoencoder that every network and every objective come together in."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from aekit.training.objectives.objective import Objective


class Foldable(nn.Module, ABC):
    """Half of a network that has a form with fewer operations."""

    @abstractmethod
    def folded(self) -> nn.Module:
        """A module that computes the same."""


class Autoencoder(nn.Module):
    """A network's two halves between the maps of its objective; all of it is exported.

    x ─ objective.prepare ─ encoder ─ objective.latent ─▶ z ─ decoder ─ objective.image ─▶ x_hat

    The latent is in the network's own units; export brings it to code units.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, objective: Objective, learned: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.objective = encoder, decoder, objective
        self.learned = learned
        """What the objective learns for itself, such as how likely each latent is; no part of the exported graphs."""

    def encode(self, x: Tensor) -> Tensor:
        """Images [n, C, H, W] in [0, 1] to latents [n, D]."""
        return self.objective.latent(self.features(x))

    def decode(self, z: Tensor) -> Tensor:
        """Latents [n, D] to images [n, C, H, W]; values may leave [0, 1], where the exported graph clips them."""
        return self.objective.image(self.outputs(z))

    def features(self, x: Tensor) -> Tensor:
        """The encoder's own outputs for images, before the objective makes latents of them."""
        features: Tensor = self.encoder(self.objective.prepare(x))
        return features.float()  # objectives compute in full precision whatever the products were done in

    def outputs(self, z: Tensor) -> Tensor:
        """The decoder's own outputs for latents, before the objective makes images of them."""
        outputs: Tensor = self.decoder(z)
        return outputs.float()

    def folded(self) -> "Autoencoder":
        """The same function in fewer operations, for export."""
        return Autoencoder(_folded(self.encoder), _folded(self.decoder), self.objective)


def _folded(half: nn.Module) -> nn.Module:
    return half.folded() if isinstance(half, Foldable) else half
