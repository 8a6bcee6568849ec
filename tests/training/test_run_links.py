"""Links and a user's files at the names that aekit gives the files of a run: refused, and never written through."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_images
from small_runs import new_run

import aekit
from aekit.errors import OutputError, OutputExists
from aekit.pca import Pca
from aekit.runs import LATEST, PCA, point_latest, resolve_run
from aekit.training.checkpoint import CHECKPOINT, METRICS, WEIGHTS
from aekit.training.data import TrainingData

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX systems")
MINE = b"a user's own bytes\nin two lines\n"
SMALL = {"code_dim": 3, "hidden": [8], "epochs": 1}


@pytest.fixture
def victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's file beside the folder `here`, which is the working folder and has images and runs/."""
    (tmp_path / "victim").write_bytes(MINE)
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    np.save("images.npy", made_images(60))
    return tmp_path / "victim"


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder", "file"])
def test_what_lies_at_runs_latest_stays_and_no_run_is_begun(victim: Path, kind: str) -> None:
    path = Path("runs") / LATEST
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_bytes(MINE)
    else:
        path.symlink_to(victim if kind == "link" else victim.with_name("nothing"))
    before = os.lstat(path)
    with pytest.raises(OutputError, match="runs/latest"):
        aekit.train("images.npy", "runs/x", **SMALL)
    assert os.lstat(path) == before
    assert victim.read_bytes() == MINE and not victim.with_name("nothing").exists()
    assert os.listdir("runs") == [LATEST]


@pytest.mark.parametrize("old", ["", "x\n", "a run with spaces\n", "\udcff\n"])
def test_a_file_that_names_a_run_is_replaced(victim: Path, old: str) -> None:
    (Path("runs") / LATEST).write_bytes(os.fsencode(old))
    point_latest(Path("runs/new"))
    assert resolve_run(Path("runs") / LATEST) == Path("runs/new")


@pytest.mark.parametrize("old", ["../x\n", "x", "x\ny\n", "x" * 300 + "\n", "/\n"])
def test_a_file_that_names_no_run_is_not_replaced(victim: Path, old: str) -> None:
    (Path("runs") / LATEST).write_text(old)
    with pytest.raises(OutputExists, match=r"runs/latest.*did not make it"):
        point_latest(Path("runs/new"))
    assert (Path("runs") / LATEST).read_text() == old


@pytest.mark.parametrize("name", [CHECKPOINT, WEIGHTS, METRICS, PCA])
@pytest.mark.parametrize("target", ["victim", "nothing"])
def test_a_link_in_a_run_is_not_followed(
    tmp_path: Path, victim: Path, blobs: TrainingData, name: str, target: str
) -> None:
    run = new_run(tmp_path / "run", blobs)
    (run.path / name).symlink_to(tmp_path / target)
    with pytest.raises(OutputError, match=f"{name}.*found a link"):
        if name == METRICS:
            run.write_metrics([{"epoch": 1}])
        elif name == PCA:
            Pca.fit(blobs.train, 2).save(run.path / PCA)
        else:
            run.save_tensors(name, {"a": torch.zeros(3)}, {})
    assert victim.read_bytes() == MINE and not (tmp_path / "nothing").exists()
