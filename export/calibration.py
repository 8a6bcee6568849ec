"""How latents become codes: the units, the rounding and the distribution of latents, chosen on the images of a run."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from aekit.evaluation.metrics import mse
from aekit.exporting.graphs import CodeUnits, DecoderGraph, Nearest
from aekit.exporting.rounding import GridRounding, choose_rounding
from aekit.exporting.samples import GridSamples, Samples, to_floats
from aekit.images.decode import Pixels
from aekit.model.sampling import LatentGaussian
from aekit.training.networks import Autoencoder
from aekit.training.objectives.grid import GridObjective

_ROUNDED_ON = 32
"""Approximate number of validation pictures that choose the rounding of grid codes. The qualities share them."""
_FEWEST_ROUNDED = 8
"""Least number of validation pictures that choose the rounding of each quality, if there are so many."""


def choose_units(network: Autoencoder, folded: Autoencoder, latents: Tensor, samples: Samples) -> CodeUnits:
    """Return the map to code units: training's own grid, or one calibrated on `latents` [m, D] of training images."""
    scale = network.objective.code_scale(network)
    if scale is not None:
        return CodeUnits.on_grid(scale, network.objective.code_size(network))
    return CodeUnits.calibrated(latents, rounding_noise(network, folded, samples.few()))


@torch.no_grad()
def choose_code_rounding(
    network: Autoencoder, units: CodeUnits, latents: Tensor, samples: Samples
) -> tuple[nn.Module, dict[str, Any]]:
    """Return how codes are rounded, and the facts of the choice for model.json.

    If training counted bits, validation pictures choose the way to round by the cost of training. Each quality gets its
    own choice.
    `latents` [m, D] are those of training images, in the network's units, for a network of one quality.
    """
    objective = network.objective
    weights = objective.error_weights(network) if isinstance(objective, GridObjective) else []
    if not weights or not isinstance(samples, GridSamples) or not isinstance(objective, GridObjective):
        return Nearest(), {}
    most = max(_ROUNDED_ON // len(weights), _FEWEST_ROUNDED)
    pictures = samples.held_out[:: len(samples.held_out) // most + 1]
    chosen, facts = list[GridRounding](), list[dict[str, Any]]()
    decoder = DecoderGraph(network, units)
    for number, (own, weight) in enumerate(zip(units.each(), weights, strict=True), 1):
        quality = torch.tensor([number]) if len(weights) > 1 else None

        def squared_error(index: int, code: Tensor, quality: Tensor | None = quality) -> float:
            picture = pictures[index]
            decoded = decoder(code[None].float(), quality)[0].numpy()[: picture.shape[0], : picture.shape[1]]
            return mse(picture[None], decoded[None]) * picture.shape[0] * picture.shape[1]

        rounding, tried = choose_rounding(
            own(latents if quality is None else samples.latents(network, number)),
            [own(network.encode(to_floats(picture[None]), quality))[0] for picture in pictures],
            squared_error,
            sum(picture.shape[0] * picture.shape[1] for picture in pictures),
            weight,
            objective.dead_zone,
        )
        best = min(tried, key=lambda trial: trial.cost)
        chosen.append(rounding)
        facts.append({**vars(best), "tried": [vars(trial) for trial in tried]})
    if len(chosen) == 1:
        return chosen[0], {"rounding": facts[0]}
    return GridRounding.of_qualities(chosen), {"rounding": facts}


@torch.no_grad()
def latent_gaussian(network: Autoencoder, units: CodeUnits, latents: Tensor) -> LatentGaussian:
    """Return the distribution of latents in code units.

    It is the prior if training pulled latents towards one, else a Gaussian fitted to `latents` [n, D], the latents of
    the training images in the network's units.
    """
    if network.objective.has_prior:
        return LatentGaussian.prior(units.scale.numpy(), units.offset.numpy())
    return LatentGaussian.fitted(units(latents).numpy())


@torch.no_grad()
def rounding_noise(network: Autoencoder, folded: Autoencoder, images: Pixels) -> Tensor:
    """Measure how far float32 rounding moves each latent, on uint8 images [n, H, W, C].

    Returns the largest distance from float64 arithmetic, shape [D], in the network's units: the larger of the values
    for the network as trained and for its folded form.
    """
    x = to_floats(images)
    exact = copy.deepcopy(network).double().encode(x.double())
    return torch.stack([(half.encode(x) - exact).abs().flatten(0, -2).amax(0) for half in (network, folded)]).amax(0)
