"""Measure how small archives of vector codes are: models trained for size, image codecs and the KLT.

    pip install 'aekit[train,bench]'
    AEKIT_DATA_DIR=… python benchmarks/compression_vectors.py [--quick] [--only mnist,gtsrb,coding] [--reuse]
    python benchmarks/compression_vectors.py --folder IMAGES --size 32x32

mnist needs `mnist/` in AEKIT_DATA_DIR, gtsrb `gtsrb/gtsrb-png.tar`; what has no data is left out. --folder measures any
folder on the images that training holds out. About an hour on 2 cores; --quick takes minutes and gives rough figures.
The real commands train and export the models, and write and read their archives. The bytes are the size of the whole
file, divided by its images; the images have no names. The MSE compares the images with what the decoder's graph
returns. Codecs write one file for each image, at native size and shrunk (aekit/evaluation/envelope.py). Tables and
curves, as PNG files, are written to benchmarks/results.

--reuse trains nothing: it takes our figures and the KLT's from the results of an earlier run, and measures the codecs
again. --reuse-peers does the reverse: it measures our models, and takes the peers' figures from an earlier run. With
--work FOLDER, models that are already there are not trained again.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import matplotlib
import numpy as np
from common import RESULTS, aekit, data_dir, load, machine, save, table
from envelope import QUALITIES, kept, of_codec
from envelope import measure as measure_codecs
from learning import unpack_split
from picture_sets import spread
from rate_distortion import Curve, Point, bd_rate, bytes_at, curve_of, frontier, klt_curve

from aekit.codes.archive import Archive
from aekit.codes.archive.container import inputs_per_block
from aekit.codes.context.coder import entropy_bits
from aekit.codes.entropy import U8
from aekit.codes.grid_coders import GridCoders
from aekit.codes.tables import read_tables
from aekit.evaluation.metrics import mse, psnr
from aekit.evaluation.opening import open_test_images
from aekit.images.decode import Pixels
from aekit.images.named_sets import load_named_set
from aekit.images.sources import open_source, read_all
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.spec import Geometry
from aekit.training.checkpoint import Run
from aekit.training.data import load_training_data

matplotlib.use("Agg")

# MSE: bytes an image to reach, and to aim for.
MNIST_TARGETS = {0.0140: (3.2, 3.0), 0.0088: (5.3, 5.0), 0.0050: (9.9, 9.0), 0.0020: (28.0, 25.0)}
MNIST_BYTES = (2.9, 4.8, 9.2, 27.0)
COLOUR_BYTES = (16.0, 40.0, 100.0)
PLAIN_NUMBERS = (4, 8, 16, 32)
TRACKS = r"^(\d+/\d+)_"
Rows = list[dict[str, Any]]


class Bench(common.Bench):
    """And what it trains."""

    def __init__(
        self, folder: Path, quick: bool, objective: str, reuse: bool = False, reuse_peers: bool = False
    ) -> None:
        super().__init__(folder, quick)
        self.objective, self.reuse, self.reuse_peers = objective, reuse, reuse_peers
        self.results = "compression-vectors" + ("-plain" if objective == "plain" else "") + ("-quick" if quick else "")
        self.file_images = 50 if quick else 200

    def ours(self, name: str, source: object, sizes: tuple[float, ...], *options: object) -> tuple[Rows, Pixels]:
        """Train a model for each size, archive the test images and get them back; a row a model, and those images.

        The source's test images are those that evaluation takes: a test split, or what training held out.
        """
        rows: Rows = []
        budget = 15 if self.quick else 240
        for size in sizes[:: max(1, len(sizes) // 2)] if self.quick else sizes:
            model, run = self.folder / f"{name}-{size:g}", self.folder / "runs" / f"{name}-{size:g}"
            wanted = ("--bytes", size) if self.objective == "rate" else ("--code-dim", round(size))
            if not model.exists():
                common = (*options, "--objective", self.objective, "--budget", f"{budget}s")
                aekit("train", source, "--out", run, *wanted, *common, cwd=self.folder)
                aekit("export", run, "--out", model, cwd=self.folder)
            images = self.test_images(name, source, model)
            rows.append(
                {
                    "asked": size,
                    **self.archived(name, model, images),
                    "training s": Run.read(run).metrics()[-1]["seconds"],
                }
            )
        return rows, np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def test_images(self, name: str, source: object, model: Path) -> Path:
        """The test images as an array without names, written once."""
        file = self.folder / f"{name}.npy"
        if not file.exists():
            np.save(file, open_test_images(str(source), Bundle.read(model)).images)
        return file

    def archived(self, name: str, model: Path, images: Path) -> dict[str, Any]:
        """Bytes and MSE of an archive of the images, by way of the commands."""
        archive, back = self.folder / f"{model.name}.aek", self.folder / f"{name}-back.npy"
        common = ("--model", model, "--overwrite")
        made = aekit("compress", images, "--out", archive, *common, cwd=self.folder)
        aekit("reconstruct", archive, "--out", back, *common, cwd=self.folder)
        error = mse(*(np.load(file, mmap_mode="r", allow_pickle=False) for file in (images, back)))
        with Archive.open(archive, model) as opened:
            codes = opened.codes()
        step, models = inputs_per_block(codes.shape[1]), read_tables(Bundle.read(model))
        blocks = [codes[start : start + step] for start in range(0, len(codes), step)]
        static = sum(models.tables.entropy_bits(block) for block in blocks) / 8 / len(codes)
        ideal = static
        if models.context is not None:
            ideal = sum(entropy_bits([block[:, None]], models.context) for block in blocks) / 8 / len(codes)
        facts = {"numbers": codes.shape[1], "images": made["images"], "file": made["bytes"]}
        size = made["bytes"] / made["images"]
        return {
            **facts,
            "bytes": size,
            "entropy": ideal,
            "with static tables": static,
            "MSE": error,
            "PSNR": psnr(error),
        }


def measure(bench: Bench, name: str, source: object, sizes: tuple[float, ...], *options: object) -> dict[str, Any]:
    """Our curve and every peer's on one set of images, and BD-rates against each peer; draws the picture."""
    earlier = load(bench.results).get(name) if bench.reuse else None
    if earlier:
        rows, test = earlier["models"], np.asarray(reused_images(bench, name))
        klt = curves_of(earlier)["KLT, ideal entropy"]
    else:
        rows, test = bench.ours(name, source, sizes, *options)
    if bench.reuse_peers and (before := load(bench.results).get(name)):
        curves = {peer: curve for peer, curve in curves_of(before).items() if peer != "aekit"}
        return compared(bench, name, rows, curves, before["file images"])
    if not earlier:
        geometry = Bundle.read(next(bench.folder.glob(f"{name}-*/model.json")).parent).spec.fixed
        size = (geometry.height, geometry.width)
        train = load_training_data(str(source), size, geometry.channels, TRACKS if name == "gtsrb" else "").train
        klt = klt_curve(train, test, 10 if bench.quick else 24)
    curves = {"KLT, ideal entropy": klt}
    files = spread(test, bench.file_images)
    settings = kept(measure_codecs(files))
    for size_name, size in (("", "bytes"), (", without headers", "payload")):
        curves[f"best of codecs and scales{size_name}"] = curve_of(settings, size)
        for codec in QUALITIES:
            if found := of_codec(settings, codec, native=True):
                curves[f"{codec}{size_name}"] = curve_of(found, size)
    return compared(bench, name, rows, curves, len(files))


