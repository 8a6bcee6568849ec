"""How well aekit learns: the figures of docs/benchmarks.md, measured with the real commands.

    pip install 'aekit[train,bench]'
    AEKIT_DATA_DIR=… python benchmarks/learning.py [--quick] [--only sizes,denoising]

needs `mnist/` in AEKIT_DATA_DIR, with the labels' files, and skips what it has no data for: `gtsrb/gtsrb-png.tar`,
`magnetic-tile/magnetic-tile.tar`. About an hour on 2 cores; --quick takes minutes and gives rough figures. Each part
prints a table as it ends; all of them are written to benchmarks/results/learning.json and learning.md.
"""

import argparse
import gzip
import hashlib
import math
import re
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Bench, Rows, aekit, data_dir, load, machine, save, table
from peers import classical_denoisers
from training_speed import speed

from aekit.evaluation.figures import grid
from aekit.evaluation.metrics import mse, psnr
from aekit.images.named_sets import load_named_set
from aekit.model.codec import Codec
from aekit.pca import Pca
from aekit.training.checkpoint import Run
from aekit.training.reproducible import generator
from aekit.training.trainer import load_network

SIZES = {8: (0.0125, 0.0091), 16: (0.0073, 0.0060), 32: (0.0045, 0.0035)}
SIZES |= {64: (0.0030, 0.0020), 128: (0.0016, 0.0010), 256: (0.0008, 0.0005)}
NOISE = 0.5


def sizes(bench: Bench) -> Rows:
    """Test MSE on MNIST's 10,000 test images at six code sizes, beside PCA, through the graphs, float32 latents."""
    rows = []
    for code_dim, (reach, aim) in SIZES.items():
        name = f"mnist-{code_dim}"
        trained = bench.model(name, "mnist", 2.5, "--code-dim", code_dim)
        report = bench.evaluate(name, "mnist")
        row = {"numbers": code_dim, "PCA": report["pca_mse"], "reach": reach, "aim": aim, "MSE": report["mse"]}
        rows.append({**row, "uint8 codes": report["uint8_mse"], "training s": trained.get("seconds")})
    return rows


def small(bench: Bench) -> Rows:
    """The preset `small`, for devices: test MSE on MNIST and the size of its graphs, beside the default's."""
    rows = []
    for preset in ("small", "default"):
        name = "mnist-32" if preset == "default" else "mnist-small"
        trained = bench.model(name, "mnist", 2.5, "--code-dim", 32, "--preset", preset)
        report = bench.evaluate(name, "mnist")
        row = {"preset": preset, "numbers": 32, "PCA": report["pca_mse"], "MSE": report["mse"]}
        for role in ("encoder", "decoder"):
            row[f"{role}, kB"] = (bench.folder / name / f"{role}.onnx").stat().st_size / 1000
        rows.append({**row, "training s": trained.get("seconds")})
    return rows


def other_sets(bench: Bench) -> Rows:
    """The same recipe, untouched, on colour traffic signs and on magnetic tiles, split so that no twin is shared."""
    rows = []
    root = data_dir()
    sets = {
        # Frames of a track, and exposures of a tile, are near duplicates: whole groups go to one side.
        "gtsrb": (root / "gtsrb/gtsrb-png.tar", ".png", r"^(\d+/\d+)_", ("--size", "32x32")),
        "tiles": (root / "magnetic-tile/magnetic-tile.tar", ".jpg", r"_num_(\d+)", ("--size", "64x64", "--gray")),
    }
    for name, (archive, suffix, group, geometry) in sets.items():
        if not archive.exists():
            print(f"no {archive}: {name} left out")
            continue
        train_folder, test_folder = unpack_split(archive, suffix, group, bench.folder / f"{name}-images")
        for code_dim in (32, 64):
            model = f"{name}-{code_dim}"
            options = (*geometry, "--group-by", group, "--code-dim", code_dim)
            trained = bench.model(model, train_folder, 1, *options)
            report = bench.evaluate(model, test_folder)
            rows.append(
                {
                    "set": name,
                    "numbers": code_dim,
                    "test images": report["images"],
                    "PCA": report["pca_mse"],
                    "MSE": report["mse"],
                    "of PCA": report["mse"] / report["pca_mse"],
                    "training s": trained.get("seconds"),
                }
            )
    return rows


