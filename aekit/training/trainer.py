"""A training run from the first batch to the saved weights: epochs, validation, checkpoints."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aekit.errors import CheckpointError, TrainingError
from aekit.registry import OBJECTIVES
from aekit.training.checkpoint import CHECKPOINT, WEIGHTS, Run, check_fit
from aekit.training.data import TrainingData
from aekit.training.loops import Loop, make_loop
from aekit.training.networks import Autoencoder, components_wanted, make_network
from aekit.training.networks.factory import Start
from aekit.training.pictures import PictureData
from aekit.training.reproducible import StopSignal, flushed_denormals, stop_on_signal

_SAVE_SECONDS = 10.0
"""Least time between two checkpoints, in seconds. An epoch of a small set takes a tenth of a second."""
_MOST_OFF = 0.02
"""Share of a run by which its steps may miss a deadline before their number is changed."""


@dataclass(frozen=True)
class Epoch:
    """Figures of an epoch: one line of metrics.jsonl."""

    epoch: int
    """Number of the epoch, 1 for the first; 0 for the network as it was before the first step."""
    cost: float
    """Mean cost of the batches, as the book prints it; NaN for epoch 0."""
    validation: dict[str, float]
    """The objective's figures on the held-out images, with the averaged weights if there are any; `mse` is one."""
    images_per_second: float
    """Training throughput during the epoch."""
    seconds: float
    """Time since the run began, in seconds, without interruptions."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run came to."""

    kept: Epoch
    """The epoch whose weights are kept."""
    start: dict[str, float]
    """The objective's figures before the first step; empty if an older aekit began the run."""
    epochs: int
    """Epochs that were trained."""
    is_exhausted: bool
    """Whether the run ended early, because validation no longer improved."""


class Interrupted(Exception):
    """The user stopped the run; its state is saved."""


