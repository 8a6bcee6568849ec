"""The training step for grid codes: crops of pictures of any sizes, and validation on whole held-out pictures.

crops ─▶ objective.crop_loss ─▶ gradients, clipped ─▶ AdamW ─▶ averaged weights
held-out pictures ─▶ objective.measure, with the averaged weights ─▶ means over pictures

All chance of a step comes from the seed and the number of the step, so that a run resumes to the same bits.
"""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from aekit.training.config import TrainConfig
from aekit.training.crops import CropSampler
from aekit.training.held_out import HeldOut, PictureBatch
from aekit.training.networks import make_network
from aekit.training.networks.blocks import BlockStatistics
from aekit.training.objectives.grid import GridObjective
from aekit.training.optimizers import learning_rate, make_grid_optimizer
from aekit.training.pictures import PictureData
from aekit.training.reproducible import generator
from aekit.training.team import Team, shares_of

CROP = 96
"""Longest side of a crop, pixels."""
_CLIP = 1.0
"""Largest norm of the gradient of the encoder and decoder."""
_FEWEST_STEPS, _MOST_STEPS = 100, 500
"""Least and largest number of steps in an epoch. Between them, the crops of an epoch have as many places as all the
training pictures together."""
_STEPS = 3000
"""Steps of a run without --epochs, --steps or --budget. On 2 cores they take about 8 minutes with the preset `default`,
1 with `tiny`, 3 with `small` and 15 with `large`."""
_STEERINGS, _STEERED_ON = 200, 6
"""Times in a run that GridObjective.steer_crops is called, and the number of batches of held-out crops that it gets."""