def compared(bench: Bench, name: str, rows: Rows, peers: dict[str, Curve], files: int) -> dict[str, Any]:
    """Compare our models with the curves of peers. `files` is the number of files that each codec wrote."""
    ours = frontier([Point(row["bytes"], row["MSE"], str(row["numbers"])) for row in rows])
    curves = {"aekit": ours, **peers}
    picture = f"{bench.results}-{name}.png"
    draw(RESULTS / picture, name, curves)
    rates = [
        {"against": peer, "BD-rate, %": bd_rate(curves["aekit"], curve), "smallest": coarsest(curve)}
        for peer, curve in curves.items()
        if peer != "aekit"
    ]
    return {"models": rows, "picture": picture, "file images": files, "BD-rate": rates,
            "curves": {peer: [vars(point) for point in curve] for peer, curve in curves.items()}}  # fmt: skip


def reused_images(bench: Bench, name: str) -> Pixels:
    """The test images of a set, without a model."""
    if name == "mnist":
        return load_named_set("mnist", "test")
    _, test = unpack_split(data_dir() / "gtsrb/gtsrb-png.tar", ".png", TRACKS, bench.folder / "gtsrb-images")
    return all_images(test, (32, 32))


def coarsest(curve: Curve) -> str:
    """A curve's smallest point, in words."""
    return f"{curve[0].bytes:.1f} bytes at {curve[0].mse:.4f}" if curve else "–"


