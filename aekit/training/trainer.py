"""The training loop, from the first batch to the saved weights."""

import copy
import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aekit.errors import CheckpointError, OptionError, TrainingError
from aekit.images import Pixels
from aekit.training.checkpoint import CHECKPOINT, WEIGHTS, Run, check_fit
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder, make_network
from aekit.training.objectives import make_objective
from aekit.training.optimizers import learning_rate, make_optimizer

_VALIDATION_BATCH = 1000


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: a line of metrics.jsonl."""

    epoch: int
    """1 for the first."""
    cost: float
    """Average of the batches' costs, as the book prints it."""
    validation_mse: float
    """Mean squared error on the held-out images, pixels in [0, 1], of the weights that would be exported."""
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
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
) -> Epoch:
    """Train the run's network and leave its weights in the run folder; returns the last epoch.

    With `resume` the run goes on from its checkpoint; on the CPU, with the same number of threads, it ends with the
    same bits as a run that was never interrupted. `on_step` is told the number of steps done.

    Raises TrainingError if the cost stops being a number, Interrupted after SIGINT or SIGTERM, with the state saved,
    CheckpointError if there is nothing sound to resume.
    """
    torch.set_flush_denormal(True)  # denormal weights and moments make the CPU several times slower
    loop = _Loop(run, data, device)
    if resume:
        loop.restore()
    with _stop_on_signal() as stopped:
        return loop.run_epochs(stopped, on_epoch, on_step)


class _Loop:
    """The state of a run between two steps."""

    def __init__(self, run: Run, data: TrainingData, device: str) -> None:
        self.run, self.config, self.device = run, run.config, torch.device(device)
        self.images = _tensor(data.train).to(self.device)
        self.validation = _tensor(data.validation).to(self.device)
        self.network = make_network(self.config, data.geometry).to(self.device)
        self.objective = make_objective(self.config.objective)
        self.optimizer = make_optimizer(self.config, self.network)
        self.averaged = copy.deepcopy(self.network)
        self.exported = self.averaged if self.config.ema else self.network
        self.per_epoch = math.ceil(len(self.images) / self.config.batch_size)
        self.total = self.config.epochs * self.per_epoch
        self.step = 0
        self.cost_sum = 0.0
        self.best = math.inf
        self.seconds = 0.0
        self.epochs: list[dict[str, Any]] = []

    def run_epochs(
        self,
        stopped: threading.Event,
        on_epoch: Callable[[Epoch], None],
        on_step: Callable[[int], None],
    ) -> Epoch:
        began = time.monotonic() - self.seconds
        while self.step < self.total:
            epoch, first = self.step // self.per_epoch, self.step % self.per_epoch
            order = torch.randperm(len(self.images), generator=_generator(self.config.seed, 0, epoch))
            batches = order.to(self.device).split(self.config.batch_size)
            epoch_began, costs = time.monotonic(), []
            for batch in batches[first:]:
                costs.append(self.train_step(batch))
                self.step += 1
                on_step(self.step)
                if stopped.is_set() and self.step % self.per_epoch:
                    self.cost_sum += float(torch.stack(costs).double().sum())
                    self.save(time.monotonic() - began)
                    raise Interrupted
            # Costs are looked at once an epoch: reading one each step would wait for the step to finish.
            self.cost_sum += float(torch.stack(costs).double().sum())
            trained = (len(batches) - first) * self.config.batch_size
            speed = trained / (time.monotonic() - epoch_began)
            on_epoch(self.end_epoch(epoch + 1, speed, began))
            if stopped.is_set():
                raise Interrupted
        if not self.epochs:
            raise CheckpointError(str(self.run.path), expected="epochs to train", found="none")
        return Epoch(**self.epochs[-1])

    def train_step(self, batch: Tensor) -> Tensor:
        """One update on the images of these rows; returns the cost, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.total)
        # uint8 pixels become floats a batch at a time: the whole set as floats would be four times as large.
        images = self.images[batch].float().div_(255)
        loss = self.objective.loss(self.network, images, _generator(self.config.seed, 1, self.step))
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        if self.config.ema:
            # Short runs want a short memory: the average covers at most about a tenth of the steps so far.
            decay = min(self.config.ema, 1 - 10 / (self.step + 11))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)
        return loss.detach()

    def end_epoch(self, number: int, speed: float, began: float) -> Epoch:
        """Validate, keep the weights if they are the best, and save everything."""
        cost = self.cost_sum / self.per_epoch
        if not math.isfinite(cost):
            raise TrainingError(
                f"{self.run.path}: the cost became {cost} in epoch {number}",
                fix=f"try a lower --lr than {self.config.lr:g}; the weights of epoch {number - 1} are kept",
            )
        mse = validation_mse(self.exported, self.validation)
        seconds = time.monotonic() - began
        epoch = Epoch(number, cost, mse, speed, seconds)
        self.epochs.append(asdict(epoch))
        self.cost_sum = 0.0
        # The book exports its last weights; the averaged ones of the best epoch are better on a small set.
        if mse < self.best or not self.config.ema:
            self.best = min(mse, self.best)
            self.run.save_tensors(WEIGHTS, self.exported.state_dict(), {"epoch": number, "validation_mse": mse})
        self.run.write_metrics(self.epochs)
        self.save(seconds)
        return epoch

    def save(self, seconds: float) -> None:
        """Replace the checkpoint with the state as it is."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.config.ema:
            tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        state = {"step": self.step, "cost_sum": self.cost_sum, "best": self.best, "seconds": seconds}
        self.run.save_tensors(CHECKPOINT, tensors, {**state, "steps_in_all": self.total})

    def restore(self) -> None:
        """Take the state from the checkpoint. Raises CheckpointError if it does not fit the run."""
        tensors, state = self.run.load_tensors(CHECKPOINT)
        where = str(self.run.path / CHECKPOINT)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
        try:
            for name, tensor in tensors.items():
                part, key = name.split(".", 1)
                parts[part][key] = tensor
            if state["steps_in_all"] != self.total:
                raise CheckpointError(
                    where, expected=f"a run of {self.total:,} steps", found=f"{state['steps_in_all']:,}",
                    fix="give the same data as when the run began",
                )  # fmt: skip
            self.step, self.cost_sum = int(state["step"]), float(state["cost_sum"])
            self.best, self.seconds = float(state["best"]), float(state["seconds"])
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts["optimizer"].items():
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = tensor
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(where, expected="the state of a run", found=repr(error)[:160]) from error
        for part, network in {"network": self.network, "averaged": self.exported}.items():
            if parts[part] or part == "network":
                check_fit(network, parts[part], where)
                network.load_state_dict(parts[part])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        # A kill between the two files leaves a metrics line that the checkpoint does not know.
        self.epochs = [epoch for epoch in self.run.metrics() if epoch["epoch"] * self.per_epoch <= self.step]