def unpack_split(archive: Path, suffix: str, group: str, folder: Path) -> tuple[Path, Path]:
    """Unpack the images into train/ and test/: a fifth of the groups to test, by the hash of what `group` matches."""
    parts = folder / "train", folder / "test"
    if folder.exists():
        return parts
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(suffix):
                match = re.search(group, member.name)
                assert match is not None, member.name
                is_test = hashlib.sha256(b"test" + match[1].encode()).digest()[0] < 256 // 5
                tar.extract(member, parts[is_test], filter="data")
    return parts


def denoising(bench: Bench) -> Rows:
    """PSNR on MNIST's test images with Gaussian noise of 0.5, clipped; the classical ones each at its best setting."""
    options = ("--objective", "denoising", "-O", "noise=gaussian", "-O", f"strength={NOISE}", "--code-dim", 128)
    bench.model("denoise", "mnist", 3, *options)
    clean = load_named_set("mnist", "test")
    rng = np.random.default_rng(0)
    noisy = np.rint(np.clip(clean / 255 + rng.normal(0, NOISE, clean.shape), 0, 1) * 255).astype(np.uint8)
    np.save(bench.folder / "noisy.npy", noisy)
    aekit("denoise", "noisy.npy", "--model", "denoise", "--out", "denoised.npy", "--overwrite", cwd=bench.folder)
    few = slice(0, 1000, 20 if bench.quick else 2)
    rows = [{"denoiser": "none", "PSNR": psnr(mse(clean, noisy))}]
    for name, settings in classical_denoisers().items():
        best = max(
            -10 * math.log10(float(np.mean([np.square(np.clip(f(x), 0, 1) - y).mean() for x, y in pairs])))
            for pairs in [list(zip(noisy[few, :, :, 0] / 255, clean[few, :, :, 0] / 255, strict=True))]
            for f in settings
        )
        rows.append({"denoiser": f"scikit-image {name}", "PSNR": best})
    ours = psnr(mse(clean, np.load(bench.folder / "denoised.npy", allow_pickle=False)))
    above = ours - max(row["PSNR"] for row in rows)
    shown = np.linspace(0, 9999, 10).astype(int)
    grid([noisy[shown], np.load(bench.folder / "denoised.npy", allow_pickle=False)[shown], clean[shown]]).save(
        bench.folder / "denoised.png"
    )
    return [*rows, {"denoiser": "aekit", "PSNR": ours, "above the best": above, "reach": 7.0, "aim": 9.0}]


def variational(bench: Bench) -> Rows:
    """−ELBO in nats on test images thresholded at 0.5, 32 numbers; and samples drawn by the exported decoder."""
    options = ("--objective", "variational", "-O", "likelihood=bernoulli", "--code-dim", 32)
    bench.model("vae", "mnist", 3, *options)
    network = load_network(Run.read(bench.folder / "runs/vae"))
    x = torch.from_numpy(load_named_set("mnist", "test").copy()).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        figures = [network.objective.validate(network, x, generator(number)) for number in range(5)]
    aekit("sample", "--n", 64, "--model", "vae", "--out", "samples.png", "--overwrite", cwd=bench.folder)
    mean = {name: float(np.mean([draw[name] for draw in figures])) for name in figures[0]}
    row = {"numbers": 32, "-ELBO, nats": mean["neg_elbo"], "of it KL": mean["kl"], "reach": 95.0, "aim": 90.0}
    return [row]


