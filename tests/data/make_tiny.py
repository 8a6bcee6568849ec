"""Make tests/data/tiny, the committed model that runtime tests use: `python tests/data/make_tiny.py`."""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from conftest import made_images  # noqa: E402

from aekit.exporting.exporter import export_run  # noqa: E402
from aekit.pca import Pca  # noqa: E402
from aekit.training.checkpoint import Run  # noqa: E402
from aekit.training.config import make_config  # noqa: E402
from aekit.training.data import load_training_data  # noqa: E402
from aekit.training.networks import components_wanted  # noqa: E402
from aekit.training.trainer import train  # noqa: E402


def main(scratch: Path) -> None:
    scratch.mkdir()
    np.save(scratch / "blobs.npy", made_images(600, seed=1))
    config = make_config("default", data=str(scratch / "blobs.npy"), code_dim=4, hidden=(24,), epochs=40, batch_size=32)
    data = load_training_data(config.data)
    run = Run.create(scratch / "run", config, data.geometry, data.facts())
    train(run, data, principal=Pca.fit(data.train, components_wanted(config, data.geometry)))
    export_run(run, data, HERE / "tiny", overwrite=True)


if __name__ == "__main__":
    folder = HERE / "scratch"
    try:
        main(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
