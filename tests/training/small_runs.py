"""Small runs, for the tests of training."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from aekit.pca import Pca
from aekit.training.checkpoint import WEIGHTS, Run
from aekit.training.config import make_config
from aekit.training.data import TrainingData
from aekit.training.networks import components_wanted
from aekit.training.trainer import train


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