def features(bench: Bench) -> Rows:
    """Accuracy of the 5 nearest neighbours among 60,000 codes for 10,000 queries, by objective."""
    from sklearn.neighbors import KNeighborsClassifier

    images = np.concatenate([load_named_set("mnist", split) for split in ("train", "validation")])
    queries = load_named_set("mnist", "test")
    labels, wanted = (read_labels(name) for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"))

    def accuracy(codes: Any, queried: Any) -> float:
        nearest = KNeighborsClassifier(5, algorithm="brute").fit(codes, labels)
        return float((nearest.predict(queried) == wanted).mean() * 100)

    flat = [part.reshape(len(part), -1).astype(np.float32) for part in (images, queries)]
    rows: Rows = [{"codes": "raw pixels", "numbers": 784, "accuracy, %": accuracy(*flat)}]
    objectives: dict[str, tuple[str, ...]] = {
        "plain": (),
        "variational": ("--objective", "variational"),
        "denoising, gaussian": ("--objective", "denoising", "-O", "noise=gaussian"),
        "denoising, warp": ("--objective", "denoising", "-O", "noise=warp", "-O", "strength=1"),
    }
    for code_dim, reach, aim in ((32, 97.8, 98.3), (16, 97.2, None)):
        pca = Pca.fit(load_named_set("mnist", "train"), code_dim)
        projected = [(part / 255 - pca.mean) @ pca.components.T for part in flat]
        rows.append({"codes": "PCA", "numbers": code_dim, "accuracy, %": accuracy(*projected)})
        for name, options in objectives.items():
            model = f"features-{name.replace(', ', '-')}-{code_dim}"
            bench.model(model, "mnist", 1.5, "--code-dim", code_dim, *options)
            codec = Codec.load(bench.folder / model)
            for dtype in ("float32", "uint8"):
                coded = (codec.encode(part, dtype).astype(np.float32) for part in (images, queries))
                row = {"codes": f"{name}, {dtype}", "numbers": code_dim, "accuracy, %": accuracy(*coded)}
                rows.append({**row, "reach": reach, "aim": aim})
    return rows


def read_labels(name: str) -> Any:
    """Labels of MNIST, uint8 [n], from its idx file."""
    folder = data_dir() / "mnist"
    return np.frombuffer(gzip.decompress((folder / f"{name}.gz").read_bytes()), np.uint8, offset=8)


def sparse(bench: Bench) -> Rows:
    """An overcomplete code of 1,024 units: how many are active an image, and the test MSE."""
    network = ("--network", "mlp", "--hidden", "none", "--code-dim", 1024, "--objective", "sparse")
    rows = []
    for penalty in ("topk", "kl"):
        bench.model(f"sparse-{penalty}", "mnist", 1, *network, "-O", f"penalty={penalty}")
        trained = load_network(Run.read(bench.folder / f"runs/sparse-{penalty}"))
        x = torch.from_numpy(load_named_set("mnist", "test").copy()).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            figures = trained.objective.validate(trained, x, generator(0))
        report = bench.evaluate(f"sparse-{penalty}", "mnist")
        share = figures["used"]
        rows.append({"penalty": penalty, "units": 1024, "active an image": figures["active"], "ever active": share})
        rows[-1]["MSE"] = report["mse"]
    return rows


PARTS: dict[str, Callable[[Bench], Rows]] = {
    "speed": speed,
    "sizes": sizes,
    "small": small,
    "sets": other_sets,
    "denoising": denoising,
    "variational": variational,
    "features": features,
    "sparse": sparse,
}


def section(name: str, rows: Rows, where: dict[str, Any]) -> str:
    """A part's table below its question, and the machine it ran on."""
    facts = ", ".join(f"{key} {value}" for key, value in where.items())
    return f"## {(PARTS[name].__doc__ or '').splitlines()[0]}\n\n{table(rows)}\n\nOn: {facts}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the time for each training")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, of: " + ", ".join(PARTS))
    parser.add_argument("--work", type=Path, help="folder for the models; kept (default: a temporary one)")
    arguments = parser.parse_args()
    folder = arguments.work or Path(tempfile.mkdtemp(prefix="aekit-learning-"))
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder.resolve(), arguments.quick)
    file = "learning-quick" if arguments.quick else "learning"
    results = load(file)  # of parts that this call leaves out
    machines: dict[str, Any] = results.setdefault("machines", {})
    for name in arguments.only.split(","):
        results[name], machines[name] = PARTS[name](bench), machine()
        sections = {part: section(part, results[part], machines[part]) for part in PARTS if part in results}
        print(f"\n{sections[name]}\n", flush=True)
        note = "Rough figures of a --quick run. " if arguments.quick else ""
        head = f"# Learning\n\n{note}Made by `python benchmarks/learning.py`, part by part."
        save(file, results, "\n\n".join([head, *sections.values()]))
    print(f"models and pictures: {folder}")


if __name__ == "__main__":
    main()
