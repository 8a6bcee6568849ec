"""The autoencoder: the two halves of a network, joined with an objective."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from aekit.training.objectives.objective import Objective


class Foldable(nn.Module, ABC):
    """An encoder or decoder that can be rewritten with fewer operations."""

    @abstractmethod
    def folded(self) -> nn.Module:
        """Return a module that computes the same function in fewer operations."""


class Autoencoder(nn.Module):
    """An encoder and a decoder, with the maps of an objective before and after them. Export includes the maps.

    x ─ objective.prepare ─ encoder ─ objective.latent ─▶ z ─ decoder ─ objective.image ─▶ x_hat

    The latent is in the network's own units; export converts it to code units. Halves for several qualities need the
    `quality` of each image, int64 [n], 1 or more; others take None.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, objective: Objective, learned: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.objective = encoder, decoder, objective
        self.learned = learned
        """The objective's own learned module, such as the probabilities of latents, or None. It is not exported."""

    def encode(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map images [n, C, H, W] in [0, 1] to latents [n, D]."""
        return self.objective.latent(self.features(x, quality))

    def decode(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map latents [n, D] to images [n, C, H, W]. Values may lie outside [0, 1]; the exported graph clips them."""
        return self.objective.image(self.outputs(z, quality))

    def features(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return the encoder's outputs for images, float32, before the objective turns them into latents."""
        x = self.objective.prepare(x)
        features: Tensor = self.encoder(x) if quality is None else self.encoder(x, quality)
        return features.float()  # objectives compute in float32 even if matrix products are bfloat16

    def outputs(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return the decoder's outputs for latents, float32, before the objective turns them into images."""
        outputs: Tensor = self.decoder(z) if quality is None else self.decoder(z, quality)
        return outputs.float()

    def folded(self) -> "Autoencoder":
        """Return an autoencoder that computes the same function in fewer operations, for export."""
        return Autoencoder(_folded(self.encoder), _folded(self.decoder), self.objective)


def _folded(half: nn.Module) -> nn.Module:
    return half.folded() if isinstance(half, Foldable) else half
