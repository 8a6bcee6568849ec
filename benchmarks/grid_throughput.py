"""The part `grids` of throughput.py: pictures of any size through a grid model, beside decoding alone and AVIF.

Two folders: 12-megapixel JPEG files, tiled from the pictures that scikit-learn ships, and 400 PNG files of 320×240 cut
from them. The model is hardly trained; speed does not depend on what it learned.
"""

import statistics
from pathlib import Path

import numpy as np
from common import aekit
from inputs import Bench
from PIL import Image
from timing import SCRIPTS, Rows, alternating, process, row

PRESET = "small"


def grids(bench: Bench) -> Rows:
    """Folders of pictures of any size to an archive and back."""
    photos = bench.made(f"grid-photos-{bench.much(80)}", lambda path: _tiled(path, bench.much(80) // 10 or 1))
    small = bench.made(f"grid-small-{bench.much(400)}", lambda path: _cut(path, bench.much(400)))

    def make(model: Path) -> None:
        run = bench.folder / "runs" / model.name
        aekit("train", small, "--preset", PRESET, "--network", "grid", "--budget", "5s", "--out", run, cwd=bench.folder)
        aekit("export", run, "--entropy", "static", "--out", model, cwd=bench.folder)

    model = bench.made(f"model-grid-{PRESET}", make)
    return _rows(bench, photos, model, "12-megapixel JPEG") + _rows(bench, small, model, "PNG 320×240")


def _rows(bench: Bench, folder: Path, model: Path, what: str) -> Rows:
    codes, back, avif = (bench.folder / f"{folder.name}{suffix}" for suffix in (".aek", "-back", "-avif"))
    avif.mkdir(exist_ok=True)
    options = ("--model", model, "--overwrite")
    seconds = alternating(
        {
            "encode": process("-m", "aekit", "compress", folder, "--out", codes, *options),
            "decode": process("-m", "aekit", "reconstruct", codes, "--out", back, *options),
            "limit": process(SCRIPTS / "decode_only.py", folder, "threads", 65535),  # at no smaller scale
            "to AVIF": process(SCRIPTS / "avif.py", "encode", folder, avif),
            "from AVIF": process(SCRIPTS / "avif.py", "decode", avif),
        },
        1 if bench.quick else 3,
    )
    sizes = [Image.open(path).size for path in folder.iterdir()]
    megapixels = sum(width * height for width, height in sizes) / 1e6
    job, bound = f"{len(sizes)} {what}, {PRESET}", "the graph"
    rows = [
        row(f"{job} → .aek", seconds["encode"], "Pillow decode-only, 2 threads", seconds["limit"], 0.5, 1, bound),
        row(f"{job} → .aek", seconds["encode"], "AVIF, speed 6", seconds["to AVIF"], 1, 3, bound),
        row(f"{job} → PNG", seconds["decode"], "AVIF decode-only", seconds["from AVIF"], 0.2, 1, f"{bound}, PNG"),
    ]
    for entry, ours in zip(rows, ("encode", "encode", "decode"), strict=True):
        entry["ours, s/megapixel"] = statistics.median(seconds[ours]) / megapixels
    return rows


def _tiled(folder: Path, count: int) -> None:
    """Write JPEG files of 4000×3000, tiled from photographs."""
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    tiles = [Image.fromarray(picture) for picture in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(count):
        photo = Image.new("RGB", (4000, 3000))
        for top in range(0, 3000, 427):
            for left in range(0, 4000, 640):
                photo.paste(tiles[rng.integers(len(tiles))], (left, top))
        photo.save(folder / f"{number}.jpg", quality=90)


def _cut(folder: Path, count: int) -> None:
    """Write PNG files of 320×240, cut from photographs."""
    from sklearn.datasets import load_sample_images

    folder.mkdir()
    photographs = [Image.fromarray(picture) for picture in load_sample_images().images]
    rng = np.random.default_rng(0)
    for number in range(count):
        left, top = int(rng.integers(0, 320)), int(rng.integers(0, 187))
        cut = photographs[number % len(photographs)].crop((left, top, left + 320, top + 240))
        cut.save(folder / f"{number:03d}.png")
