"""Networks: the encoder and decoder of an autoencoder, sized from the image and the code.

x [n, C, H, W] in [0, 1] ── encode ──▶ z [n, D] ── decode ──▶ x_hat [n, C, H, W]
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from aekit.errors import OptionError
from aekit.spec import Geometry
from aekit.training.config import TrainConfig


class Autoencoder(nn.Module):
    """An encoder and a decoder. The latent is in the network's own units; export brings it to code units."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Tensor:
        """Images [n, C, H, W] in [0, 1] to latents [n, D]."""
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Latents [n, D] to images [n, C, H, W]; values may leave [0, 1], where the exported graph clips them."""
        x_hat: Tensor = self.decoder(z)
        return x_hat


def make_network(config: TrainConfig, geometry: Geometry) -> Autoencoder:
    """The network a config describes, its weights drawn from the config's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = _mlp(config, geometry) if config.network == "mlp" else _conv(config, geometry)
        if config.init == "normal":
            for parameter in network.parameters():
                nn.init.normal_(parameter)
    return network


def _mlp(config: TrainConfig, geometry: Geometry) -> Autoencoder:
    """Fully connected layers: pixels → hidden … → code, and back through the same sizes."""
    sizes = (geometry.pixels, *config.hidden, config.code_dim)
    image_shape = (geometry.channels, geometry.height, geometry.width)
    squash: list[nn.Module] = [nn.Sigmoid()] if config.squash else []
    encoder = [nn.Flatten(), *_layers(sizes), *squash]
    decoder = [*_layers(sizes[::-1]), *squash, nn.Unflatten(1, image_shape)]
    return Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder))


def _layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers of these sizes with GELUs between them, none after the last."""
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), nn.GELU()]
    return modules[:-1]


class _Residual(nn.Module):
    """x + conv(gelu(conv(gelu(x)))): He et al. 2016, pre-activation; no normalisation to keep in step at export."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # begins as the identity, so that depth costs no stability
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(self.gelu(self.first(self.gelu(x))))
        return out


def _conv(config: TrainConfig, geometry: Geometry) -> Autoencoder:
    """Strided convolutions down, a linear layer to the code, and nearest-neighbour resizing with convolutions up.

    Each stage halves the sides (rounding up); resizing before a convolution leaves no checkerboard (Odena et al. 2016).
    """
    widths = config.hidden
    if not widths:
        raise OptionError("--hidden", expected="channels of the conv network's stages, such as 32,64", found="none")
    sides = [(geometry.height, geometry.width)]
    for _ in widths:
        height, width = sides[-1]
        if min(height, width) < 4:
            raise OptionError(
                "--hidden", expected=f"at most {len(sides) - 1} stages for {geometry}", found=f"{len(widths)}"
            )
        sides.append((math.ceil(height / 2), math.ceil(width / 2)))
    features = widths[-1] * sides[-1][0] * sides[-1][1]

    encoder: list[nn.Module] = []
    for inputs, outputs in pairwise((geometry.channels, *widths)):
        encoder += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), _Residual(outputs)]
    encoder += [nn.GELU(), nn.Flatten(), nn.Linear(features, config.code_dim)]

    decoder: list[nn.Module] = [nn.Linear(config.code_dim, features), nn.Unflatten(1, (widths[-1], *sides[-1]))]
    for (inputs, outputs), side in zip(pairwise((*widths[::-1], widths[0])), sides[-2::-1], strict=True):
        decoder += [_Residual(inputs), nn.Upsample(side, mode="nearest"), nn.Conv2d(inputs, outputs, 3, padding=1)]
    decoder += [nn.GELU(), nn.Conv2d(widths[0], geometry.channels, 3, padding=1)]
    return Autoencoder(nn.Sequential(*encoder), nn.Sequential(*decoder))
