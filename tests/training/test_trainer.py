"""The training loop: reproducible, resumable to the bit, honest about its costs."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_images
from safetensors.torch import load_file, save_file

from aekit.errors import AekitError, CheckpointError, OptionError, OutputExists, SourceError, TrainingError
from aekit.images.named_sets import load_named_set
from aekit.pca import Pca
from aekit.registry import OBJECTIVES, ObjectiveEntry
from aekit.runs import PCA
from aekit.training.checkpoint import CHECKPOINT, METRICS, WEIGHTS, Run
from aekit.training.config import make_config
from aekit.training.data import TrainingData, load_training_data
from aekit.training.devices import choose_device
from aekit.training.networks import Autoencoder, components_wanted, make_network
from aekit.training.objectives.plain import Plain
from aekit.training.trainer import Interrupted, load_network, train


@pytest.fixture
def blobs(tmp_path: Path) -> TrainingData:
    np.save(tmp_path / "blobs.npy", made_images(300))
    return load_training_data(str(tmp_path / "blobs.npy"))


def new_run(path: Path, data: TrainingData, preset: str = "default", **given: object) -> Run:
    settings = {"code_dim": 4, "epochs": 3, "batch_size": 32, **given}
    if preset == "default":
        settings = {"hidden": (24,), **settings}
    return Run.create(
        path, make_config(preset, data=str(path.parent / "blobs.npy"), **settings), data.geometry, data.facts()
    )


def begin(run: Run, data: TrainingData, **hooks: Any) -> None:
    """Train from the start, from the images' principal components, as the command does."""
    train(run, data, principal=Pca.fit(data.train, components_wanted(run.config, data.geometry) or 1), **hooks)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / WEIGHTS)


def same_bits(one: Run, other: Run) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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


def test_checkpoint_of_a_future_format_is_refused(tmp_path: Path, blobs: TrainingData) -> None:
    run = new_run(tmp_path / "run", blobs, epochs=1)
    begin(run, blobs)
    tensors = load_file(run.path / CHECKPOINT)
    save_file(tensors, run.path / CHECKPOINT, {"aekit": json.dumps({"format_version": 2, "step": 1})})
    with pytest.raises(CheckpointError, match=r"expected format 1 or older, found 2; update aekit"):
        train(run, blobs, resume=True)
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "format_version": 2}))
    with pytest.raises(CheckpointError, match="update aekit"):
        Run.read(run.path)


@pytest.mark.parametrize("damage", ["cut", "junk", "gone", "foreign"])
def test_damaged_checkpoint_is_one_named_error(tmp_path: Path, blobs: TrainingData, damage: str) -> None:
    run = new_run(tmp_path / "run", blobs, epochs=1)
    begin(run, blobs)
    file = run.path / CHECKPOINT
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "junk":
        file.write_bytes(b"\x80\x04pickle")
    elif damage == "gone":
        file.unlink()
    else:
        save_file({"network.x": torch.zeros(1)}, file, {"aekit": json.dumps({"format_version": 1})})
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        train(run, blobs, resume=True)


