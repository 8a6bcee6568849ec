"""The training step, the state it changes, and the number of steps in a run."""

import copy
import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from aekit.images.decode import Pixels
from aekit.pca import Pca
from aekit.training.augment import relight, warp
from aekit.training.config import TrainConfig
from aekit.training.data import TrainingData
from aekit.training.networks import make_network
from aekit.training.optimizers import learning_rate, make_optimizer
from aekit.training.reproducible import generator
from aekit.training.team import Team, shares_of

_VALIDATION_BATCH = 1000
_VISITS, _FEWEST_EPOCHS, _MOST_EPOCHS = 3_000_000, 20, 200
"""Length of a run without --epochs, --steps or --budget: it trains on about 3,000,000 images, counting repeats, but in
no fewer than 20 epochs and no more than 200."""
_AUGMENT_END = 0.9
"""Share of the run after which images are no longer warped, so that training ends on real images."""
_RELIT_VISITS = 100
"""Least number of visits to each colour image for which a run changes the light of images and mirrors them. A network
that sees 6,269 traffic signs over 100 times then takes 2 % fewer bytes for the same error on other signs. Shorter runs
learn too slowly with such changes."""
_STEER_EVERY, _STEER_IMAGES = 8, 256
"""Steps between two calls of Objective.steer, and the largest number of held-out images that a call gets."""
_FEWEST_IMAGES = 32
"""Least number of images in a share of a batch, unless the batch has fewer. Smaller shares are not worth a thread."""
_EMA_EVERY = 4
"""Steps between two updates of the averaged weights. An update reads and writes every weight, so it is not done in each
step."""


class TrainLoop:
    """The network, its optimizer and the images: everything that a step needs and changes."""

    patience = 0.3
    """A run ends early if validation has not improved over this share of the run."""

    def __init__(
        self, config: TrainConfig, data: TrainingData, device: str, principal: Pca | None, team: Team | None = None
    ) -> None:
        """Begin a run. Without a `team`, torch divides each operation among its threads."""
        self.config, self.device, self.team = config, torch.device(device), team or Team()
        self.images = _tensor(data.train).to(self.device)  # uint8 [n, H, W, C]; a mapped file stays mapped
        self.validation = _tensor(data.validation).to(self.device)
        self.network = make_network(config, data.geometry, principal).to(self.device)
        self.optimizer = make_optimizer(config, self.network, self.team)
        self.averaged = copy.deepcopy(self.network)
        self.parameters: list[Tensor] = list(self.network.parameters())
        self.trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.averages: list[Tensor] = list(self.averaged.parameters())
        self.exported = self.averaged if config.ema else self.network
        self.per_epoch = steps_per_epoch(config, len(self.images))
        self.total = steps_in_all(config, len(self.images))
        self.step = 0

    def batches(self) -> tuple[Tensor, ...]:
        """Return the remaining batches of the current epoch: for each step the rows of its images, int64 [n]."""
        epoch, first = divmod(self.step, self.per_epoch)
        order = torch.randperm(len(self.images), generator=generator(self.config.seed, 0, epoch)).to(self.device)
        left = self.total - epoch * self.per_epoch
        return order.split(self.config.batch_size)[first:left]

    def images_in(self, batches: Sequence[Tensor]) -> float:
        """Return the number of images in some batches."""
        return sum(map(len, batches))

    def train_step(self, batch: Tensor) -> Tensor:
        """Update the weights once on the images in these rows. Return the cost, a scalar on the device."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step, self.total) * group.get("faster", 1)
        shares = shares_of(batch, self.team.size, _FEWEST_IMAGES)
        weights = [len(rows) / len(batch) for rows in shares]
        loss = self.team.gradients(self._cost, self.trained, weights, shares, range(len(shares)))
        self.optimizer.step()
        self.step += 1
        if self.network.learned is not None and self.step % _STEER_EVERY == 0:
            self.steer()
        if config.ema and self.step % _EMA_EVERY == 0:
            # The average starts with a short memory: it covers at most about a tenth of the steps so far.
            decay = min(config.ema**_EMA_EVERY, 1 - 10 / (self.step / _EMA_EVERY + 10))
            # torch's AveragedModel looks up every parameter anew. It takes 9.5 times as long on the preset `small` (484
            # against 51 µs) and 2.4 times as long on `default` (1.77 against 0.71 ms): benchmarks/training_speed.py.
            self.team.move(self.averages, self.parameters, 1 - decay)
        return loss

    def _cost(self, rows: Tensor, number: int) -> Tensor:
        """Return the cost of a share of a batch, the images in these rows. Shares differ in their chance."""
        config, progress = self.config, self.step / self.total
        rng = generator(config.seed, 1, self.step, number)
        # Only one batch at a time becomes floats: the whole set as floats would take four times the memory.
        x = _floats(self.images.index_select(0, rows))
        if config.augment and progress < _AUGMENT_END:
            share = config.augment * (1 - progress / _AUGMENT_END)
            x = warp(x, share, rng)
            if x.shape[1] == 3 and self.total >= _RELIT_VISITS * self.per_epoch:
                x = relight(x, share, rng)
        with self.reduced_precision():
            return self.network.objective.loss(self.network, x, rng, progress)

    @torch.no_grad()
    def steer(self) -> None:
        """Let the objective adjust itself on some held-out images, drawn anew each time."""
        rng = generator(self.config.seed, 2, self.step)
        count = min(_STEER_IMAGES, self.config.batch_size)  # so that it takes no more memory than a step
        rows = torch.randint(len(self.validation), (count,), generator=rng).to(self.device)
        x = _floats(self.validation.index_select(0, rows))
        with self.reduced_precision():
            self.network.objective.steer(self.network, x, _STEER_EVERY / self.total)

    def validate(self) -> dict[str, float]:
        """Return the objective's figures for the weights to export, each a mean over the held-out images."""
        batches = self.validation.split(_VALIDATION_BATCH)
        sums: dict[str, float] = {}
        for batch, figures in zip(batches, self.team.map(self._figures, batches, range(len(batches))), strict=True):
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value * len(batch)
        return {name: value / len(self.validation) for name, value in sums.items()}

    @torch.no_grad()
    def _figures(self, batch: Tensor, number: int) -> dict[str, float]:
        rng = generator(0, number)  # the same noise each time, so that epochs can be compared
        with self.reduced_precision():
            return self.exported.objective.validate(self.exported, _floats(batch), rng)

    def reduced_precision(self) -> AbstractContextManager[Any]:
        """Return a context in which matrix products are done in bfloat16, if the run's precision is `bf16`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")


def steps_per_epoch(config: TrainConfig, images: int) -> int:
    """Return the number of steps in one pass over this many training images."""
    return math.ceil(images / config.batch_size)


def steps_in_all(config: TrainConfig, images: int) -> int:
    """Return the number of steps in a run on this many training images."""
    epochs = config.epochs or min(max(_VISITS // images, _FEWEST_EPOCHS), _MOST_EPOCHS)
    return config.steps or epochs * steps_per_epoch(config, images)


def _floats(images: Tensor) -> Tensor:
    """Convert uint8 images [n, H, W, C] to float32 [n, C, H, W] in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _tensor(images: Pixels) -> Tensor:
    """Return a tensor that shares the array's memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that a mapped file is read-only; nothing here writes images
        return torch.from_numpy(images)
