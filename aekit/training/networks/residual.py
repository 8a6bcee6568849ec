"""The default network: a linear autoencoder that starts as PCA, plus residual perceptrons that correct it.

    c = basis · (x − mean)                      principal coefficients, [n, Q]; the basis stays fixed
    z = c₁..D / s₁..D + f(c / whitening)        latents in units of their standard deviation
    ĉ = s · z + reach · g(z)
    x̂ = mean + basisᵀ · ĉ

f and g are pre-norm residual perceptrons (He et al. 2016; Xiong et al. 2020). Their last layers start at zero, so the
network starts as PCA. Their inputs and outputs are principal coefficients, not pixels. Neighbouring pixels are strongly
correlated: a learning rate that is high enough for their small differences makes the large common part diverge.
Networks on pixels never reached a lower error than PCA on sets of a few thousand images.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, pad

from aekit.errors import OptionError
from aekit.pca import Pca
from aekit.spec import Geometry
from aekit.training.config import TrainConfig
from aekit.training.networks.autoencoder import Foldable

_COMPONENTS = 512
"""Number of principal coefficients that the perceptrons take and return, or twice the code's size if that is more."""
_MOST_BASIS = 2**25
"""Largest number of values in the basis, components × pixels: 128 MB of float32."""
_WHITEN = 0.5
"""How strongly the encoder equalises the sizes of coefficients, as an exponent: 0 leaves them, 1 whitens them fully."""


