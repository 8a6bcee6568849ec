"""Export a run: calibrate, build both graphs, verify that they compute what torch computes, write the bundle."""

import copy
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from aekit._version import __version__
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import MAX_TABLES_DIM, pack_tables
from aekit.errors import OptionError
from aekit.evaluation.metrics import mse, psnr
from aekit.exporting.graphs import (
    OPSET,
    CodeUnits,
    DecoderGraph,
    EncoderGraph,
    check_dimensions,
    export_graph,
    finish_graph,
)
from aekit.exporting.parity import VariantCost, fastest, measure_parity, measure_variant, psnr_loss
from aekit.exporting.quantize import CALIBRATED_ON, VARIANTS, make_variant
from aekit.images.decode import Pixels
from aekit.model.bundle import MANIFEST, Bundle, write_bundle
from aekit.model.codec import Codec
from aekit.model.sampling import LatentGaussian
from aekit.outputs.staging import staged_folder
from aekit.pca import Pca
from aekit.registry import objective_facts
from aekit.runs import PCA
from aekit.spec import ModelSpec
from aekit.training.checkpoint import Run
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder
from aekit.training.trainer import load_network

Graphs = dict[str, onnx.ModelProto]
"""The two graphs of a model by role: encoder and decoder."""
_BATCH = 1000
_NOISE_IMAGES = 256
"""Number of training images on which the rounding noise of latents is measured."""


def export_run(run: Run, data: TrainingData, out: Path, *, variant: str = "fp32", overwrite: bool = False) -> Bundle:
    """Export the weights of `run` to the model folder `out`. After an error, nothing is left at `out`.

    Args:
        run: the run folder.
        data: the images of the run. Training images calibrate int8, and the code units unless training fixed them.
            All figures are measured on validation images.
        out: model folder to write.
        variant: precision: fp32, fp16, int8, or auto, which keeps the variant that is fastest on this machine's CPU
            and costs at most MOST_AUTO_DB.
        overwrite: replace a model folder at `out`.

    Raises:
        OptionError: `variant` is unknown.
        ParityError: the graphs differ too much from torch, or a variant differs too much from fp32.
        OutputExists: `out` is taken.
        OutputError: `out` can't be written.
        CheckpointError: the run's weights can't be read.
        SourceError: the run's PCA is damaged.
    """
    if variant not in (*VARIANTS, "auto"):
        raise OptionError("--variant", expected=f"auto or one of {', '.join(VARIANTS)}", found=repr(variant)[:80])
    with staged_folder(out, MANIFEST, overwrite=overwrite) as folder, tempfile.TemporaryDirectory() as beside:
        scratch = Path(beside)
        network = load_network(run)
        folded = network.folded()
        latents = _latents(network, data.train)
        scale = network.objective.code_scale(network)
        if scale is None:
            units = CodeUnits.calibrated(latents, rounding_noise(network, folded, data.train[:_NOISE_IMAGES]))
        else:
            units = CodeUnits.on_grid(scale)
        spec = run.config.spec(run.geometry)
        model_id = identity(spec, run.config.options, {**network.state_dict(), **units.state_dict()})
        fp32 = _fp32_graphs(folded, units, spec)
        codec = _write(scratch / "fp32", "fp32", fp32, spec, model_id, {})
        parity = measure_parity(EncoderGraph(network, units), DecoderGraph(network, units), codec, data.validation)

        made, measured = {"fp32": fp32}, dict[str, VariantCost]()
        for name in _variants_to_make(variant):
            made[name] = _variant_graphs(fp32, name, data.train, codec)
            smaller = _write(scratch / name, name, made[name], spec, model_id, {})
            measured[name] = measure_variant(codec, smaller, data.validation)
            if variant != "auto":
                measured[name].check(name)
        kept = fastest(measured) if variant == "auto" else variant
        shipped = Codec.load(scratch / kept, provider="cpu")
        facts: dict[str, Any] = {
            "made_by": f"aekit {__version__}, torch {torch.__version__}, opset {OPSET}",
            "training": {**data.facts(), "run_id": run.run_id, "pca_mse": _pca_mse(run, data)},
            "latent": _latent_gaussian(network, units, latents).to_dict(),
            "parity": parity.to_dict(),
            "validation": storage_cost(shipped, data.validation),
        }
        if measured:
            facts["variants"] = {name: cost.to_dict() for name, cost in measured.items()}
        if spec.code_dim <= MAX_TABLES_DIM:
            # An archive stores codes of the exported graph, so the tables are fitted to that graph's codes.
            facts["tables"] = pack_tables(FrequencyTables.fit(shipped.encode(data.train, "uint8")))
        _write(folder, kept, made[kept], spec, model_id, facts)
    return Bundle.read(out)


def _variants_to_make(variant: str) -> tuple[str, ...]:
    """Return the variants, other than fp32, that must be made to export `variant`."""
    if variant == "fp32":
        return ()
    if variant == "auto":
        return VARIANTS[1:]
    return (variant,)


