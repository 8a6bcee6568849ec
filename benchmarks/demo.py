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
BUDGET = "35s"
"""Time to train for; the whole demo stays under a minute."""
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

    run(folder, "train", "--budget", BUDGET)
    run(folder, "export")
    write_digits(folder / "images")
    run(folder, "compress", "images/", "--out", "codes.aek")
    run(folder, "reconstruct", "codes.aek", "--out", "reconstructed")
    run(folder, "compress", "images/", "--out", "codes.npy")
    run(folder, "evaluate")
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))

    model = {path.name: path.stat().st_size for path in (folder / "model").iterdir()}
    sizes = {name: (folder / name).stat().st_size for name in ("codes.aek", "codes.npy", "codes.jsonl")}
    pngs = sum(path.stat().st_size for path in (folder / "images").rglob("*.png"))
    codec = report["codecs"]["best"]
    print(f"""
Done in {time.monotonic() - began:.0f} s. Files in {folder}/:
  runs/{(folder / "runs/latest").read_text().strip()}/   the trained weights
  model/                the graphs: encoder {model["encoder.onnx"]:,} bytes, decoder {model["decoder.onnx"]:,} bytes
  images/               {SHOWN} test digits as PNG files, {pngs:,} bytes
  codes.aek             their codes in an archive, {sizes["codes.aek"]:,} bytes with their names
  reconstructed/        the digits decoded from the archive
  codes.npy             their codes as an array of {report["code_dim"]} uint8 numbers an image: {sizes["codes.npy"]:,} \
bytes, and {sizes["codes.jsonl"]:,} of its index
  report/reconstructions.png   ten test digits above their reconstructions
On {report["images"]:,} digits never trained on: {report["archive_bytes_per_image"]:.1f} bytes a digit in an archive, \
MSE {report["mse"]:.4f}.
Best image codec at that error: {codec["bytes"]:.0f} bytes a digit, {codec["payload"]:.0f} without headers.""")


def run(folder: Path, *arguments: str) -> None:
    """Run an aekit command in the folder, its output shown."""
    print(f"$ aekit {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "aekit", *arguments], cwd=folder)
    if done.returncode:
        sys.exit(done.returncode)


def write_digits(folder: Path) -> None:
    """Some test digits of mnist-5k, which the model has not seen, as PNG files in a folder for each tenth."""
    digits = load_named_set("mnist-5k", "test")
    for row in range(0, len(digits), len(digits) // SHOWN):
        path = folder / str(row // 100) / f"{row:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[row, :, :, 0]).save(path)


if __name__ == "__main__":
    main()
