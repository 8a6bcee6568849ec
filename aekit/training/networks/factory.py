"""Make the network that a config describes, and check its size first."""

import torch
from torch import nn

from aekit.errors import OptionError
from aekit.pca import Pca
from aekit.registry import NETWORKS
from aekit.spec import Geometry, GridGeometry
from aekit.training.config import TrainConfig
from aekit.training.networks.autoencoder import Autoencoder
from aekit.training.networks.blocks import BlockStatistics
from aekit.training.networks.layouts import LAYOUTS
from aekit.training.networks.residual import components_of_images, deviations
from aekit.training.objectives.grid import GridObjective

MAX_WEIGHT_BYTES = 2**31 - 2**20
"""Largest encoder or decoder accepted, in bytes of float32 weights. Each becomes one ONNX file, at most 2 GiB large."""

Start = Pca | BlockStatistics
"""What a network starts from: the principal components of images, or for grid codes the statistics of blocks."""


def make_network(config: TrainConfig, geometry: Geometry | GridGeometry, start: Start | None = None) -> Autoencoder:
    """Make the network that a config describes. The config's seed decides its first weights.

    Without `start`, the weights of a network that starts as PCA are placeholders until saved weights are loaded.

    Raises OptionError if the network can't have these sizes, or would be too large (see check_size).
    """
    check_size(config, geometry)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if isinstance(geometry, GridGeometry):
            assert start is None or isinstance(start, BlockStatistics)
            return _grid_network(config, geometry, start)
        assert start is None or isinstance(start, Pca)
        return _vector_network(config, geometry, start)


def _vector_network(config: TrainConfig, geometry: Geometry, principal: Pca | None) -> Autoencoder:
    objective = config.make_objective()
    outputs = objective.encoder_outputs(config.code_dim)
    encoder, decoder = NETWORKS[config.network].load()(config, geometry, outputs, principal)
    learned = objective.learned(config.code_dim, geometry.channels, deviations(encoder, config.code_dim))
    if config.init == "normal":
        for parameter in (*encoder.parameters(), *decoder.parameters()):
            nn.init.normal_(parameter)
    return Autoencoder(encoder, decoder, objective, learned)


def _grid_network(config: TrainConfig, geometry: GridGeometry, start: BlockStatistics | None) -> Autoencoder:
    objective, layout = config.make_objective(), LAYOUTS[config.preset]
    assert isinstance(objective, GridObjective)
    finest = objective.finest(geometry.channels, start)
    make = NETWORKS[config.network].load()
    encoder, decoder = make(layout, geometry.channels, start and start.pca, finest, objective.quality_count)
    learned = objective.learned_of_blocks(layout.code_channels, geometry.channels, start)
    return Autoencoder(encoder, decoder, objective, learned)


def components_wanted(config: TrainConfig, geometry: Geometry | GridGeometry) -> int:
    """Number of principal components of images or blocks that the network starts from; 0 if it uses none."""
    if not NETWORKS[config.network].starts_as_pca:
        return 0
    if isinstance(geometry, GridGeometry):
        return config.code_dim
    return components_of_images(config.code_dim, geometry)


def check_size(config: TrainConfig, geometry: Geometry | GridGeometry) -> None:
    """Raise OptionError if the network can't have the config's sizes or is larger than MAX_WEIGHT_BYTES.

    The network is made on torch's `meta` device, which knows shapes and allocates nothing. The layouts of grid networks
    are few and small.
    """
    if isinstance(geometry, GridGeometry):
        return
    outputs = config.make_objective().encoder_outputs(config.code_dim)
    with torch.device("meta"):
        halves = NETWORKS[config.network].load()(config, geometry, outputs, None)
    for role, half in zip(("encoder", "decoder"), halves, strict=True):
        values = sum(tensor.numel() for tensor in (*half.parameters(), *half.buffers()))
        if 4 * values > MAX_WEIGHT_BYTES:
            raise OptionError(
                f"the {role} of {config.network} for {geometry}",
                expected=f"at most {MAX_WEIGHT_BYTES:,} bytes of weights",
                found=f"{4 * values:,}",
                fix="give a smaller --hidden, --code-dim or --size",
            )