def load_network(run: Run) -> tuple[Autoencoder, dict[str, Any]]:
    """The run's network with the weights to export, in evaluation mode, and the epoch and cost they come from."""
    weights, state = run.load_tensors(WEIGHTS)
    network = make_network(run.config, run.geometry)
    check_fit(network, weights, str(run.path / WEIGHTS))
    network.load_state_dict(weights)
    return network.eval(), state


def choose_device(name: str) -> str:
    """The torch device of `auto`, `cpu`, `cuda` or `mps`. Raises OptionError if it is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there.get(name):
        found = ", ".join(device for device, is_there in there.items() if is_there)
        raise OptionError(f"--device {name}", expected="auto, cpu, cuda or mps", found=f"{found} on this machine")
    return name


@torch.no_grad()
def validation_mse(network: Autoencoder, images: Tensor) -> float:
    """Mean squared error over pixels in [0, 1] of uint8 images [n, C, H, W], clipped as the exported graph clips."""
    network.eval()
    total = 0.0
    for batch in images.split(_VALIDATION_BATCH):
        x = batch.float().div_(255)
        x_hat = network.decode(network.encode(x)).clamp(0, 1)
        total += float((x_hat - x).square().double().sum())
    network.train()
    return total / images.numel()


def _tensor(images: Pixels) -> Tensor:
    """uint8 [n, H, W, C] as the networks take them, [n, C, H, W]; for gray images the memory is shared."""
    if not images.flags.writeable:
        images = images.copy()
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _generator(*key: int) -> torch.Generator:
    """Chance that depends on the seed and the place in the run alone, so that resuming needs no saved state."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets, so that a step is never cut in two; a second signal acts as usual."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, _: Any) -> None:
        stopped.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
