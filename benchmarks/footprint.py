"""What aekit takes on a device: the size of its environment, the time of its imports, its peak memory.

    python benchmarks/footprint.py --model DIR --images FOLDER

builds the wheel, installs it alone into a new environment, and measures there; DIR is a model, FOLDER holds at least
10,000 images. Writes benchmarks/results/footprint.json and footprint.md.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from common import machine, save, table
from throughput import peak_memory

ROOT = Path(__file__).parent.parent


def edge(folder: Path) -> Path:
    """A new environment with the wheel and what it depends on, without pip."""
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "demo", "runs"))
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, source], check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env").glob("lib/python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, stderr=subprocess.DEVNULL)
    return folder / "env"


def size(folder: Path, pattern: str = "**/*") -> int:
    """Bytes of the files below a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.glob(pattern) if path.is_file() and not path.is_symlink())


def seconds(command: list[str]) -> float:
    """Median time of a whole process."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        python = str(edge(folder) / "bin" / "python")
        site = next((folder / "env").glob("lib/python*/site-packages"))
        packages = {path.name: size(path) for path in site.iterdir() if path.is_dir()}
        large = sorted(packages, key=lambda name: -packages[name])[:4]
        picture = next(path for path in sorted(arguments.images.rglob("*")) if path.is_file())

        def compress(source: Path) -> list[str]:
            out = ["--out", str(folder / "codes.npy"), "--overwrite", "--model", str(arguments.model)]
            return [python, "-m", "aekit", "compress", str(source), *out]

        facts = {
            "environment, MB": size(site) / 1e6,
            "of which " + ", ".join(f"{name} {packages[name] / 1e6:.0f}" for name in large): None,
            "aekit itself, MB": size(site / "aekit", "**/*.py") / 1e6,
            "encoder.onnx, MB": (arguments.model / "encoder.onnx").stat().st_size / 1e6,
            "imports of a job, s": seconds([python, "-c", "import aekit.jobs.job, onnxruntime"]),
            "aekit --help, s": seconds([python, "-m", "aekit", "--help"]),
            "compress one image, s": seconds(compress(picture)),
            "peak memory for one image, MB": peak_memory(compress(picture)) / 1e6,
            "peak memory for the folder, MB": peak_memory(compress(arguments.images)) / 1e6,
            "images in the folder": sum(path.is_file() for path in arguments.images.rglob("*")),
        }
        rows = [{"what": name, "found": value} for name, value in facts.items()]
        markdown = f"# Footprint\n\n{', '.join(f'{key} {value}' for key, value in machine().items())}\n\n{table(rows)}"
        print(markdown)
        save("footprint", {"machine": machine(), "rows": rows}, markdown)


if __name__ == "__main__":
    main()
