"""What a run keeps while it trains: the figures of its epochs, the best weights and the checkpoint."""

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aekit.errors import CheckpointError, TrainingError
from aekit.registry import OBJECTIVES
from aekit.training.checkpoint import CHECKPOINT, WEIGHTS, Run, check_fit
from aekit.training.loops import Loop


@dataclass(frozen=True)
class Epoch:
    """Figures of an epoch: one line of metrics.jsonl."""

    epoch: int
    """Number of the epoch, 1 for the first; 0 for the network before the first step."""
    cost: float
    """Mean cost of the batches, as the book prints it; NaN for epoch 0."""
    validation: dict[str, float]
    """The objective's figures on the held-out images, with the averaged weights if there are any; `mse` is one."""
    images_per_second: float
    """Training throughput during the epoch."""
    seconds: float
    """Time since the run began, in seconds, without interruptions."""


class Recorder:
    """Keep the figures of a loop's epochs and the best weights, in memory and in the run folder."""

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

    def measure_start(self) -> None:
        """Validate the network before the first step. With averaging, its weights are the first to be kept."""
        self.start = self.validated()
        criterion = self.start[self.headline]
        if self.loop.config.ema and math.isfinite(criterion):
            self.best, self.best_weights = criterion, self.copied_weights()

    def validated(self) -> dict[str, float]:
        """Validate the network and keep the time that this took. Return the figures by name."""
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
        """Return whether validation has not improved for `loop.patience`, a share of the run's steps.

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
        best: dict[str, Any] = {"best": self.best if math.isfinite(self.best) else None, "best_step": self.best_step}
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
