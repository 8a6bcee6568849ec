"""Make the golden files in this folder: runs, models, codes and archives as one version of aekit writes them.

    python tests/data/golden/make_golden.py VERSION

writes the folder VERSION beside this script. It uses the commands alone, so that it runs on any version. `0.1.0` was
made from commit 752c94d, the last one with flat modules. tests/test_golden.py holds later versions to these files.
Never make a folder again: the point is that an older version wrote it.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from conftest import made_images  # noqa: E402

SMALL = ("--preset", "small", "--hidden", "16")
TRAINED = {
    "plain": (*SMALL, "--code-dim", "4"),
    "rate": (*SMALL, "--code-dim", "6", "--objective", "rate", "--lambda", "0.002"),
    "variational": (*SMALL, "--code-dim", "3", "--objective", "variational"),
    "classic": ("--preset", "classic", "--code-dim", "8"),
}
"""The models, by name, with what distinguishes their trainings."""


def aekit(folder: Path, *arguments: str) -> None:
    """Run a command in `folder`; stop this script if it fails."""
    subprocess.run([sys.executable, "-m", "aekit", *arguments], cwd=folder, check=True)


def make_small_and_movable(run: Path, *, keep_checkpoint: bool) -> None:
    """Write the images' place as a relative path, which a run's checksum does not cover, and drop what is large."""
    config = run / "config.json"
    config.write_text(re.sub(r'"data": "[^"]*train.npy"', '"data": "train.npy"', config.read_text()))
    if not keep_checkpoint:
        (run / "checkpoint.safetensors").unlink()


def main(version: str) -> None:
    """Write the folder `version`."""
    folder = HERE / version
    folder.mkdir()
    images = made_images(240, 12, 12, seed=7)
    np.save(folder / "train.npy", images[:200])
    scratch = folder / "pictures"
    for number, image in enumerate(images[200:]):
        path = scratch / "ab"[number % 2] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    (scratch / "b" / "broken.png").write_bytes(b"not an image")
    for name, options in TRAINED.items():
        aekit(
            folder,
            "train",
            "train.npy",
            "--epochs",
            "6",
            "--batch-size",
            "20",
            "--seed",
            "1",
            "--out",
            f"{name}/run",
            *options,
        )
        aekit(folder, "export", f"{name}/run", "--out", f"{name}/model")
        for out, source, dtype in (
            ("named.npy", "pictures", "float32"),
            ("small.npy", "pictures", "uint8"),
            ("array.npy", "train.npy", "float16"),
            ("named.aek", "pictures", "uint8"),
            ("array.aek", "train.npy", "uint8"),
        ):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "aekit",
                    "compress",
                    source,
                    "--out",
                    f"{name}/{out}",
                    "--model",
                    f"{name}/model",
                    "--dtype",
                    dtype,
                ],
                cwd=folder,
            )
            if done.returncode not in (0, 3):
                raise SystemExit(f"compress ended with {done.returncode}")
        for codes in ("named.npy", "named.aek"):
            target = f"{name}/{codes.replace('.', '-')}-images.npy"
            aekit(folder, "reconstruct", f"{name}/{codes}", "--out", target, "--model", f"{name}/model")
        make_small_and_movable(folder / name / "run", keep_checkpoint=name in ("plain", "classic"))
    shutil.rmtree(scratch)
    facts = {"version": version, "made": sorted(TRAINED)}
    (folder / "about.json").write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
