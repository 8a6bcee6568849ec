"""A run on the disk: damage, other versions and changed images are named; nothing altered is taken for whole."""

import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_images
from safetensors.torch import load_file, save_file
from small_runs import begin, new_run, weights

from aekit.errors import AekitError, CheckpointError, OutputExists, SourceError
from aekit.pca import Pca
from aekit.runs import PCA
from aekit.training.checkpoint import CHECKPOINT, METRICS, WEIGHTS, Run
from aekit.training.data import TrainingData
from aekit.training.trainer import load_network, train


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
    with pytest.raises(
        CheckpointError, match=f"the state of run {small.run_id}, found the state of run {large.run_id}"
    ):
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


def test_images_that_changed_stop_a_resume(tmp_path: Path, blobs: TrainingData) -> None:
    run = new_run(tmp_path / "run", blobs, epochs=1)
    np.save(tmp_path / "blobs.npy", made_images(300, seed=9))
    with pytest.raises(CheckpointError, match="has changed since"):
        run.load_data()


def test_a_run_is_never_written_over(tmp_path: Path, blobs: TrainingData) -> None:
    new_run(tmp_path / "run", blobs)
    with pytest.raises(OutputExists, match="--resume"):
        new_run(tmp_path / "run", blobs)
