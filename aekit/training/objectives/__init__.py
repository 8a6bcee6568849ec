"""Objectives: what a network is trained to minimise. Each is a module of this package and a line in OBJECTIVES."""

from typing import Protocol

import torch
from torch import Tensor

from aekit.errors import OptionError
from aekit.training.networks import Autoencoder
from aekit.training.objectives.plain import Plain


class Objective(Protocol):
    """The loss of a batch."""

    def loss(self, network: Autoencoder, images: Tensor, rng: torch.Generator) -> Tensor:
        """A scalar to minimise, for images [n, C, H, W] in [0, 1]; all chance comes from `rng`."""
        ...


OBJECTIVES: dict[str, type[Objective]] = {
    "plain": Plain,
}


def make_objective(name: str) -> Objective:
    """The objective a user named. Raises OptionError for an unknown one."""
    if name not in OBJECTIVES:
        raise OptionError("--objective", expected=" or ".join(OBJECTIVES), found=repr(name))
    return OBJECTIVES[name]()
