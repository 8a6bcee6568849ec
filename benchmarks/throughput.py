"""How fast aekit runs: every job beside what one would write without it and beside the limit it can't pass.

    pip install 'aekit[train,bench]'
    python benchmarks/throughput.py [--quick] [--only pngs,photos] [--folder DIR]

Each row is a median of ratios of alternating passes, so that a busy moment hits both sides. All but `encode` and
`latency` time whole processes, from start to exit. --folder keeps the images and models that are made here; a folder in
memory (/dev/shm) keeps the disk's journal out of the figures. Each part prints its table and is added to
benchmarks/results/throughput.json and throughput.md. Full parts take 1 to 3 minutes, beside what they make first.
"""

import argparse
import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import aekit, load, machine, save, table
from grid_throughput import grids
from inputs import Bench, digit_images
from timing import PASSES, SCRIPTS, Rows, Sides, alternating, process, row


def pngs(bench: Bench) -> Rows:
    """A folder of small PNG files to codes."""
    folder, model = bench.digits(), bench.untrained("model-28", "mnist-5k")
    out, fast, auto = bench.folder / "codes.npy", bench.folder / "codes-auto.npy", bench.fastest("model-28")
    seconds = alternating(
        {
            "ours": process("-m", "aekit", "compress", folder, "--out", out, "--model", model, "--overwrite"),
            "loader": process(
                SCRIPTS / "loader_onnx.py", folder, model / "encoder.onnx", 28, "gray", bench.folder / "peer.npy"
            ),
            "decode": process(SCRIPTS / "decode_only.py", folder, "processes"),
            "auto": process("-m", "aekit", "compress", folder, "--out", fast, "--model", auto, "--overwrite"),
        }
    )
    check_same(out, bench.folder / "peer.npy")
    job = f"{bench.much(10_000):,} PNG 28×28 → codes.npy"
    bound = "both cores: start-up, the encoder and decoding"
    return [
        row(job, seconds["ours"], "DataLoader + onnxruntime", seconds["loader"], 3, 5, bound),
        row(job, seconds["ours"], "Pillow decode-only, 2 processes", seconds["decode"], 1, 1.5, bound),
        row(f"{job}, auto", seconds["auto"], "DataLoader + onnxruntime", seconds["loader"], 3, 5, bound),
        row(f"{job}, auto", seconds["auto"], "Pillow decode-only, 2 processes", seconds["decode"], 1, 1.5, bound),
    ]


def photos(bench: Bench) -> Rows:
    """Large JPEG files to codes of 64×64."""
    folder = bench.photos()
    model = bench.untrained("model-64", str(folder), "--size", "64x64")
    out = bench.folder / "codes.npy"
    seconds = alternating(
        {
            "ours": process("-m", "aekit", "compress", folder, "--out", out, "--model", model, "--overwrite"),
            "loader": process(
                SCRIPTS / "loader_onnx.py", folder, model / "encoder.onnx", 64, "rgb", bench.folder / "peer.npy"
            ),
            "decode": process(SCRIPTS / "decode_only.py", folder, "threads", 64),
        },
        3 if bench.quick else PASSES,
    )
    job = f"{bench.much(600)} JPEG photos → 64×64 → codes.npy"
    bound = "the JPEG library on both cores, then start-up and opening the model"
    return [
        row(job, seconds["ours"], "DataLoader + onnxruntime", seconds["loader"], 2, 4, bound),
        row(job, seconds["ours"], "DCT-scaled decode-only, 2 threads", seconds["decode"], 0.9, 0.97, bound),
    ]


def check_same(ours: Path, theirs: Path) -> None:
    """The other side must have done the same work."""
    if not np.allclose(np.load(ours, allow_pickle=False), np.load(theirs, allow_pickle=False), atol=1e-2):
        sys.exit(f"{ours} and {theirs} differ")