def test_weights_of_another_network_are_refused(tmp_path: Path, blobs: TrainingData) -> None:
    small, large = (
        new_run(tmp_path / "small", blobs, epochs=1),
        new_run(tmp_path / "large", blobs, epochs=1, hidden=(32,)),
    )
    for run in (small, large):
        begin(run, blobs)
    (small.path / WEIGHTS).write_bytes((large.path / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match=f"the state of run {small.run_id}, found that of run {large.run_id}"):
        load_network(small)
    small.save_tensors(WEIGHTS, weights(large), {})
    with pytest.raises(CheckpointError, match="network in config"):
        load_network(small)


def flipped(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """The data with one bit of each place turned, another one from place to place."""
    for place in places:
        yield data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :]


@pytest.mark.parametrize("name", [CHECKPOINT, WEIGHTS, PCA, "config.json"])
def test_any_bit_that_is_turned_in_a_run_is_found(tmp_path: Path, blobs: TrainingData, name: str) -> None:
    run = new_run(tmp_path / "run", blobs, epochs=1, hidden=(2,))
    begin(run, blobs)
    Pca.fit(blobs.train, 2).save(run.path / PCA)
    reads: dict[str, Callable[[], object]] = {
        PCA: lambda: Pca.load(run.path / PCA),
        "config.json": lambda: Run.read(run.path),
    }
    read = reads.get(name, lambda: run.load_tensors(name))
    whole = str(read()) if name == PCA else "none is taken for whole"
    file = run.path / name
    data = file.read_bytes()
    # The text at the start holds what is most easily misread; the place of the images is no part of the checksum.
    places = [*range(0, min(len(data), 1500), 11), *range(1500, len(data), len(data) // 40)]
    start = data.find(os.fsencode(run.config.data))
    places = [place for place in places if not start <= place < start + len(run.config.data)]
    for altered in flipped(data, places):
        file.write_bytes(altered)
        try:
            assert (
                str(read()) == whole
            )  # what a zip file says of its members' dates is under no checksum, and no matter
        except AekitError as error:
            assert name in str(error)


def test_where_the_images_lie_may_change_but_no_other_setting(tmp_path: Path, blobs: TrainingData) -> None:
    run = new_run(tmp_path / "run", blobs)
    values = json.loads((run.path / "config.json").read_text())
    (tmp_path / "blobs.npy").rename(tmp_path / "moved.npy")
    values["config"]["data"] = str(tmp_path / "moved.npy")
    (run.path / "config.json").write_text(json.dumps(values))
    assert len(Run.read(run.path).load_data().train) == len(blobs.train)
    values["config"]["lr"] = 0.5
    (run.path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"config\.json was altered: expected SHA-256"):
        Run.read(run.path)


def test_metrics_that_were_damaged_are_written_anew_on_resuming(tmp_path: Path, blobs: TrainingData) -> None:
    run = new_run(tmp_path / "run", blobs)
    begin(run, blobs)
    whole = run.metrics()
    (run.path / METRICS).write_text("junk")
    train(run, blobs, resume=True)
    assert run.metrics() == whole


@pytest.mark.parametrize(
    "change",
    [{"step": math.inf}, {"step": 10**6}, {"epochs": [{}]}, {"epochs": None}, {"best_step": 99}, {"steps_in_all": 1}],
    ids=str,
)
def test_a_state_that_this_run_can_not_be_in_is_refused(
    tmp_path: Path, blobs: TrainingData, change: dict[str, Any]
) -> None:
    run = new_run(tmp_path / "run", blobs, epochs=1)
    begin(run, blobs)
    tensors, state = run.load_tensors(CHECKPOINT)
    run.save_tensors(CHECKPOINT, tensors, {**state, **change})
    with pytest.raises(CheckpointError, match="expected the state of this run"):
        train(run, blobs, resume=True)


def test_components_that_are_none_are_refused(tmp_path: Path) -> None:
    good = {"mean": np.zeros(6), "components": np.eye(2, 6), "scales": np.ones(2)}
    good = {name: value.astype(np.float32) for name, value in good.items()}
    np.savez(tmp_path / PCA, **good)
    assert Pca.load(tmp_path / PCA).components.shape == (2, 6)
    for change in (
        {"mean": np.zeros(5, np.float32)},
        {"scales": np.full(2, np.nan, np.float32)},
        {"components": np.eye(2, 6)},
        {"mean": np.array([object()], object)},
    ):
        np.savez(tmp_path / PCA, **{**good, **change})
        with pytest.raises(SourceError, match=r"pca\.npz: expected saved principal components"):
            Pca.load(tmp_path / PCA)
    with zipfile.ZipFile(tmp_path / PCA, "w") as archive:  # numpy gives what is no array as its bytes
        for name in good:
            archive.writestr(f"{name}.npy", b"junk")
    with pytest.raises(SourceError, match="principal components"):
        Pca.load(tmp_path / PCA)


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


def test_images_that_changed_stop_a_resume(tmp_path: Path, blobs: TrainingData) -> None:
    run = new_run(tmp_path / "run", blobs, epochs=1)
    np.save(tmp_path / "blobs.npy", made_images(300, seed=9))
    with pytest.raises(CheckpointError, match="has changed since"):
        run.load_data()


def test_a_run_is_never_written_over(tmp_path: Path, blobs: TrainingData) -> None:
    new_run(tmp_path / "run", blobs)
    with pytest.raises(OutputExists, match="--resume"):
        new_run(tmp_path / "run", blobs)


def test_classic_network_is_the_books(tmp_path: Path) -> None:
    data = load_training_data("mnist-5k")
    network = make_network(make_config("classic"), data.geometry)
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    assert shapes == [(256, 784), (256,), (784, 256), (784,)]
    values = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01
    z = network.encode(torch.rand(5, 1, 28, 28))
    assert z.min() >= 0 and z.max() <= 1  # sigmoid units


def test_absent_device_is_an_error() -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(OptionError, match=absent):
        choose_device(absent)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
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


def test_ctrl_c_ends_the_command_with_its_state_saved(tmp_path: Path) -> None:
    """The real command, a real SIGINT; then --resume ends it, with the weights of a run that was left alone."""
    np.save(tmp_path / "blobs.npy", made_images(400))
    settings = ["blobs.npy", "--epochs", "60", "--hidden", "16", "--code-dim", "3", "--batch-size", "4"]

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "aekit", "train", *arguments]

    process = subprocess.Popen(command(*settings, "--out", "cut"), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "epoch   1/60" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert time.monotonic() - began < 30
    assert "--resume --out cut" in rest and "Traceback" not in rest
    export = [sys.executable, "-m", "aekit", "export", "cut"]
    done = subprocess.run(export, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "warning: cut stopped after step" in done.stderr, done.stderr
    for arguments in (["--resume", "--out", "cut"], [*settings, "--out", "whole"]):
        began = time.monotonic()
        done = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "warning: validation on 40 held-out images" in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
        assert lines[-1].startswith("epoch  60/60") and len(lines) <= time.monotonic() - began + 2  # one a second
    assert same_bits(Run.read(tmp_path / "cut"), Run.read(tmp_path / "whole"))


def test_what_does_not_fit_leaves_no_run_behind(tmp_path: Path) -> None:
    """The real command, options that no network or objective takes: one line, no folder, no `latest`."""
    np.save(tmp_path / "blobs.npy", made_images(50))
    wrong = [
        (["--objective", "magic"], "plain or denoising"),
        (["--objective", "sparse", "-O", "active=99"], "at most the code's 32 units"),
        (["-O", "beta=2"], "an option of plain"),
        (["--network", "conv", "--hidden", "none"], "channels of the conv network's stages"),
        (["--network", "conv", "--hidden", "8,8,8,8,8"], "at most 4 stages for 16x16 gray"),
        (["--hidden", "16,8"], "blocks of one width"),
        (["--budget", "5m", "--epochs", "3"], "no --epochs beside it"),
        (["--budget", "soon"], "a time such as 90s"),
    ]
    np.save(tmp_path / "one.npy", made_images(1))
    np.save(tmp_path / "gray.npy", np.full((30, 16, 16), 7, np.uint8))
    np.save(tmp_path / "nan.npy", np.where(np.eye(16) > 0, np.nan, made_images(30)[..., 0] / 255))
    sets = [("one.npy", "at least 2"), ("gray.npy", "of one constant colour"), ("nan.npy", "found NaN")]
    wrong = [(["blobs.npy", *options], expected) for options, expected in wrong]
    for arguments, expected in [*wrong, *(([name], expected) for name, expected in sets)]:
        command = [sys.executable, "-m", "aekit", "train", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1 and expected in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "runs").exists()
