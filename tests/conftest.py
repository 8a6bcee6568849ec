"""Fixtures: the tiny committed bundle, real images where they can be had, and a small trained run."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from aekit import jobs
from aekit.codes.archive import container
from aekit.images.decode import Pixels
from aekit.images.sources import FolderSource, open_source
from aekit.jobs import JobOptions
from aekit.model.codec import Codec

if TYPE_CHECKING:
    from aekit.training.data import TrainingData

settings.register_profile("aekit", deadline=None)  # a busy machine is no failure
settings.load_profile("aekit")

TINY = Path(__file__).parent / "data" / "tiny"


@pytest.fixture(scope="session")
def tiny_codec() -> Codec:
    """A 16x16 gray model of 4 numbers: its graphs are committed, so runtime tests need no torch."""
    return Codec.load(TINY, provider="cpu", threads=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to damage."""
    return Path(shutil.copytree(TINY, tmp_path / "model"))


@pytest.fixture(scope="session")
def shared_grid_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny RGB model of grid codes: stride 8, 6 numbers a place. Tests must not change it; see `grid_model`."""
    pytest.importorskip("torch")
    from grid_models import write_grid_model

    return write_grid_model(tmp_path_factory.mktemp("grid") / "model")


@pytest.fixture
def grid_model(shared_grid_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model of grid codes, to damage."""
    return Path(shutil.copytree(shared_grid_model, tmp_path / "grid-model"))


@pytest.fixture(scope="session")
def grid_codec(shared_grid_model: Path) -> Codec:
    """The tiny model of grid codes, opened."""
    return Codec.load(shared_grid_model, provider="cpu", threads=1)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 12 small made images in two folders."""
    folder = tmp_path / "pictures"
    write_pictures(folder, 12)
    return folder


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (16, 16)) -> Pixels:
    """Smooth blobs as PNG files `a/000.png`, `b/001.png` …; returns them in the order of their sorted paths."""
    images = made_images(count, *size)
    names = sorted((f"{'ab'[row % 2]}/{row:03d}.png", row) for row in range(count))
    for name, row in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row, :, :, 0]).save(path)
    return images[[row for _, row in names]]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes: what must not have changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made_images(count: int, height: int = 16, width: int = 16, seed: int = 0) -> Pixels:
    """Blobs of random place, width and brightness, uint8 [count, height, width, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][:, None] / max(height, width)
    cy, cx, spread = (rng.uniform(low, high, (count, 1, 1)) for low, high in ((0.2, 0.8), (0.2, 0.8), (0.1, 0.3)))
    blobs = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * spread**2)) * rng.uniform(100, 255, (count, 1, 1))
    return blobs.astype(np.uint8)[..., None]


def split_options(given: dict[str, Any]) -> tuple[JobOptions, dict[str, Any]]:
    """The shared options of a job among `given`, made, and the others."""
    shared = {field.name for field in dataclasses.fields(JobOptions)} & given.keys()
    return JobOptions(**{name: given[name] for name in shared}), {
        name: value for name, value in given.items() if name not in shared
    }


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def aekit(tmp_path: Path) -> Run:
    """Run the real command in a process of its own, in a fresh folder."""

    def run(*arguments: object, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aekit", *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120", **environment},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is not."""
    folder = os.environ.get("AEKIT_DATA_DIR")
    if not folder:
        pytest.skip("AEKIT_DATA_DIR is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def gtsrb(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The traffic signs, unpacked: class/track_frame.png, in many sizes."""
    archive = data_dir / "gtsrb" / "gtsrb-png.tar"
    if not archive.exists():
        pytest.skip("no GTSRB in AEKIT_DATA_DIR")
    folder = tmp_path_factory.mktemp("gtsrb")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def one_line_error(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line a failed command printed on stderr; asserts that it is all."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("aekit: ")
    return lines[0]


def json_output(done: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    """The JSON object a command printed, which must be all of its stdout."""
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with images and their codes, beside a folder where nothing may change."""
    from attacked import MINE, invoke

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEKIT_MODEL", str(TINY))
    write_pictures(tmp_path / "in", 4)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine").write_bytes(MINE)
    invoke("compress", "in", "--out", "codes.npy")
    return tmp_path


@pytest.fixture
def codes(pictures: Path, tmp_path: Path, tiny_codec: Codec) -> Path:
    """The code file of `pictures`."""
    return jobs.compress(open_source(str(pictures)), tmp_path / "codes.npy", tiny_codec).out


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three inputs."""
    monkeypatch.setattr(container, "MAX_INPUTS", 3)


@pytest.fixture
def blobs(tmp_path: Path) -> "TrainingData":
    """Training data of 300 made images, in the file blobs.npy. Needs torch."""
    from aekit.training.data import load_training_data

    np.save(tmp_path / "blobs.npy", made_images(300))
    return load_training_data(str(tmp_path / "blobs.npy"))


@pytest.fixture
def mixed(tmp_path: Path) -> FolderSource:
    """27 pictures of many sizes and kinds, of which three are damaged; see grid_models."""
    from grid_models import write_mixed

    return write_mixed(tmp_path / "mixed")