def _fp32_graphs(network: Autoencoder, units: CodeUnits, spec: ModelSpec) -> Graphs:
    """Build both graphs of a network in fp32. Raises ParityError if a graph has a fixed batch size."""
    image = torch.zeros((2, *spec.fixed.shape), dtype=torch.uint8)
    models = {
        "encoder": export_graph(EncoderGraph(network, units), image, ["image"], ["latent", "code"]),
        "decoder": export_graph(DecoderGraph(network, units), torch.zeros(2, spec.code_dim), ["latent"], ["image"]),
    }
    for model in models.values():
        check_dimensions(model, spec.fixed, spec.code_dim)
    return models


def _variant_graphs(fp32: Graphs, variant: str, images: Pixels, codec: Codec) -> Graphs:
    """Make both graphs in reduced precision. The encoder is calibrated on images, the decoder on their fp32 latents."""
    # Calibration images are spread over the whole set: the first images of a folder may all be of one class.
    spread = images[:: max(len(images) // CALIBRATED_ON, 1)][:CALIBRATED_ON]
    inputs = {"encoder": spread, "decoder": codec.encode(spread)}
    return {role: make_variant(model, variant, inputs[role]) for role, model in fp32.items()}


def _write(place: Path, variant: str, models: Graphs, spec: ModelSpec, model_id: str, facts: dict[str, Any]) -> Codec:
    """Write a whole model to the folder `place` and load it as users do, so that measurements use the written files."""
    place.mkdir(exist_ok=True)
    graphs = {role: finish_graph(model, spec, model_id, variant) for role, model in models.items()}
    write_bundle(place, graphs, spec, model_id, variant, facts)
    return Codec.load(place, provider="cpu")


def _pca_mse(run: Run, data: TrainingData) -> dict[str, Any]:
    """Measure PCA with as many components as the code has numbers, on the held-out images. The bundle keeps this
    baseline, because evaluation may not have the run."""
    saved = run.path / PCA
    pca = Pca.load(saved) if saved.is_file() else Pca.fit(data.train, run.config.code_dim)
    return {"mse": pca.mse(data.validation), "code_dim": run.config.code_dim, "images": len(data.validation)}


def identity(spec: ModelSpec, options: dict[str, str], weights: dict[str, Tensor]) -> str:
    """Return the model_id: the first 16 hexadecimal digits of the SHA-256 over the spec, the options and all weights.

    `options` are the objective's. They count because they can change what the graphs compute, such as the number of
    active units.
    """
    digest = hashlib.sha256((spec.canonical() + json.dumps(options, sort_keys=True)).encode())
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def storage_cost(codec: Codec, images: Pixels) -> dict[str, float | None]:
    """Measure reconstructions of images uint8 [n, H, W, C], with pixels in [0, 1].

    `mse` and `psnr` (dB; None if the error is 0) are the headline figures. They belong to uint8 codes if the objective
    stores only those, else to float32 latents. `mse_float_latents` and `mse_uint8_codes` are the errors of both.
    `uint8_cost_db` is the PSNR that rounding to uint8 codes loses, in dB.
    """
    exact, stored = (mse(images, codec.reconstruct(images, dtype)) for dtype in ("float32", "uint8"))
    headline = stored if objective_facts(codec.spec.objective).stores_uint8_only else exact
    return {
        "mse": headline,
        "psnr": psnr(headline) if headline else None,
        "mse_float_latents": exact,
        "mse_uint8_codes": stored,
        "uint8_cost_db": psnr_loss(exact, stored),
    }


@torch.no_grad()
def _latent_gaussian(network: Autoencoder, units: CodeUnits, latents: Tensor) -> LatentGaussian:
    """Return the distribution of latents in code units.

    It is the prior if training pulled latents towards one, else a Gaussian fitted to `latents` [n, D], the latents of
    the training images in the network's units.
    """
    if network.objective.has_prior:
        return LatentGaussian.prior(units.scale.numpy(), units.offset.numpy())
    return LatentGaussian.fitted(units(latents).numpy())


@torch.no_grad()
def rounding_noise(network: Autoencoder, folded: Autoencoder, images: Pixels) -> Tensor:
    """Measure how far float32 rounding moves each latent, on uint8 images [n, H, W, C].

    Returns the largest distance from float64 arithmetic, shape [D], in the network's units: the larger of the values
    for the network as trained and for its folded form.
    """
    x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
    exact = copy.deepcopy(network).double().encode(x.double())
    return torch.stack([(half.encode(x) - exact).abs().amax(0) for half in (network, folded)]).amax(0)


@torch.no_grad()
def _latents(network: Autoencoder, images: Pixels) -> Tensor:
    """Return the network's latents [n, D] of uint8 images [n, H, W, C]."""
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH].copy())
        parts.append(network.encode(batch.permute(0, 3, 1, 2).float() / 255))
    return torch.cat(parts)
