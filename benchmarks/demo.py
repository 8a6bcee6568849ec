"""Run the whole job on real digits with the commands a user would type, then list the files it made.

python benchmarks/demo.py --out demo
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from aekit.images.named_sets import load_named_set

MARKER = ".aekit-demo"
"""Name of the file that marks a folder as made by this script, so that it may be replaced."""
SHOWN = 200
"""Number of test digits written as PNG files."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to work in; made anew")
    folder = parser.parse_args().out
    if folder.exists():
        if not (folder / MARKER).exists():
            sys.exit(f"{folder} exists and was not made by this demo; choose another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARKER).touch()
    began = time.monotonic()

    run(folder, "train", "--budget", "60s")
    run(folder, "export")
    write_digits(folder / "images")
    run(folder, "compress", "images/", "--out", "codes.npy")
    run(folder, "reconstruct", "codes.npy", "--out", "reconstructed")
    report = json.loads(run(folder, "evaluate", "--json"))

    files = {path.name: path.stat().st_size for path in (folder / "model").iterdir()}
    print(f"""
Done in {time.monotonic() - began:.0f} s. Files in {folder}/:
  runs/{(folder / "runs/latest").read_text().strip()}/   the trained weights, {report["code_dim"]} numbers per code
  model/                the graphs: encoder {files["encoder.onnx"]:,} bytes, decoder {files["decoder.onnx"]:,} bytes
  images/               {SHOWN} test digits as PNG files
  codes.npy             their codes: {report["bytes_per_image"]} bytes per image as float32 (as uint8: \
{report["uint8_bytes_per_image"]}); the pixels take {report["raw_bytes_per_image"]} bytes
  reconstructed/        the digits decoded from their codes
  report/reconstructions.png   ten test digits above their reconstructions
Test MSE {report["mse"]:.4f} on {report["images"]:,} digits never trained on; PCA of the same size: \
{report["pca_mse"]:.4f}""")


def run(folder: Path, *arguments: str) -> str:
    """Run an aekit command in the folder, its output shown; returns what it printed on stdout."""
    print(f"$ aekit {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "aekit", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def write_digits(folder: Path) -> None:
    """Some test digits of mnist-5k, which the model has not seen, as PNG files in a folder for each tenth."""
    digits = load_named_set("mnist-5k", "test")
    for row in range(0, len(digits), len(digits) // SHOWN):
        path = folder / str(row // 100) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[row, :, :, 0]).save(path)


if __name__ == "__main__":
    main()