class GridLoop:
    """The network, its optimizer and the pictures: everything that a step needs and changes."""

    patience = 1.0
    """No run ends early: its last part fits the decoder to codes as they are stored."""

    def __init__(
        self,
        config: TrainConfig,
        data: PictureData,
        device: str,
        start: BlockStatistics | None,
        team: Team | None = None,
    ) -> None:
        """Begin a run. Without a `team`, torch divides each operation among its threads."""
        self.config, self.device, self.team = config, torch.device(device), team or Team()
        stride = data.geometry.stride
        self.places = config.batch_size * (CROP // stride) ** 2
        self.network = make_network(config, data.geometry, start).to(self.device)
        objective = self.network.objective
        assert isinstance(objective, GridObjective)
        self.objective = objective
        self.optimizer = make_grid_optimizer(config, self.network, self.team)
        self.averaged = copy.deepcopy(self.network)
        self.parameters: list[Tensor] = list(self.network.parameters())
        self.trained = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.averages: list[Tensor] = list(self.averaged.parameters())
        self.exported = self.averaged if config.ema else self.network
        self.clipped = [*self.network.encoder.parameters(), *self.network.decoder.parameters()]
        self.crops = CropSampler(data.train, CROP, stride, flips=config.augment > 0)
        self.per_epoch = steps_per_epoch(config, data)
        self.total = steps_in_all(config, data)
        self.step = 0
        self.pictures = len(data.train) * self.places / _places(data)
        """Pictures that have as many places together as a batch."""
        self.held_out = HeldOut(data.validation, stride, CROP, self.places, self.per_epoch)
        self.steer_every = max(self.total // _STEERINGS, 1)

    def batches(self) -> range:
        """Return the numbers of the remaining steps of the current epoch."""
        end = (self.step // self.per_epoch + 1) * self.per_epoch
        return range(self.step, min(end, self.total))

    def images_in(self, batches: Sequence[int]) -> float:
        """Return how many pictures have as many places together as the crops of these steps."""
        return len(batches) * self.pictures

    def train_step(self, _: int) -> Tensor:
        """Update the weights once on the next batch of crops. Return the cost, a scalar on the device."""
        config = self.config
        for group in self.optimizer.param_groups:
            rate = learning_rate(config, self.step, self.total, self.objective.last_share)
            group["lr"] = rate * group.get("faster", 1)
        batch = self.crops.batch(self.places, np.random.default_rng([config.seed, 1, self.step]))
        pixels, inside = (shares_of(part, self.team.size, 1) for part in (batch.pixels, batch.inside))
        weights = [float(part.sum()) / float(batch.inside.sum()) for part in inside]
        loss = self.team.gradients(self._cost, self.trained, weights, pixels, inside, range(len(pixels)))
        nn.utils.clip_grad_norm_(self.clipped, _CLIP)
        self.optimizer.step()
        self.step += 1
        if self.step % self.steer_every == 0:
            self.steer()
        if config.ema:
            decay = min(config.ema, (1 + self.step) / (10 + self.step))  # a short memory at first
            self.team.move(self.averages, self.parameters, 1 - decay)
        return loss

    def _cost(self, pixels: Tensor, inside: Tensor, number: int) -> Tensor:
        """Return the cost of a share of a batch of crops. Shares differ in their chance."""
        x, inside = to_floats(pixels.to(self.device)), inside.to(self.device)
        rng = generator(self.config.seed, 1, self.step, number)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.objective.crop_loss(self.network, x, inside, rng, self.step / self.total)

    @torch.no_grad()
    def steer(self) -> None:
        """Let the objective adjust itself on held-out crops, drawn anew each time."""
        if self.objective.bytes_asked is None:
            return
        rng = np.random.default_rng([self.config.seed, 2, self.step])
        crops = [self.held_out.crops.batch(self.places, rng).pixels for _ in range(_STEERED_ON)]
        batches = [to_floats(pixels.to(self.device)) for pixels in crops]
        share = self.steer_every / self.total
        self.objective.steer_crops(self.network, batches, self.held_out.mean_places, share)

    def validate(self) -> dict[str, float]:
        """Return the objective's figures for the weights to export, each a mean over held-out pictures.

        `psnr` is the mean over pictures of each one's PSNR in dB, or 100 dB if that is less.
        """
        sums: dict[str, float] = {}
        parts = list(self.held_out.parts())
        for figures in self.team.map(self._figures, parts, range(len(parts))):
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value
        means = {name: total / self.held_out.count for name, total in sums.items()}
        return self.objective.summary(self.exported, means)

    @torch.no_grad()
    def _figures(self, part: PictureBatch, number: int) -> dict[str, float]:
        """Return the sums over some held-out pictures of the objective's figures."""
        rng = generator(0, number)  # the same noise each time, so that epochs can be compared
        x, inside = to_floats(part.pixels.to(self.device)), part.inside.to(self.device)
        figures = self.objective.measure(self.exported, x, inside, rng)
        figures["psnr"] = -10 * figures["mse"].clamp(min=1e-10).log10()
        if "bytes" in figures:  # of a part of a large picture
            figures["bytes"] = figures["bytes"] * part.factors.to(self.device)
        return {name: float(values.double().sum()) for name, values in figures.items()}


def steps_per_epoch(config: TrainConfig, data: PictureData) -> int:
    """Return the number of steps in an epoch on these pictures."""
    places = config.batch_size * (CROP // data.geometry.stride) ** 2
    return min(max(math.ceil(_places(data) / places), _FEWEST_STEPS), _MOST_STEPS)


def steps_in_all(config: TrainConfig, data: PictureData) -> int:
    """Return the number of steps in a run on these pictures."""
    return config.steps or (config.epochs * steps_per_epoch(config, data) or _STEPS)


def to_floats(pixels: Tensor) -> Tensor:
    """Convert uint8 pixels [n, C, H, W] to floats in [0, 1], channels last in memory: convolutions are faster so."""
    return pixels.float().div_(255).contiguous(memory_format=torch.channels_last)


def _places(data: PictureData) -> int:
    """Return the number of places in the codes of all training pictures."""
    shapes = [data.geometry.code_shape(*picture.shape[:2]) for picture in data.train]
    return sum(rows * columns for rows, columns in shapes)