class _Block(nn.Module):
    """x + linear(gelu(linear(norm(x)))). It starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(gelu(self.first(self.norm(x))))
        return out


class _Perceptron(nn.Module):
    """inputs → width → residual blocks → outputs. The output layer starts at zero."""

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, widths[0])
        self.blocks = nn.Sequential(*(_Block(width) for width in widths))
        self.norm = nn.LayerNorm(widths[0])
        self.last = nn.Linear(widths[0], outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(gelu(self.norm(self.blocks(self.first(x)))))
        return out


class _Encoder(Foldable):
    """Images to latents: the scaled principal coefficients plus the perceptron's output."""

    mean: Tensor
    whitened: Tensor
    """The basis multiplied by the whitening factors, [components, pixels], so that a step need not multiply by them."""
    scale: Tensor

    def __init__(self, basis: "_Basis", code_dim: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.linear_dim, self.outputs = min(code_dim, len(basis.scales)), outputs
        whitening = basis.whitening()
        self.register_buffer("mean", basis.mean)
        self.register_buffer("whitened", whitening[:, None] * basis.components)
        self.register_buffer("scale", 1 / (whitening * basis.scales)[: self.linear_dim])
        self.deviations = basis.scales[: self.linear_dim]
        self.perceptron = _Perceptron(len(basis.scales), outputs, widths)

    def forward(self, x: Tensor) -> Tensor:
        coefficients = linear(x.flatten(1) - self.mean, self.whitened)
        shortcut = pad(coefficients[:, : self.linear_dim] * self.scale, (0, self.outputs - self.linear_dim))
        out: Tensor = shortcut + self.perceptron(coefficients)
        return out

    def folded(self) -> nn.Module:
        """Multiply the basis into the first layer and into the shortcut, so that both take pixels directly."""
        first = self.perceptron.first
        weight = first.weight @ self.whitened
        rows = pad(self.whitened[: self.linear_dim] * self.scale[:, None], (0, 0, 0, self.outputs - self.linear_dim))
        return _Folded(
            _linear(weight, first.bias - weight @ self.mean),
            _linear(rows, -rows @ self.mean),
            self.perceptron,
            self.perceptron.last,
            None,
        )


class _Decoder(Foldable):
    """Latents to images: the mirror of the encoder."""

    mean: Tensor
    reachable: Tensor
    """The basis multiplied by the reach of each coefficient, [components, pixels]."""
    scale: Tensor

    def __init__(
        self, basis: "_Basis", code_dim: int, widths: tuple[int, ...], image_shape: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.linear_dim, self.image_shape = min(code_dim, len(basis.scales)), image_shape
        reach = basis.reach(code_dim)
        self.register_buffer("mean", basis.mean.clone())
        self.register_buffer("reachable", reach[:, None] * basis.components)
        self.register_buffer("scale", (basis.scales / reach)[: self.linear_dim])
        self.perceptron = _Perceptron(code_dim, len(basis.scales), widths)

    def forward(self, z: Tensor) -> Tensor:
        shortcut = pad(z[:, : self.linear_dim] * self.scale, (0, len(self.reachable) - self.linear_dim))
        x_hat = linear(shortcut + self.perceptron(z), self.reachable.T).float() + self.mean
        return x_hat.unflatten(1, self.image_shape)

    def folded(self) -> nn.Module:
        """Multiply the basis into the last layer and into the shortcut, so that both return pixels directly."""
        last, code_dim = self.perceptron.last, self.perceptron.first.in_features
        out = self.reachable.T
        columns = pad(out[:, : self.linear_dim] * self.scale, (0, code_dim - self.linear_dim))
        return _Folded(
            self.perceptron.first,
            _linear(columns, torch.zeros_like(self.mean)),
            self.perceptron,
            _linear(out @ last.weight, out @ last.bias + self.mean),
            self.image_shape,
        )


class _Folded(nn.Module):
    """shortcut(x) + last(gelu(norm(blocks(first(x))))): an encoder or decoder with its basis folded into the layers."""

    def __init__(
        self,
        first: nn.Linear,
        shortcut: nn.Linear,
        perceptron: _Perceptron,
        last: nn.Linear,
        image_shape: tuple[int, int, int] | None,
    ) -> None:
        super().__init__()
        self.first, self.shortcut, self.last = first, shortcut, last
        self.blocks, self.norm = perceptron.blocks, perceptron.norm
        self.image_shape = image_shape

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        out: Tensor = self.shortcut(x) + self.last(gelu(self.norm(self.blocks(self.first(x)))))
        return out if self.image_shape is None else out.unflatten(1, self.image_shape)


class _Basis:
    """A fixed number of principal components and their scales; those that `principal` lacks are zero."""

    def __init__(self, principal: Pca | None, components: int, geometry: Geometry) -> None:
        self.mean = torch.zeros(geometry.pixels)
        self.components = torch.zeros(components, geometry.pixels)
        self.scales = torch.ones(components)
        if principal is not None:
            fitted = len(principal.scales[:components])  # a set of few images has fewer than `components`
            self.mean = _channels_first(principal.mean[None], geometry)[0]
            self.components[:fitted] = _channels_first(principal.components[:fitted], geometry)
            # A lower bound, because dividing by a tiny scale would amplify directions in which images hardly differ.
            least = float(principal.scales[0]) * 1e-3 + 1e-12
            self.scales.fill_(least)
            self.scales[:fitted] = torch.from_numpy(principal.scales[:fitted]).clamp(min=least)

    def whitening(self) -> Tensor:
        """Return factors, [components], that equalise the sizes of coefficients and set their mean square to 1."""
        factors = self.scales**-_WHITEN
        return factors / (factors * self.scales).square().mean().sqrt()

    def reach(self, code_dim: int) -> Tensor:
        """Return how far a perceptron output of 1 moves each coefficient, [components].

        It is the coefficient's scale, limited to the scale of the last coefficient in the code.
        """
        last = self.scales[min(code_dim, len(self.scales) - 1)]
        return torch.minimum(self.scales, last)


def deviations(encoder: nn.Module, code_dim: int) -> Tensor | None:
    """Return the standard deviation of each initial latent, shape [code_dim], or None if the encoder does not start
    from PCA."""
    if not isinstance(encoder, _Encoder):
        return None
    return pad(encoder.deviations, (0, code_dim - encoder.linear_dim), value=float(encoder.deviations[-1]))


def components_of_images(code_dim: int, geometry: Geometry) -> int:
    """Number of principal components of the training images that the network starts from."""
    return min(max(_COMPONENTS, 2 * code_dim), geometry.pixels, max(_MOST_BASIS // geometry.pixels, 1))


def residual(
    config: TrainConfig, geometry: Geometry, outputs: int, principal: Pca | None
) -> tuple[nn.Module, nn.Module]:
    """Make the encoder and the decoder. The config's `hidden` gives the width of each residual block.

    Raises OptionError if there are no blocks or their widths differ.
    """
    widths = config.hidden
    if not widths or len(set(widths)) != 1:
        raise OptionError("--hidden", expected="blocks of one width, such as 512,512", found=str(list(widths)))
    basis = _Basis(principal, components_of_images(config.code_dim, geometry), geometry)
    image_shape = (geometry.channels, geometry.height, geometry.width)
    return (
        _Encoder(basis, config.code_dim, outputs, widths),
        _Decoder(basis, config.code_dim, widths, image_shape),
    )


def _channels_first(rows: npt.NDArray[np.float32], geometry: Geometry) -> Tensor:
    """Reorder rows of pixels from [H, W, C], the order that PCA was fitted in, to [C, H, W], the network's order."""
    return torch.from_numpy(rows).unflatten(1, geometry.shape).permute(0, 3, 1, 2).flatten(1)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
