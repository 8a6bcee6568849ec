"""A training run from the first batch to the saved weights: its epochs, and when it ends."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from aekit.errors import CheckpointError
from aekit.training.checkpoint import WEIGHTS, Run, check_fit
from aekit.training.data import TrainingData
from aekit.training.loops import make_loop
from aekit.training.networks import Autoencoder, components_wanted, make_network
from aekit.training.networks.factory import Start
from aekit.training.pictures import PictureData
from aekit.training.recorder import Epoch, Recorder
from aekit.training.reproducible import StopSignal, flushed_denormals, stop_on_signal

_SAVE_SECONDS = 10.0
"""Least time between two checkpoints, in seconds. An epoch of a small set takes a tenth of a second."""
_MOST_OFF = 0.02
"""Share of a run by which its steps may miss a deadline before their number is changed."""


@dataclass(frozen=True)
class Outcome:
    """Result of a finished run: the epoch whose weights are kept, the start, and how the run ended."""

    kept: Epoch
    """The epoch whose weights are kept."""
    start: dict[str, float]
    """The objective's figures before the first step; empty if an older aekit began the run."""
    epochs: int
    """Number of epochs that were trained."""
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
        recorder = Recorder(run, loop)
        if resume:
            recorder.restore()
        with stop_on_signal() as stop, flushed_denormals(), loop.team.at_work():
            return _run_epochs(recorder, stop, deadline, on_epoch, on_step)


def _run_epochs(
    recorder: Recorder,
    stop: StopSignal,
    deadline: float | None,
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[int], None],
) -> Outcome:
    """Train until the loop ends, the deadline comes, validation stops improving, or the user stops the run."""
    loop, began = recorder.loop, time.monotonic() - recorder.seconds
    if not loop.step:
        left = math.inf if deadline is None else deadline - time.monotonic()
        recorder.measure_start()
        if deadline is not None:
            _adjust_length(recorder, deadline, left / loop.total + recorder.validating / loop.per_epoch)
    while loop.step < loop.total and not recorder.is_exhausted():
        epoch_began, costs = time.monotonic(), []
        batches = loop.batches()
        for batch in batches:
            costs.append(loop.train_step(batch))
            on_step(loop.step)
            if deadline is not None and time.monotonic() > deadline - recorder.validating:
                loop.total = loop.step
                break
            if stop.is_set() and len(costs) < len(batches):
                recorder.end_costs(costs)
                recorder.save(time.monotonic() - began)
                raise Interrupted
        # Costs are read once per epoch: reading one in each step would wait for the step to finish.
        recorder.end_costs(costs)
        speed = loop.images_in(batches[: len(costs)]) / (time.monotonic() - epoch_began)
        epoch = recorder.end_epoch(speed, began)
        on_epoch(epoch)
        if deadline is not None and loop.step < loop.total:  # a finished run gets no more steps
            _adjust_length(recorder, deadline, (time.monotonic() - epoch_began) / len(costs))
        stopped = stop.is_set()  # read once: a signal that came after the save would stop the run with no save
        if stopped or time.monotonic() - recorder.saved > _SAVE_SECONDS:
            recorder.save(time.monotonic() - began)
        if stopped:
            raise Interrupted
    if not recorder.epochs:
        raise CheckpointError(str(recorder.run.path), expected="epochs to train", found="none")
    recorder.save(time.monotonic() - began)
    kept = Epoch(0, math.nan, recorder.start, 0.0, 0.0)
    if recorder.best_epoch:
        kept = Epoch(**recorder.epochs[recorder.best_epoch - 1])
    return Outcome(kept, recorder.start, len(recorder.epochs), recorder.is_exhausted() and loop.step < loop.total)


def _adjust_length(recorder: Recorder, deadline: float, seconds: float) -> None:
    """Let the run end at the deadline, given the seconds that a step takes with its share of a validation.

    Small differences are left: the learning rate follows the share of the run that is done.
    """
    loop = recorder.loop
    steps = round((deadline - recorder.validating - time.monotonic()) / seconds)
    total = loop.step + max(steps, 0 if loop.step else 1)
    if abs(total - loop.total) > _MOST_OFF * loop.total:
        loop.total = total


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
