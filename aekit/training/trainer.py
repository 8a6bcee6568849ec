"""A training run from the first batch to the saved weights: epochs, validation, checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aekit.errors import CheckpointError, TrainingError
from aekit.pca import Pca
from aekit.registry import OBJECTIVES
from aekit.training.checkpoint import CHECKPOINT, WEIGHTS, Run, check_fit
from aekit.training.data import TrainingData
from aekit.training.loop import TrainLoop
from aekit.training.networks import Autoencoder, components_wanted, make_network
from aekit.training.reproducible import StopSignal, flushed_denormals, stop_on_signal

_SAVE_SECONDS = 10.0
"""Epochs of a small set take a tenth of a second: checkpoints are not written more often than this."""
_PATIENCE = 0.3
"""Share of the run without a better validation after which it ends early."""


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: a line of metrics.jsonl."""

    epoch: int
    """1 for the first."""
    cost: float
    """Average of the batches' costs, as the book prints it."""
    validation: dict[str, float]
    """The objective's figures on the held-out images, of the epoch's averaged weights; `mse` is one of them."""
    images_per_second: float
    """Training throughput of the epoch."""
    seconds: float
    """Since the run began, without the time it lay interrupted."""


class Interrupted(Exception):
    """The user stopped the run; its state is saved."""


