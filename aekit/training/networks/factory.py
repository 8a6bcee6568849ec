"""Make the network that a config describes, and check its size first."""

from dataclasses import replace

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

_WIDTHS = (384, 256, 192, 128, 96, 64)
"""Widths of blocks to try, in this order, if a network must be smaller."""
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


def graph_bytes(config: TrainConfig, geometry: Geometry | GridGeometry) -> dict[str, int]:
    """Return the bytes of float32 weights in the graphs that export will write, by role: encoder and decoder.

    The network is made on torch's `meta` device, which knows shapes and allocates nothing.
    """
    objective = config.make_objective()
    with torch.device("meta"):
        if isinstance(geometry, GridGeometry):
            assert isinstance(objective, GridObjective)
            layout, qualities = LAYOUTS[config.preset], objective.quality_count
            halves = NETWORKS[config.network].load()(layout, geometry.channels, None, 1.0, qualities)
        else:
            outputs = objective.encoder_outputs(config.code_dim)
            halves = NETWORKS[config.network].load()(config, geometry, outputs, None)
        encoder, decoder = halves
        exported = Autoencoder(encoder, decoder, objective).folded()
    return {"encoder": _weight_bytes(exported.encoder), "decoder": _weight_bytes(exported.decoder)}


def _weight_bytes(module: nn.Module) -> int:
    return 4 * sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))


def check_size(config: TrainConfig, geometry: Geometry | GridGeometry) -> None:
    """Raise OptionError if the network can't have the config's sizes or is larger than MAX_WEIGHT_BYTES.

    The layouts of grid networks are few and small.
    """
    if isinstance(geometry, GridGeometry):
        return
    outputs = config.make_objective().encoder_outputs(config.code_dim)
    with torch.device("meta"):
        halves = NETWORKS[config.network].load()(config, geometry, outputs, None)
    for role, half in zip(("encoder", "decoder"), halves, strict=True):
        if _weight_bytes(half) > MAX_WEIGHT_BYTES:
            raise OptionError(
                f"the {role} of {config.network} for {geometry}",
                expected=f"at most {MAX_WEIGHT_BYTES:,} bytes of weights",
                found=f"{_weight_bytes(half):,}",
                fix="give a smaller --hidden, --code-dim or --size",
            )


def within_size(config: TrainConfig, geometry: Geometry | GridGeometry, most: int, *, may_shrink: bool) -> TrainConfig:
    """Return a config whose graphs have at most `most` bytes each: this one, or one with narrower layers.

    Only the widths of a network that starts as PCA are changed, and only if `may_shrink`.

    Raises OptionError if no such config is found, or the network can't have the config's sizes.
    """
    check_size(config, geometry)
    if max(graph_bytes(config, geometry).values()) <= most:
        return config
    if may_shrink and NETWORKS[config.network].starts_as_pca and not config.is_grid:
        for width in _WIDTHS:
            narrow = replace(config, hidden=(min(width, *config.hidden),) * len(config.hidden))
            if max(graph_bytes(narrow, geometry).values()) <= most:
                return narrow
    sizes = graph_bytes(config, geometry)
    least = (
        ""
        if config.is_grid
        else (
            "leave out what asks for vector codes (--size, --code-dim): graphs for pictures of any size are small; or "
        )
    )
    raise OptionError(
        f"the graphs of {config.network} for {geometry} with codes of {config.code_dim:,} numbers",
        expected=f"at most {in_megabytes(most)} each",
        found=" and ".join(f"{role} {in_megabytes(size)}" for role, size in sizes.items()),
        fix=f"{least}give a smaller {'--preset' if config.is_grid else '--size, --hidden or --code-dim'}; or a larger "
        "--max-model-size",
    )


def in_megabytes(size: int) -> str:
    """Return bytes as megabytes, such as 6.0 MB, or kilobytes if they are few."""
    if size < 10**5:
        return f"{size / 1e3:,.0f} kB"
    return f"{size / 1e6:,.1f} MB" if size < 99.95e6 else f"{size / 1e6:,.0f} MB"