def curves_of(result: dict[str, Any]) -> dict[str, Curve]:
    """The curves in a result, as measured or as loaded."""
    return {peer: [Point(**point) for point in points] for peer, points in result["curves"].items()}


def mnist(bench: Bench) -> dict[str, Any] | None:
    """All 10,000 MNIST test images, at four targets."""
    if not (data_dir() / "mnist").exists():
        return None
    sizes = MNIST_BYTES if bench.objective == "rate" else PLAIN_NUMBERS
    result = measure(bench, "mnist", "mnist", sizes)
    curves, rows = curves_of(result), []
    for most, (reach, aim) in MNIST_TARGETS.items():
        good = [row["bytes"] for row in result["models"] if row["MSE"] <= most]
        row = {"MSE at most": most, "reach": reach, "aim": aim, "aekit, smallest file": min(good, default=None)}
        row |= {peer: bytes_at(curve, most) for peer, curve in curves.items()}
        rows.append({("aekit, on the curve" if key == "aekit" else key): value for key, value in row.items()})
    return {"targets": rows, **result}


def gtsrb(bench: Bench) -> dict[str, Any] | None:
    """Traffic signs, 32x32 colour, split by class and track: against each codec at the MSE of our three qualities."""
    archive = data_dir() / "gtsrb/gtsrb-png.tar"
    if not archive.exists():
        return None
    if bench.reuse:
        return at_our_mse(measure(bench, "gtsrb", "", ()))
    train, test = unpack_split(archive, ".png", TRACKS, bench.folder / "gtsrb-images")
    sizes = COLOUR_BYTES if bench.objective == "rate" else PLAIN_NUMBERS[1:]
    # The tracks of the other part are what no model has seen: they take the place of what training held out.
    np.save(bench.folder / "gtsrb.npy", all_images(test, (32, 32)))
    return at_our_mse(measure(bench, "gtsrb", train, sizes, "--size", "32x32", "--rgb", "--group-by", TRACKS))


def folder(bench: Bench, images: Path, size: str | None) -> dict[str, Any]:
    """Any folder of images, on those that training holds out."""
    name = re.sub(r"\W+", "-", images.name) or "folder"
    options = ("--size", size) if size else ()
    return at_our_mse(
        measure(bench, name, images.resolve(), COLOUR_BYTES if bench.objective == "rate" else PLAIN_NUMBERS, *options)
    )


def at_our_mse(result: dict[str, Any]) -> dict[str, Any]:
    """The result with a table: what each peer needs at the MSE of each of our models."""
    curves, rows = curves_of(result), []
    for model in result["models"]:
        row = {"MSE": model["MSE"], "aekit": model["bytes"]}
        row |= {peer: bytes_at(curve, model["MSE"]) for peer, curve in curves.items() if peer != "aekit"}
        rows.append(row)
    return {"targets": rows, **result}


def all_images(source: Path, size: tuple[int, int]) -> Pixels:
    """Every image below a folder, in colour, at a size."""
    return read_all(open_source(str(source)), Geometry(*size, 3))[0]


def coding(bench: Bench) -> dict[str, Any] | None:
    """The entropy coders on blocks of 4,096 codes: bytes an image, and millions of symbols a second."""
    rows: Rows = []
    for model in sorted(bench.folder.glob("*-*/model.json")):
        codec = Codec.load(model.parent)
        coders = GridCoders(read_tables(codec.bundle))
        codes: U8 = codec.encode(
            np.load(bench.folder / f"{model.parent.name.split('-')[0]}.npy", allow_pickle=False)[:4096], "uint8"
        )
        row: dict[str, Any] = {"model": model.parent.name, "numbers": codes.shape[1]}
        for name, coder in (("static", coders.of_mode(0, "")), ("kept", coders.best)):
            data = coder.encode([codes[:, None]])
            row |= {
                f"{name}, bytes": len(data) / len(codes),
                f"{name}, encode, M/s": rate(partial(coder.encode, [codes[:, None]]), codes.size),
                f"{name}, decode, M/s": rate(partial(coder.decode, data, [(len(codes), 1)]), codes.size),
            }
        rows.append({**row, "reach": "2 with context"})
    return {"targets": rows} if rows else None


