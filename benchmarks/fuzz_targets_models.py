"""Fuzz targets of models and runs: their JSON, graphs, components and checkpoints."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_targets_base import TINY, Target, Wrong, parsed, repaired_zip, saved

from aekit.errors import AekitError, BundleError
from aekit.json_files import finite, read_json
from aekit.model.bundle import MANIFEST, Bundle
from aekit.model.codec import Codec
from aekit.model.graph_check import check_self_contained
from aekit.model.sampling import LatentGaussian
from aekit.outputs.ours import FOLDERS, foreign_part, is_our_file
from aekit.pca import Pca
from aekit.runs import CONFIG, config_checksum, run_of_model
from aekit.spec import Geometry


def manifest(folder: Path) -> Target:
    """model.json of a model folder: what is loaded computes what it did, or is refused."""
    model = Path(shutil.copytree(TINY, folder / "model"))
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    wanted = Codec.load(model, "cpu", 1).reconstruct(images)

    def run(data: bytes) -> None:
        (model / MANIFEST).write_bytes(data)
        codec = Codec.load(model, "cpu", 1)
        latents = LatentGaussian.of_model(codec.bundle)
        if not all(np.isfinite(batch).all() for batch in latents.draw(3, 0)):
            raise Wrong("latents that are no numbers")
        if not np.array_equal(codec.reconstruct(images), wanted):
            raise Wrong("other images from the same graphs")

    return Target([(TINY / MANIFEST).read_bytes()], run)


def graph(folder: Path) -> Target:
    """The encoder's ONNX graph, before onnxruntime sees it."""
    return Target([Bundle.read(TINY).graph("encoder")], lambda data: check_self_contained(data, "x.onnx"))


def components(folder: Path) -> Target:
    """pca.npz of a run."""
    mean, rows, scales = np.zeros(64, np.float32), np.eye(4, 64, dtype=np.float32), np.ones(4, np.float32)
    seed = saved(lambda stream: np.savez(stream, mean=mean, components=rows, scales=scales))
    file, images = folder / "pca.npz", np.zeros((2, 8, 8, 1), np.uint8)

    def run(data: bytes) -> None:
        file.write_bytes(data)
        pca = Pca.load(file)
        if pca.mean.size == 64:
            pca.mse(images)

    return Target([seed], run, repaired_zip)


def config(folder: Path) -> Target:
    """config.json of a run."""
    from aekit.training.checkpoint import Run
    from aekit.training.config import make_config

    run = Run.create(folder / "run", make_config("default"), Geometry(8, 8, 1), {"train_images": 1})
    file = run.path / CONFIG

    def read(data: bytes) -> None:
        file.write_bytes(data)
        opened = Run.read(run.path)
        opened.config.spec(opened.geometry)

    def repaired(data: bytes) -> bytes:
        try:
            values = json.loads(data)
            return json.dumps({**values, "sha256": config_checksum(values)}).encode()
        except (ValueError, TypeError, RecursionError):
            return data

    return Target([file.read_bytes()], read, repaired)


def checkpoint(folder: Path) -> Target:
    """A run's safetensors files: what is read is what was written."""
    import torch

    from aekit.training.checkpoint import CHECKPOINT, Run
    from aekit.training.config import make_config

    run = Run.create(folder / "run", make_config("default"), Geometry(8, 8, 1), {"train_images": 1})
    tensors = {"network.weight": torch.arange(12.0).reshape(3, 4), "optimizer.0.step": torch.tensor(3.0)}
    run.save_tensors(CHECKPOINT, tensors, {"step": 3})
    file = run.path / CHECKPOINT
    seed = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        found, state = run.load_tensors(CHECKPOINT)
        same = found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
        if not same or state["step"] != 3:
            raise Wrong("other tensors with the same checksum")

    return Target([seed, b"\x80\x04\x95pickle"], read)


def resume(folder: Path) -> Target:
    """The state in a run's checkpoint, as one that has the right checksum may hold it."""
    from aekit.training.checkpoint import CHECKPOINT, Run
    from aekit.training.config import make_config
    from aekit.training.data import load_training_data
    from aekit.training.loop import TrainLoop
    from aekit.training.recorder import Epoch, Recorder
    from aekit.training.session import fit_principal
    from aekit.training.trainer import train

    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    settings: dict[str, Any] = {"hidden": (2,), "code_dim": 2, "epochs": 3, "batch_size": 16, "precision": "fp32"}
    config = make_config("default", data=str(folder / "images.npy"), **settings)
    data = load_training_data(config.data)
    run = Run.create(folder / "run", config, data.geometry, data.facts())
    train(run, data, principal=fit_principal(config, data))
    tensors, state = run.load_tensors(CHECKPOINT)
    loop = TrainLoop(config, data, "cpu", Pca.fit(data.train, 2))

    def read(data: bytes) -> None:
        changed = parsed(data)
        if not isinstance(changed, dict):
            raise AekitError("no state")
        run.save_tensors(CHECKPOINT, tensors, changed)
        recorder = Recorder(run, loop)
        recorder.restore()
        recorder.is_exhausted()
        if not 0 <= loop.step <= loop.total:
            raise Wrong(f"step {loop.step} of {loop.total}")
        if recorder.epochs:
            Epoch(**recorder.epochs[recorder.best_epoch - 1])

    return Target([json.dumps(state).encode()], read)


def json_values(folder: Path) -> Target:
    """JSON of any depth and values, wherever aekit reads some: markers of folders, model.json, an index, a config."""
    seeds = [
        (TINY / MANIFEST).read_bytes(),
        json.dumps({"format_version": 1, "made_by": "aekit 1", "images": 1, "run_id": "x"}).encode(),
        json.dumps({"images": 1, "test_images": "", "geometry": "", "code_dim": 4, "model_id": "x"}).encode(),
    ]
    places = {marker: folder / f"marked-{number}" for number, marker in enumerate(FOLDERS)}
    for place in places.values():
        place.mkdir()
    index = folder / "codes.jsonl"

    def run(data: bytes) -> None:
        for marker, place in places.items():
            (place / marker).write_bytes(data)
            (place / "mine.txt").write_bytes(b"")
            foreign = foreign_part(place, marker)
            declared = parsed_or_none(data)
            listed = declared.get("files") if isinstance(declared, dict) else None
            if foreign is None and not (marker == MANIFEST and isinstance(listed, dict) and "mine.txt" in listed):
                raise Wrong(f"a folder with a user's file passes as aekit's by its {marker}")
        index.write_bytes(data)
        is_our_file(index)
        run_of_model(places["aekit.json"], "x")
        values = read_json(places[MANIFEST] / MANIFEST, BundleError, "a model", newest=1)
        json.dumps(finite(values))
        Bundle.read(places[MANIFEST])

    return Target(seeds, run)


def parsed_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
