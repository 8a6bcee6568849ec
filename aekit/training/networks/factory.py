"""Make the network a config describes."""

import torch
from torch import nn

from aekit.pca import Pca
from aekit.spec import Geometry
from aekit.training.config import TrainConfig
from aekit.training.networks.autoencoder import Autoencoder
from aekit.training.networks.plain import conv, mlp
from aekit.training.networks.residual import deviations, residual
from aekit.training.objectives import make_objective

_MAKERS = {"residual": residual, "mlp": mlp, "conv": conv}


def make_network(config: TrainConfig, geometry: Geometry, principal: Pca | None = None) -> Autoencoder:
    """The network a config describes, its weights drawn from the config's seed.

    `principal` are components of the training images, which the residual network starts from; without them its
    weights are of use only to be replaced by saved ones.

    Raises OptionError for sizes that the network can't take.
    """
    objective = make_objective(config.objective, config.options)
    outputs = objective.encoder_outputs(config.code_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, decoder = _MAKERS[config.network](config, geometry, outputs, principal)
        learned = objective.learned(config.code_dim, geometry.channels, deviations(encoder, config.code_dim))
        network = Autoencoder(encoder, decoder, objective, learned)
        if config.init == "normal":
            for parameter in (*encoder.parameters(), *decoder.parameters()):
                nn.init.normal_(parameter)
    return network