def train(
    run: Run,
    data: TrainingData,
    *,
    resume: bool = False,
    device: str = "cpu",
    principal: Pca | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Epoch:
    """Train the run's network and leave its weights in the run folder; returns the epoch they are from.

    With `resume` the run goes on from its checkpoint; on the CPU, with the same number of threads, it ends with the
    same bits as a run that was never interrupted. `principal` are components of the training images, which a network
    that starts as PCA needs at the start of a run. `on_step` is told the number of steps done.

    Raises TrainingError if the cost stops being a number, Interrupted after SIGINT or SIGTERM, with the state saved,
    CheckpointError if there is nothing sound to resume or another process trains the run, OutputError if the run
    can't be written, OptionError if the network can't have its sizes, and ValueError without the components that the
    network starts from.
    """
    wanted = components_wanted(run.config, data.geometry)
    if wanted and principal is None and not resume:
        raise ValueError(f"the network starts from {wanted} principal components, and none are given")
    with run.locked():
        loop = TrainLoop(run.config, data, device, principal)
        recorder = _Recorder(run, loop)
        if resume:
            recorder.restore()
        with stop_on_signal() as stop, flushed_denormals():
            return recorder.run_epochs(stop, on_epoch, on_step)


class _Recorder:
    """What is kept of a run while its loop turns: costs, the best weights, and the files they are saved in."""

    def __init__(self, run: Run, loop: TrainLoop) -> None:
        self.run, self.loop = run, loop
        self.epochs: list[dict[str, Any]] = []
        self.cost_sum, self.seconds = 0.0, 0.0
        self.best, self.best_step = math.inf, 0
        self.best_weights: dict[str, Tensor] | None = None
        """The best weights so far, if they are not in their file yet."""
        self.saved = time.monotonic()

    def run_epochs(self, stop: StopSignal, on_epoch: Callable[[Epoch], None], on_step: Callable[[int], None]) -> Epoch:
        loop, began = self.loop, time.monotonic() - self.seconds
        while loop.step < loop.total and not self.is_exhausted():
            epoch_began, costs = time.monotonic(), []
            batches = loop.batches()
            for batch in batches:
                costs.append(loop.train_step(batch))
                on_step(loop.step)
                if stop.is_set() and len(costs) < len(batches):
                    self.end_costs(costs)
                    self.save(time.monotonic() - began)
                    raise Interrupted
            # Costs are looked at once an epoch: reading one each step would wait for the step to finish.
            self.end_costs(costs)
            speed = sum(map(len, batches)) / (time.monotonic() - epoch_began)
            epoch = self.end_epoch(speed, began)
            on_epoch(epoch)
            stopped = stop.is_set()  # asked once: a signal between saving and stopping would leave nothing saved
            if stopped or time.monotonic() - self.saved > _SAVE_SECONDS:
                self.save(time.monotonic() - began)
            if stopped:
                raise Interrupted
        if not self.epochs:
            raise CheckpointError(str(self.run.path), expected="epochs to train", found="none")
        self.save(time.monotonic() - began)
        return Epoch(**self.epochs[self.best_epoch - 1])

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, 1 for the first."""
        return -(-self.best_step // self.loop.per_epoch)

    def is_exhausted(self) -> bool:
        """Whether validation stopped getting better a good while ago."""
        return bool(self.loop.config.ema) and self.loop.step - self.best_step > _PATIENCE * self.loop.total

    def end_costs(self, costs: list[Tensor]) -> None:
        self.cost_sum += float(torch.stack(costs).cpu().double().sum())

    def end_epoch(self, speed: float, began: float) -> Epoch:
        """Validate, and keep the weights if they are the best; stop a run that diverged."""
        loop = self.loop
        number = -(-loop.step // loop.per_epoch)
        cost = self.cost_sum / (loop.step - (number - 1) * loop.per_epoch)
        self.cost_sum = 0.0
        figures = loop.validate()
        criterion = figures[OBJECTIVES[loop.config.objective].headline]
        if not (math.isfinite(cost) and math.isfinite(criterion)):
            self.run.write_metrics(self.epochs)
            self.write_best()
            kept = f"the weights of epoch {self.best_epoch} are kept" if self.best_step else "nothing was learned"
            raise TrainingError(
                f"{self.run.path} diverged: the cost became {cost} in epoch {number}",
                fix=f"try a lower --lr than {loop.config.lr:g}; {kept}",
            )
        epoch = Epoch(number, cost, figures, speed, time.monotonic() - began)
        self.epochs.append(asdict(epoch))
        # The book's run exports its last weights; averaged ones are picked by validation, which a small set needs.
        if criterion < self.best or not loop.config.ema:
            self.best, self.best_step = min(criterion, self.best), loop.step
            self.best_weights = {name: value.clone() for name, value in loop.exported.state_dict().items()}
        return epoch

    def write_best(self) -> None:
        """Bring the best weights to their file."""
        if self.best_weights is not None:
            state = {"step": self.best_step, "criterion": self.best}
            self.run.save_tensors(WEIGHTS, self.best_weights, state)
            self.best_weights = None

    def save(self, seconds: float) -> None:
        """Bring metrics, best weights and the checkpoint to the disk, the checkpoint last."""
        loop = self.loop
        self.run.write_metrics(self.epochs)
        self.write_best()
        tensors = {f"network.{name}": value for name, value in loop.network.state_dict().items()}
        if loop.config.ema:
            tensors |= {f"averaged.{name}": value for name, value in loop.averaged.state_dict().items()}
        for index, state in loop.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        finished = loop.step == loop.total or self.is_exhausted()
        facts: dict[str, Any] = {"step": loop.step, "steps_in_all": loop.total, "finished": finished}
        facts |= {"cost_sum": self.cost_sum, "seconds": seconds}
        best = {"best": self.best if self.best_step else None, "best_step": self.best_step}
        self.run.save_tensors(CHECKPOINT, tensors, {**facts, **best, "epochs": self.epochs})
        self.saved = time.monotonic()

    def restore(self) -> None:
        """Take the state from the checkpoint. Raises CheckpointError if it does not fit the run."""
        loop, where = self.loop, str(self.run.path / CHECKPOINT)
        tensors, state = self.run.load_tensors(CHECKPOINT)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
        moments: dict[int, dict[str, Tensor]] = {}
        try:
            for name, tensor in tensors.items():
                part, key = name.split(".", 1)
                parts[part][key] = tensor
            for name, tensor in parts["optimizer"].items():
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = tensor
            if state["steps_in_all"] != loop.total:
                raise ValueError(f"a run of {state['steps_in_all']} steps, not {loop.total}")
            loop.step, self.best_step = int(state["step"]), int(state["best_step"])
            self.best = float(state["best"]) if self.best_step else math.inf
            self.cost_sum, self.seconds = float(state["cost_sum"]), float(state["seconds"])
            # Not from metrics.jsonl, where a kill between the two files leaves epochs that are to come again.
            self.epochs = [asdict(Epoch(**epoch)) for epoch in state["epochs"]]
            if not 0 <= self.best_epoch <= len(self.epochs) <= loop.step <= loop.total:
                raise ValueError(f"{len(self.epochs)} epochs, the best one {self.best_epoch}, {loop.step} steps")
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise CheckpointError(where, expected="the state of this run", found=str(error)[:160]) from error
        for part, network in {"network": loop.network, "averaged": loop.exported}.items():
            if parts[part] or part == "network":
                check_fit(network, parts[part], where)
                network.load_state_dict(parts[part])
        loop.optimizer.load_state_dict({**loop.optimizer.state_dict(), "state": moments})


def load_network(run: Run) -> Autoencoder:
    """The run's network with the weights to export, in evaluation mode."""
    weights, _ = run.load_tensors(WEIGHTS)
    network = make_network(run.config, run.geometry)
    check_fit(network, weights, str(run.path / WEIGHTS))
    network.load_state_dict(weights)
    return network.eval()