def rate(work: Callable[[], object], symbols: int) -> float:
    """Millions of symbols a second."""
    work()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < 1:
        work()
        done += symbols
    return done / (time.perf_counter() - began) / 1e6


def draw(file: Path, name: str, curves: dict[str, Curve]) -> None:
    """The curves as a picture: bytes an image against PSNR."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6))
    for peer, curve in curves.items():
        points = [point for point in curve if point.mse > 0]
        if not points:
            continue
        style = {"aekit": "k-o"}.get(
            peer, "--" if peer[:4] in ("KLT,", "best") else ":" if peer.endswith("headers") else "-"
        )
        axes.plot(
            [point.bytes for point in points], [psnr(point.mse) for point in points], style, label=peer, markersize=4
        )
    axes.set(xscale="log", xlabel="bytes an image, as a file or without its header", ylabel="PSNR, dB", title=name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(file, dpi=110, bbox_inches="tight")
    pyplot.close(figure)


PARTS: dict[str, Callable[[Bench], dict[str, Any] | None]] = {"mnist": mnist, "gtsrb": gtsrb, "coding": coding}


def section(name: str, result: dict[str, Any]) -> str:
    """A part's tables below its question."""
    question = (PARTS[name].__doc__ if name in PARTS else folder.__doc__) or ""
    parts = [f"## {name}: {question.splitlines()[0]}", table(result["targets"])]
    if "models" in result:
        peers = f"Codecs wrote {result['file images']} images as one file each."
        parts += [
            "Our models:",
            table(result["models"]),
            f"BD-rate of aekit against each. {peers}",
            table(result["BD-rate"]),
        ]
        parts.append(f"![curves]({result['picture']})")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few models, seconds of training each, few files")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, of: " + ", ".join(PARTS))
    parser.add_argument("--folder", type=Path, help="a folder of images to measure instead of the parts")
    parser.add_argument("--reuse", action="store_true", help="train nothing; measure the codecs again")
    parser.add_argument("--reuse-peers", action="store_true", help="measure our models alone; keep the peers' figures")
    parser.add_argument("--size", help="HEIGHTxWIDTH for --folder, where its images differ in size")
    parser.add_argument("--objective", default="rate", choices=("rate", "plain"), help="what is trained")
    parser.add_argument("--work", type=Path, help="folder for the models; kept (default: a temporary one)")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="aekit-compression-"))
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work.resolve(), arguments.quick, arguments.objective, arguments.reuse, arguments.reuse_peers)
    results = load(bench.results)  # of parts that this call leaves out
    if arguments.folder:
        runs = {arguments.folder.name: lambda: folder(bench, arguments.folder, arguments.size)}
    else:
        runs = {name: lambda name=name: PARTS[name](bench) for name in arguments.only.split(",")}
    for name, run in runs.items():
        result = run()
        if result is None:
            print(f"no data for {name}: left out")
            continue
        results[name] = result
        print(f"\n{section(name, result)}\n", flush=True)
        results["machine"] = machine()
        where = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
        note = "Rough figures of a --quick run. " if arguments.quick else ""
        note += "aekit's and the KLT's figures are of an earlier run. " if arguments.reuse else ""
        note += "The peers' figures are of an earlier run. " if arguments.reuse_peers else ""
        made = f"Made by `python benchmarks/compression_vectors.py` on: {where}."
        head = f"# Compression with vector codes\n\n{note}{made}"
        parts = [section(part, found) for part, found in results.items() if part != "machine"]
        save(bench.results, results, "\n\n".join([head, *parts]))
    print(f"models and archives: {work}")


if __name__ == "__main__":
    main()
