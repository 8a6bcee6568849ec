"""Choose the loop that trains a run, and the number of steps that fit a time."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from aekit.pca import Pca
from aekit.training import grid_loop, loop
from aekit.training.config import TrainConfig
from aekit.training.data import TrainingData
from aekit.training.grid_loop import GridLoop
from aekit.training.loop import TrainLoop
from aekit.training.networks import Autoencoder
from aekit.training.networks.blocks import BlockStatistics
from aekit.training.networks.factory import Start
from aekit.training.pictures import PictureData
from aekit.training.reproducible import flushed_denormals
from aekit.training.team import Team

END_SECONDS = 0.5
"""Seconds that a run takes after its last step: it writes its files, and the process ends."""


class Loop(Protocol):
    """What the trainer needs of a loop. TrainLoop implements it for vector codes, GridLoop for grid codes."""

    patience: float
    team: Team
    config: TrainConfig
    network: Autoencoder
    averaged: Autoencoder
    exported: Autoencoder
    optimizer: torch.optim.Optimizer
    per_epoch: int
    total: int
    step: int

    def batches(self) -> Sequence[Any]:
        """Return the remaining batches of the current epoch."""

    def images_in(self, batches: Sequence[Any]) -> float:
        """Return the number of images in some batches; a part of a picture counts as a fraction."""

    def train_step(self, batch: Any) -> Tensor:
        """Update the weights once. Return the cost, a scalar on the device."""

    def validate(self) -> dict[str, float]:
        """Return the objective's figures for the weights to export, each a mean over held-out images."""


def make_loop(config: TrainConfig, data: TrainingData | PictureData, device: str, start: Start | None) -> Loop:
    """Make the loop of a run. `start` is what the network starts from; None if weights will be loaded."""
    if isinstance(data, PictureData):
        assert start is None or isinstance(start, BlockStatistics)
        return GridLoop(config, data, device, start, Team.of_device(device))
    assert start is None or isinstance(start, Pca)
    return TrainLoop(config, data, device, start, Team.of_device(device))


def lengths(config: TrainConfig, data: TrainingData | PictureData) -> tuple[int, int]:
    """Return the steps and the epochs of a run; the last epoch may be cut short."""
    if isinstance(data, PictureData):
        steps, in_epoch = grid_loop.steps_in_all(config, data), grid_loop.steps_per_epoch(config, data)
    else:
        steps, in_epoch = loop.steps_in_all(config, len(data.train)), loop.steps_per_epoch(config, len(data.train))
    return steps, -(-steps // in_epoch)


def steps_within(
    seconds: float, config: TrainConfig, data: TrainingData | PictureData, device: str, start: Start | None
) -> int:
    """Return how many steps fit into this many seconds from now. Some steps are done to measure.

    Validation is left out: the trainer measures it, and adjusts the number.

    Raises OptionError if the network can't have the config's sizes.
    """
    called = time.monotonic()
    measured = make_loop(config, data, device, start)
    batches = measured.batches()
    with flushed_denormals(), measured.team.at_work():
        for batch in batches[:3]:  # the first steps are slower: they allocate memory and choose kernels
            measured.train_step(batch)
        began, done = time.monotonic(), 0
        while time.monotonic() - began < min(2.0, 0.05 * seconds) or not done:
            float(measured.train_step(batches[done % len(batches)]))  # float() waits for the GPU
            done += 1
        step = (time.monotonic() - began) / done
    left = seconds - (time.monotonic() - called) - END_SECONDS
    return max(1, round(left / step))
