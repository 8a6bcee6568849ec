"""A large picture through a model of grid codes: peak memory, time, and the error where tiles meet.

    python benchmarks/large_picture.py --model model-rgb --model model-gray

Encodes and decodes a made picture with each model in a child process, which reports its peak memory (VmHWM of Linux)
after encoding and after decoding. The picture is dropped before its code is decoded. The error is compared between a
band around the seams of the tiles and all other pixels. Writes results/large-picture.json and .md.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import machine, save, table

from aekit.model.codec import Codec
from aekit.model.tiles import tile_borders

BAND = 16
"""Pixels on each side of a seam that count as its band."""
MOST_MB, MOST_RATIO = 1000, 1.02
"""Targets: peak memory in MB of 10^6 bytes, and the error in the band over the error elsewhere."""
_ROWS = 512


def made_picture(side: int, channels: int) -> npt.NDArray[np.uint8]:
    """Return waves of many lengths with grain, uint8 [side, side, channels], made in strips."""
    picture, rng = np.empty((side, side, channels), np.uint8), np.random.default_rng(0)
    x = np.arange(side, dtype=np.float32)
    for start in range(0, side, _ROWS):
        y = np.arange(start, min(start + _ROWS, side), dtype=np.float32)[:, None]
        waves = sum(np.sin(y / length + k) * np.cos(x / length * 1.3) for k, length in enumerate((7, 31, 90, 400)))
        grain = rng.normal(0, 3, (len(y), side)).astype(np.float32)
        for channel in range(channels):
            picture[start : start + _ROWS, :, channel] = (128 + 15 * waves + grain - 20 * channel).clip(0, 255)
    return picture


def peak_mb() -> float:
    """Return the peak of this process's resident memory in MB of 10^6 bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1.024 / 1000


def child(model: str, file: Path, threads: int) -> None:
    """Encode the picture in `file`, put the decoded one in its place, and print the figures as JSON."""
    codec = Codec.load(model, "cpu", threads=threads, parallel_batches=threads)
    codec.open()
    picture = np.load(file, allow_pickle=False)
    megapixels, figures = picture.shape[0] * picture.shape[1] / 1e6, {"start_mb": peak_mb()}
    began, began_cpu = time.monotonic(), time.process_time()
    codes = codec.encode([picture], "uint8")
    del picture
    between, between_cpu = time.monotonic(), time.process_time()
    figures["encoding_mb"] = peak_mb()
    decoded = codec.decode(codes)[0]
    ended, ended_cpu = time.monotonic(), time.process_time()
    figures |= {"decoding_mb": peak_mb(), "encoder_s_per_mp": (between - began) / megapixels}
    figures |= {"decoder_s_per_mp": (ended - between) / megapixels}
    figures |= {"encoder_cpu_s_per_mp": (between_cpu - began_cpu) / megapixels}
    figures |= {"decoder_cpu_s_per_mp": (ended_cpu - between_cpu) / megapixels}
    np.save(file, decoded)
    print(json.dumps(figures))


def seam_errors(codec: Codec, picture: npt.NDArray[np.uint8], decoded: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return the mean squared errors within BAND pixels of a seam and elsewhere, and their ratio."""
    geometry = codec.spec.grid
    places = geometry.code_shape(*picture.shape[:2])
    near = [np.zeros(side, bool) for side in picture.shape[:2]]
    for axis, halo in ((axis, halo) for axis in (0, 1) for halo in (geometry.encoder_halo, geometry.decoder_halo)):
        for border in tile_borders(places[axis], geometry, halo):
            near[axis][max(border * geometry.stride - BAND, 0) : border * geometry.stride + BAND] = True
    sums, counts = np.zeros(2), np.zeros(2)
    for start in range(0, len(picture), _ROWS):
        rows = slice(start, start + _ROWS)
        error = np.square(picture[rows].astype(np.float32) - decoded[rows]).mean(2) / 255**2
        band = near[0][rows, None] | near[1]
        sums += [error[band].sum(dtype=np.float64), error[~band].sum(dtype=np.float64)]
        counts += [band.sum(), (~band).sum()]
    seam, elsewhere = sums / counts
    return {"seam_mse": float(seam), "mse_elsewhere": float(elsewhere), "seam_ratio": float(seam / elsewhere)}


def measure(model: str, megapixels: float, threads: int) -> dict[str, Any]:
    """Return the figures of one model."""
    codec = Codec.load(model)
    side = round(math.sqrt(megapixels * 1e6))
    picture = made_picture(side, codec.spec.grid.channels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.npy"
        np.save(file, picture)
        command = [sys.executable, __file__, "--child", str(file), "--model", model, "--threads", str(threads)]
        figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
        figures |= seam_errors(codec, picture, np.load(file, mmap_mode="r", allow_pickle=False))
    facts = {"preset": codec.spec.preset, "channels": codec.spec.grid.channels, "megapixels": side * side / 1e6}
    is_met = figures["decoding_mb"] <= MOST_MB and figures["seam_ratio"] <= MOST_RATIO
    return {**facts, "threads": threads, **figures, "is_met": is_met}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="model folder of grid codes; may be repeated")
    parser.add_argument("--megapixels", type=float, default=100.0, help="size of the picture (default: 100)")
    parser.add_argument(
        "--threads", type=int, default=1, help="runs of a graph at a time, one thread each (default: 1)"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.model[0], arguments.child, arguments.threads)
        return
    rows = [measure(model, arguments.megapixels, arguments.threads) for model in arguments.model]
    title = "# A large picture\n\nMade by `python benchmarks/large_picture.py`. Memory in MB of 10^6 bytes."
    save("large-picture", {"runs": rows, "machine": machine()}, f"{title}\n\n{table(rows)}")
    print(table(rows))


if __name__ == "__main__":
    main()