def train(
    run: Run,
    data: TrainingData | PictureData,
    *,
    resume: bool = False,
    device: str = "cpu",
    principal: Start | None = None,
    deadline: float | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Train the run's network and write its weights to the run folder. Return which epoch's weights are kept, and why.

    Args:
        run: the run folder.
        data: the images of the run.
        resume: continue from the run's checkpoint. On the CPU, with the same number of threads, the run ends with the
            same bits as a run that was never interrupted.
        device: torch device.
        principal: principal components of the training images, or for grid codes the statistics of their blocks. A
            network that starts as PCA needs them, unless `resume` is given.
        deadline: when the run must end, in seconds of time.monotonic(). The number of steps is adjusted to it.
        on_epoch: called after each epoch.
        on_step: called after each step with the number of steps done.

    Raises:
        TrainingError: the cost stopped being a number.
        Interrupted: SIGINT or SIGTERM arrived; the state is saved.
        CheckpointError: there is no sound checkpoint to resume from, or another process trains the run.
        OutputError: the run can't be written.
        OptionError: the network can't have the config's sizes.
        ValueError: `principal` is missing.
    """
    wanted = components_wanted(run.config, data.geometry)
    if wanted and principal is None and not resume:
        raise ValueError(f"the network starts from {wanted} principal components, and none are given")
    with run.locked():
        loop = make_loop(run.config, data, device, principal)
        recorder = _Recorder(run, loop)
        if resume:
            recorder.restore()
        with stop_on_signal() as stop, flushed_denormals(), loop.team.at_work():
            return recorder.run_epochs(stop, deadline, on_epoch, on_step)


class _Recorder:
    """Run the epochs of a loop, and keep their costs and the best weights in memory and in the run folder."""

    def __init__(self, run: Run, loop: Loop) -> None:
        self.run, self.loop = run, loop
        self.epochs: list[dict[str, Any]] = []
        self.cost_sum, self.seconds = 0.0, 0.0
        self.best, self.best_step = math.inf, 0
        self.start: dict[str, float] = {}
        self.validating = 0.0
        """Seconds that the last validation took."""
        self.best_weights: dict[str, Tensor] | None = None
        """The best weights so far; None once they are in their file."""
        self.saved = time.monotonic()

    def run_epochs(
        self,
        stop: StopSignal,
        deadline: float | None,
        on_epoch: Callable[[Epoch], None],
        on_step: Callable[[int], None],
    ) -> Outcome:
        loop, began = self.loop, time.monotonic() - self.seconds
        if not loop.step:
            left = math.inf if deadline is None else deadline - time.monotonic()
            self.measure_start()
            if deadline is not None:
                self.adjust_length(deadline, left / loop.total + self.validating / loop.per_epoch)
        while loop.step < loop.total and not self.is_exhausted():
            epoch_began, costs = time.monotonic(), []
            batches = loop.batches()
            for batch in batches:
                costs.append(loop.train_step(batch))
                on_step(loop.step)
                if deadline is not None and time.monotonic() > deadline - self.validating:
                    loop.total = loop.step
                    break
                if stop.is_set() and len(costs) < len(batches):
                    self.end_costs(costs)
                    self.save(time.monotonic() - began)
                    raise Interrupted
            # Costs are read once per epoch: reading one in each step would wait for the step to finish.
            self.end_costs(costs)
            speed = loop.images_in(batches[: len(costs)]) / (time.monotonic() - epoch_began)
            epoch = self.end_epoch(speed, began)
            on_epoch(epoch)
            if deadline is not None:
                self.adjust_length(deadline, (time.monotonic() - epoch_began) / len(costs))
            stopped = stop.is_set()  # read once: a signal that came after the save would stop the run with no save
            if stopped or time.monotonic() - self.saved > _SAVE_SECONDS:
                self.save(time.monotonic() - began)
            if stopped:
                raise Interrupted
        if not self.epochs:
            raise CheckpointError(str(self.run.path), expected="epochs to train", found="none")
        self.save(time.monotonic() - began)
        kept = Epoch(0, math.nan, self.start, 0.0, 0.0)
        if self.best_epoch:
            kept = Epoch(**self.epochs[self.best_epoch - 1])
        return Outcome(kept, self.start, len(self.epochs), self.is_exhausted() and loop.step < loop.total)

    def measure_start(self) -> None:
        """Validate the network as it is before the first step. With averaging, its weights are the first to be kept."""
        self.start = self.validated()
        criterion = self.start[self.headline]
        if self.loop.config.ema and math.isfinite(criterion):
            self.best, self.best_weights = criterion, self.copied_weights()

    def adjust_length(self, deadline: float, seconds: float) -> None:
        """Let the run end at the deadline, given the seconds that a step takes with its share of a validation.

        Small differences are left: the learning rate follows the share of the run that is done.
        """
        loop = self.loop
        steps = round((deadline - self.validating - time.monotonic()) / seconds)
        total = loop.step + max(steps, 0 if loop.step else 1)
        if abs(total - loop.total) > _MOST_OFF * loop.total:
            loop.total = total

    def validated(self) -> dict[str, float]:
        """Return the loop's figures, and keep the time that they took."""
        began = time.monotonic()
        figures = self.loop.validate()
        self.validating = time.monotonic() - began
        return figures

    @property
    def headline(self) -> str:
        """Name of the validation figure that picks the weights to keep."""
        return OBJECTIVES[self.loop.config.objective].headline

    def copied_weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights to export."""
        return {name: value.clone() for name, value in self.loop.exported.state_dict().items()}

    @property
    def best_epoch(self) -> int:
        """Number of the epoch whose weights are kept, 1 for the first; 0 for the weights before the first step."""
        return -(-self.best_step // self.loop.per_epoch)

    def is_exhausted(self) -> bool:
        """Return whether validation has not improved over the last part of the run, the loop's patience.

        A run that is not yet better than its start goes on.
        """
        validated = min(len(self.epochs) * self.loop.per_epoch, self.loop.total)
        return (
            bool(self.loop.config.ema and self.best_step)
            and validated - self.best_step > self.loop.patience * self.loop.total
        )

    def end_costs(self, costs: list[Tensor]) -> None:
        self.cost_sum += float(torch.stack(costs).cpu().double().sum())

    def end_epoch(self, speed: float, began: float) -> Epoch:
        """Validate, and keep the weights if they are the best so far. Raises TrainingError if the run diverged."""
        loop = self.loop
        number = -(-loop.step // loop.per_epoch)
        cost = self.cost_sum / (loop.step - (number - 1) * loop.per_epoch)
        self.cost_sum = 0.0
        figures = self.validated()
        criterion = figures[self.headline]
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
        # Without averaging, as in the book, the last weights are kept. With it, validation picks the best weights: a
        # network overfits a small set towards the end.
        if criterion < self.best or not loop.config.ema:
            self.best, self.best_step = min(criterion, self.best), loop.step
            self.best_weights = self.copied_weights()
        return epoch

    def write_best(self) -> None:
        """Write the best weights to their file."""
        if self.best_weights is not None:
            state = {"step": self.best_step, "criterion": self.best}
            self.run.save_tensors(WEIGHTS, self.best_weights, state)
            self.best_weights = None

    def save(self, seconds: float) -> None:
        """Write the metrics, the best weights and, last, the checkpoint. `seconds` is the training time so far."""
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
        best = {"best": self.best if math.isfinite(self.best) else None, "best_step": self.best_step}
        best["start"] = self.start
        self.run.save_tensors(CHECKPOINT, tensors, {**facts, **best, "epochs": self.epochs})
        self.saved = time.monotonic()

    def restore(self) -> None:
        """Read the state from the checkpoint. Raises CheckpointError if it does not fit the run."""
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
            loop.total = int(state["steps_in_all"])  # a --budget may have changed what the config says
            loop.step, self.best_step = int(state["step"]), int(state["best_step"])
            self.best = math.inf if state["best"] is None else float(state["best"])
            self.start = {str(name): float(value) for name, value in state.get("start", {}).items()}
            self.cost_sum, self.seconds = float(state["cost_sum"]), float(state["seconds"])
            # Not from metrics.jsonl: after a kill between the two writes, it has epochs that will be trained again.
            self.epochs = [asdict(Epoch(**epoch)) for epoch in state["epochs"]]
            if not 0 <= self.best_epoch <= len(self.epochs) <= loop.step <= loop.total:
                raise ValueError(f"{len(self.epochs)} epochs, the best one {self.best_epoch}, {loop.step} steps")
        except (AttributeError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise CheckpointError(where, expected="the state of this run", found=str(error)[:160]) from error
        for part, network in {"network": loop.network, "averaged": loop.exported}.items():
            if parts[part] or part == "network":
                check_fit(network, parts[part], where)
                network.load_state_dict(parts[part])
        loop.optimizer.load_state_dict({**loop.optimizer.state_dict(), "state": moments})


def load_network(run: Run) -> Autoencoder:
    """Make the run's network with the weights to export, in evaluation mode.

    Raises CheckpointError if the weights are missing, damaged or do not fit, OptionError if the network can't have the
    config's sizes.
    """
    weights, _ = run.load_tensors(WEIGHTS)
    network = make_network(run.config, run.geometry)
    check_fit(network, weights, str(run.path / WEIGHTS))
    network.load_state_dict(weights)
    return network.eval()