def arrays(bench: Bench) -> Rows:
    """A mapped array to codes, against the graph alone on batches that lie in the cache."""
    import onnxruntime

    count = bench.much(1_000_000)
    array, model = bench.array(count), bench.untrained("model-28", "mnist-5k")
    out = bench.folder / "codes.npy"
    session = onnxruntime.InferenceSession(model / "encoder.onnx", providers=["CPUExecutionProvider"])
    batch, sample = digit_images(256), count // 10

    def alone() -> None:
        for _ in range(0, sample, len(batch)):
            session.run(["latent"], {"image": batch})

    seconds = alternating(
        {
            "ours": process("-m", "aekit", "compress", array, "--out", out, "--model", model, "--overwrite"),
            "alone": alone,
        },
        3 if bench.quick else PASSES,
    )
    alone_seconds = [value * count / (-(-sample // len(batch)) * len(batch)) for value in seconds["alone"]]
    job = f"array of {count:,} images 28×28 → codes.npy"
    return [row(job, seconds["ours"], "session.run alone", alone_seconds, 0.85, 0.95, "the encoder, on both cores")]


def encode(bench: Bench) -> Rows:
    """Arrays in memory to latents, against the network in eager torch; in one process, 2 threads each."""
    import torch

    from aekit.model.codec import Codec
    from aekit.training.checkpoint import Run
    from aekit.training.trainer import load_network

    model, auto = bench.untrained("model-28", "mnist-5k"), bench.fastest("model-28")
    network = load_network(Run.read(bench.folder / "runs" / "model-28")).eval()
    torch.set_num_threads(2)
    images = digit_images(bench.much(20_480))
    codecs = {
        "fp32": Codec.load(model, "cpu", 2, parallel_batches=2),
        "auto": Codec.load(auto, "cpu", 2, parallel_batches=2),
    }
    sides: Sides = {
        name: lambda codec=codec: [codec.encode(images[at : at + 512]) for at in range(0, len(images), 512)]
        for name, codec in codecs.items()
    }

    @torch.inference_mode()
    def eager() -> None:
        for at in range(0, len(images), 512):
            network.encode(torch.from_numpy(images[at : at + 512]).permute(0, 3, 1, 2).float() / 255)

    seconds = alternating({**sides, "torch": eager}, 9)
    kept = codecs["auto"].bundle.variant
    return [
        row(
            f"encode arrays, {name}", seconds[side], "torch eager, batches of 512", seconds["torch"], 1.3, 3, "products"
        )
        for side, name in (("fp32", "fp32"), ("auto", f"best variant: {kept}"))
    ]


def reconstruct(bench: Bench) -> Rows:
    """Codes to PNG files."""
    folder, model, auto = bench.digits(), bench.untrained("model-28", "mnist-5k"), bench.fastest("model-28")
    codes, images = (
        {name: bench.folder / f"{name}-to-decode.npy" for name in ("fp32", "auto")},
        bench.folder / "images.npy",
    )
    for path, chosen in zip(codes.values(), (model, auto), strict=True):
        aekit("compress", folder, "--out", path, "--model", chosen, "--overwrite", cwd=bench.folder)
    aekit("reconstruct", codes["fp32"], "--out", images, "--model", model, "--overwrite", cwd=bench.folder)
    written = bench.folder / "written"
    shutil.rmtree(written, ignore_errors=True)
    numbers = itertools.count()

    def into(*command: object) -> Callable[[], None]:
        """A process that writes a new folder each time: where files were just removed, ext4 makes others slowly."""
        return lambda: process(*(written / f"{next(numbers)}" if part is written else part for part in command))()

    def ours(codes: Path, model: Path) -> Callable[[], None]:
        return into("-m", "aekit", "reconstruct", codes, "--out", written, "--model", model)

    seconds = alternating(
        {
            "ours": ours(codes["fp32"], model),
            "save": into(SCRIPTS / "save_only.py", images, written),
            "auto": ours(codes["auto"], auto),
        }
    )
    job = f"reconstruct {bench.much(10_000):,} codes to PNG files"
    # Of the pass that is not counted, ours came first and theirs second.
    sizes = [sum(path.stat().st_size for path in (written / f"{number}").rglob("*.png")) for number in range(2)]
    shutil.rmtree(written)
    bound = (
        f"start-up, then both cores: the decoder, deflate, making files; bytes of all {sizes[0]:,}, theirs {sizes[1]:,}"
    )
    return [
        row(job, seconds["ours"], "Pillow saving, one thread", seconds["save"], 1.8, 4, bound),
        row(f"{job}, auto", seconds["auto"], "Pillow saving, one thread", seconds["save"], 1.8, 4, bound),
    ]


def startup(bench: Bench) -> Rows:
    """Whole processes that do next to nothing, against their imports alone. Here a ratio is theirs to ours."""
    model, picture = bench.untrained("model-28", "mnist-5k"), next(bench.digits().rglob("*.png"))
    out = bench.folder / "one.npy"
    seconds = alternating(
        {
            "help": process("-m", "aekit", "--help"),
            "typer": process("-c", "import typer"),
            "one": process("-m", "aekit", "compress", picture, "--out", out, "--model", model, "--overwrite"),
            "imports": process("-c", "import numpy, onnxruntime, typer, PIL.Image"),
        },
        15,
    )
    bound = "Python's imports; reach is 1 / 1.3"
    return [
        row("aekit --help", seconds["help"], "import typer", seconds["typer"], 1 / 1.3, 1, bound),
        row("compress one image", seconds["one"], "the imports it needs", seconds["imports"], 1 / 1.3, 1, bound),
    ]


def memory(bench: Bench) -> Rows:
    """Peak resident memory of the array job, as it grows tenfold."""
    model = bench.untrained("model-28", "mnist-5k")
    rows = []
    for count in (1, 100_000, bench.much(1_000_000)):
        command = ["-m", "aekit", "compress", bench.array(count), "--out", bench.folder / "codes.npy", "--overwrite"]
        peak = peak_memory([sys.executable, *map(str, command), "--model", str(model)])
        rows.append({"job": f"array of {count:,} images", "peak memory, MB": peak / 1e6})
    return rows


_MEASURED = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_memory(command: list[str]) -> int:
    """Peak resident bytes of a process. It is started by a small one: to the system a child's peak is at least what its
    parent had when it was forked."""
    done = subprocess.run([sys.executable, "-c", _MEASURED, *command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def first_code(bench: Bench) -> Rows:
    """Time from the start of the command until the first codes of a huge folder lie on the disk."""
    count = bench.much(100_000)

    def make(folder: Path) -> None:
        folder.mkdir()
        data = [path.read_bytes() for path in sorted(bench.digits().rglob("*.png"))]
        for number in range(count):
            (folder / f"{number:06d}.png").write_bytes(data[number % len(data)])

    folder, model = bench.made(f"many-{count}", make), bench.untrained("model-28", "mnist-5k")
    out = bench.folder / "many.npy"
    part = out.with_name(out.name + ".part")
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        command = ["-m", "aekit", "compress", str(folder), "--out", str(out), "--model", str(model), "--overwrite"]
        with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL) as job:
            while not (part.exists() and part.stat().st_size > 1024):
                time.sleep(0.005)
            seconds.append(time.perf_counter() - began)
            job.terminate()
        part.unlink(missing_ok=True)
    return [
        {"job": f"first codes of a folder of {count:,} PNG files", "ours, s": statistics.median(seconds), "reach": 2}
    ]


def latency(bench: Bench) -> Rows:
    """One image through the Codec, against the bare session."""
    import onnxruntime

    from aekit.model.codec import Codec

    model, image = bench.untrained("model-28", "mnist-5k"), digit_images(1)
    session = onnxruntime.InferenceSession(model / "encoder.onnx", providers=["CPUExecutionProvider"])
    codec = Codec.load(model)

    def many(once: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(1000):
                once()

        return run

    seconds = alternating(
        {"ours": many(lambda: codec.encode(image)), "alone": many(lambda: session.run(["latent"], {"image": image}))}, 9
    )
    bound = "the graph; seconds are of 1,000 images; reach is 1 / 1.5"
    return [row("one image through Codec", seconds["ours"], "session.run", seconds["alone"], 1 / 1.5, 1, bound)]


PARTS: dict[str, Callable[[Bench], Rows]] = {
    part.__name__: part
    for part in (pngs, photos, arrays, encode, reconstruct, startup, latency, memory, first_code, grids)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the images: rough figures, which are not saved"
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, by commas")
    parser.add_argument("--folder", type=Path, help="keeps what is made for the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        bench, results = Bench(folder, arguments.quick), load("throughput")
        for name in arguments.only.split(","):
            rows = PARTS[name](bench)
            print(f"\n## {name}\n\n{table(rows)}", flush=True)
            results[name] = {"machine": machine(), "rows": rows}
            if not arguments.quick:
                parts = [f"## {part}\n\n{table(results[part]['rows'])}" for part in PARTS if part in results]
                facts = ", ".join(f"{key} {value}" for key, value in machine().items())
                save("throughput", results, "\n\n".join(["# Throughput", facts, *parts]))


if __name__ == "__main__":
    main()
