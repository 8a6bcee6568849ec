"""The training loop: reproducible, resumable to the bit, honest about its costs."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import begin, new_run, same_bits, weights

from aekit.errors import TrainingError
from aekit.images.named_sets import load_named_set
from aekit.registry import OBJECTIVES, ObjectiveEntry
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.data import TrainingData, load_training_data
from aekit.training.networks import Autoencoder, make_network
from aekit.training.objectives.plain import Plain
from aekit.training.trainer import Interrupted, train


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path, blobs: TrainingData) -> None:
    runs = [new_run(tmp_path / name, blobs, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for run in runs:
        begin(run, blobs)
    assert same_bits(runs[0], runs[1])
    assert not same_bits(runs[0], runs[2])


@pytest.mark.parametrize(("preset", "precision"), [("default", "fp32"), ("default", "bf16"), ("classic", "fp32")])
@pytest.mark.parametrize("stop_at", [5, 9, 14])  # within the first epoch, at the end of it, within the second
def test_interrupted_run_resumes_to_the_same_bits(
    tmp_path: Path, blobs: TrainingData, preset: str, precision: str, stop_at: int
) -> None:
    whole, cut = (new_run(tmp_path / name, blobs, preset, precision=precision) for name in ("whole", "cut"))
    begin(whole, blobs)

    def stop(step: int) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        begin(cut, blobs, on_step=stop)
    assert cut.unfinished() == f"stopped after step {stop_at} of {3 * math.ceil(len(blobs.train) / 32)}"
    train(cut, blobs, resume=True)
    assert same_bits(whole, cut)
    assert (cut.unfinished(), whole.unfinished()) == (None, None)
    costs = [
        [(line["epoch"], line["cost"], line["validation"]["mse"]) for line in run.metrics()] for run in (whole, cut)
    ]
    assert costs[0] == costs[1]
    assert len(costs[0]) == 3


def test_signals_act_as_before_once_training_is_over(tmp_path: Path, blobs: TrainingData) -> None:
    before = signal.getsignal(signal.SIGINT)
    begin(new_run(tmp_path / "run", blobs, epochs=1), blobs)
    assert signal.getsignal(signal.SIGINT) is before


class Diverges(Plain):
    """The plain objective until the second epoch, then not a number, as a run that blows up."""

    def loss(self, network: Autoencoder, x: torch.Tensor, rng: torch.Generator, progress: float) -> torch.Tensor:
        return super().loss(network, x, rng, progress) * (1.0 if progress < 0.4 else float("nan"))


def test_diverging_run_stops_and_keeps_the_last_good_weights(
    tmp_path: Path, blobs: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "diverges", ObjectiveEntry(f"{__name__}:Diverges", "blows up"))
    run = new_run(tmp_path / "run", blobs, objective="diverges")
    with pytest.raises(TrainingError, match=r"nan in epoch 2.*epoch 1 are kept"):
        begin(run, blobs)
    assert all(torch.isfinite(value).all() for value in weights(run).values())
    assert run.unfinished() == "stopped before its first checkpoint"


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from aekit.errors import CheckpointError
from aekit.pca import Pca
from aekit.training import trainer
from aekit.training.checkpoint import CHECKPOINT, Run
from aekit.training.networks import components_wanted

trainer._SAVE_SECONDS = 0.0  # after every epoch, so that many kills come in the midst of saving
chance, kills = random.Random(0), 0
run = Run.read(Path("cut"))
data = run.load_data()
principal = Pca.fit(data.train, components_wanted(run.config, data.geometry))
while True:
    child = os.fork()  # a process of its own, which need not load torch again
    if not child:
        resume = (run.path / CHECKPOINT).exists()
        trainer.train(run, data, resume=resume, principal=None if resume else principal)
        os._exit(0)
    if kills < 8:
        time.sleep(chance.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        sys.exit(print(kills) or os.WEXITSTATUS(status))
    kills += 1
    Run.read(run.path)
    if (run.path / CHECKPOINT).exists():
        run.load_tensors(CHECKPOINT)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_any_instant_a_run_goes_on_to_the_same_bits(tmp_path: Path, blobs: TrainingData) -> None:
    whole, cut = (new_run(tmp_path / name, blobs, epochs=20) for name in ("whole", "cut"))
    begin(whole, blobs)
    done = subprocess.run([sys.executable, "-c", KILLS], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    assert same_bits(whole, cut)
    assert [line["cost"] for line in cut.metrics()] == [line["cost"] for line in whole.metrics()]
    assert sorted(path.name for path in cut.path.iterdir()) == sorted(path.name for path in whole.path.iterdir())


def test_classic_network_is_the_books(tmp_path: Path) -> None:
    data = load_training_data("mnist-5k")
    network = make_network(make_config("classic"), data.geometry)
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    assert shapes == [(256, 784), (256,), (784, 256), (784,)]
    values = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01
    z = network.encode(torch.rand(5, 1, 28, 28))
    assert z.min() >= 0 and z.max() <= 1  # sigmoid units


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_classic_follows_the_books_costs(tmp_path: Path, data_dir: Path, seed: int) -> None:
    """The book prints 0.1932 after the first epoch and 0.0231 after the twentieth, on the first 55,000 digits."""
    data = load_training_data("mnist")
    assert np.array_equal(data.train, load_named_set("mnist", "train"))
    assert len(data.train) == 55_000
    run = Run.create(tmp_path / "run", make_config("classic", data="mnist", seed=seed), data.geometry, data.facts())
    train(run, data)
    costs = [line["cost"] for line in run.metrics()]
    assert len(costs) == 20
    assert 0.17 <= costs[0] <= 0.22
    assert 0.020 <= costs[-1] <= 0.028
