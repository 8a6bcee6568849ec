"""What `aekit train` prints: the plan, a line for each epoch, progress, and the result."""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aekit.cli.printing import duration, emit, note, progress_line
from aekit.cli.train_lines import end_lines, figures_in_words, plan_lines, size_note
from aekit.runs import FOLDER

if TYPE_CHECKING:
    from aekit.training.plan import Plan, TrainResult
    from aekit.training.recorder import Epoch


class Reporter(contextlib.ExitStack):
    """Print the plan of a run, one line per epoch (at most one per second), and a progress line."""

    def __init__(self) -> None:
        super().__init__()
        self.run, self.epochs, self.said = Path(), 0, -math.inf
        self.deadline: float | None = None
        self.step: Callable[[int], None] = lambda done: self._show(done)
        self._show: Callable[[int], None] = lambda _: None

    def plan(self, plan: "Plan") -> None:
        """Print the plan, and what may go wrong."""
        self.run, self.epochs, self.deadline = plan.run, plan.epochs, plan.deadline
        for record in plan.skipped:
            note(f"skipped {record.path}: {record.error}")
        for line in plan_lines(plan):
            note(line)
        self._show = self.enter_context(progress_line(plan.steps, "step"))

    def epoch(self, epoch: "Epoch") -> None:
        """Print the figures of an epoch."""
        now = time.monotonic()
        if now - self.said < 1 and epoch.epoch < self.epochs:
            return
        self.said = now
        if self.deadline is None:
            number, left = f"{epoch.epoch:>3}/{self.epochs}", epoch.seconds / epoch.epoch * (self.epochs - epoch.epoch)
        else:  # the number of epochs is adjusted to the time
            number, left = f"{epoch.epoch:>3}", max(self.deadline - now, 0.0)
        note(
            f"epoch {number}  {figures_in_words(epoch.validation)}  {epoch.images_per_second:>8,.0f} images/s  "
            f"{duration(left)} left"
        )


def report_result(done: "TrainResult", as_json: bool) -> None:
    """Print the result; exit with status 3 if files were skipped."""
    if said := size_note(done):
        note(said)
    result = {
        "run": str(done.run),
        "epoch": done.epoch,
        "cost": done.cost,
        "validation": done.validation,
        "start": done.start,
        "pca_mse": done.pca_mse,
        "gain": done.gain,
        "ended_early": done.is_exhausted,
        "seconds": round(done.seconds, 1),
        "skipped": [{"path": record.path, "error": record.error} for record in done.skipped],
    }
    following = "next: aekit export" + ("" if done.run.parent == FOLDER else f" {done.run}")
    emit(result, [*end_lines(done), following], as_json)
    if done.skipped:
        raise typer.Exit(3)
