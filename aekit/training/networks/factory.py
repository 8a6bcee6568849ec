"""Make the network that a config describes, and check its size first."""

import torch
from torch import nn

from aekit.errors import OptionError
from aekit.pca import Pca
from aekit.registry import NETWORKS
from aekit.spec import Geometry
from aekit.training.config import TrainConfig
from aekit.training.networks.autoencoder import Autoencoder
from aekit.training.networks.residual import deviations
from aekit.training.objectives import make_objective

MAX_WEIGHT_BYTES = 2**31 - 2**20
"""Largest encoder or decoder accepted, in bytes of float32 weights. Each becomes one ONNX file, at most 2 GiB large."""


def make_network(config: TrainConfig, geometry: Geometry, principal: Pca | None = None) -> Autoencoder:
    """Make the network that a config describes. The config's seed decides its first weights.

    `principal` are components of the training images. The residual network starts from them; without them its weights
    are placeholders until saved weights are loaded.

    Raises OptionError if the network can't have these sizes, or would be too large (see check_size).
    """
    check_size(config, geometry)
    objective = make_objective(config.objective, config.options)
    outputs = objective.encoder_outputs(config.code_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, decoder = NETWORKS[config.network].load()(config, geometry, outputs, principal)
        learned = objective.learned(config.code_dim, geometry.channels, deviations(encoder, config.code_dim))
        network = Autoencoder(encoder, decoder, objective, learned)
        if config.init == "normal":
            for parameter in (*encoder.parameters(), *decoder.parameters()):
                nn.init.normal_(parameter)
    return network


def check_size(config: TrainConfig, geometry: Geometry) -> None:
    """Raise OptionError if the network can't have the config's sizes or is larger than MAX_WEIGHT_BYTES.

    The network is made on torch's `meta` device, which knows shapes and allocates nothing.
    """
    outputs = make_objective(config.objective, config.options).encoder_outputs(config.code_dim)
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
