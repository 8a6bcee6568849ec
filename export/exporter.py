"""Export a run: calibrate, build both graphs, write the bundle; it stands only if it computes what torch does."""

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
    """Export the weights of `run` to the model folder `out`, in precision `variant`: fp32, fp16, int8, or auto.

    `data` is what the run was trained on. The training images calibrate int8 and, unless training fixed them, the code
    units; the validation images measure. `auto` keeps the variant that is fastest on this machine's CPU among those
    that cost at most MOST_AUTO_DB.

    Raises OptionError for an unknown variant, ParityError if the graphs differ from torch, or a variant from fp32, by
    more than is allowed, OutputExists if `out` is taken, OutputError if it can't be written, CheckpointError if the
    run's weights can't be read. Nothing is left behind then.
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
            # An archive holds the codes of the graph that ships, so the tables are fitted to those.
            facts["tables"] = pack_tables(FrequencyTables.fit(shipped.encode(data.train, "uint8")))
        _write(folder, kept, made[kept], spec, model_id, facts)
    return Bundle.read(out)


def _variants_to_make(variant: str) -> tuple[str, ...]:
    """The variants beside fp32 that must be made to export `variant`."""
    if variant == "fp32":
        return ()
    if variant == "auto":
        return VARIANTS[1:]
    return (variant,)


def _fp32_graphs(network: Autoencoder, units: CodeUnits, spec: ModelSpec) -> Graphs:
    """Both graphs of a network, by role."""
    image = torch.zeros((2, *spec.geometry.shape), dtype=torch.uint8)
    models = {
        "encoder": export_graph(EncoderGraph(network, units), image, ["image"], ["latent", "code"]),
        "decoder": export_graph(DecoderGraph(network, units), torch.zeros(2, spec.code_dim), ["latent"], ["image"]),
    }
    for model in models.values():
        check_dimensions(model, spec.geometry, spec.code_dim)
    return models


def _variant_graphs(fp32: Graphs, variant: str, images: Pixels, codec: Codec) -> Graphs:
    """Both graphs in reduced precision, calibrated on images and on their latents by the fp32 model `codec`."""
    # Spread over all of them: a folder's first images may be of one class.
    spread = images[:: max(len(images) // CALIBRATED_ON, 1)][:CALIBRATED_ON]
    inputs = {"encoder": spread, "decoder": codec.encode(spread)}
    return {role: make_variant(model, variant, inputs[role]) for role, model in fp32.items()}


def _write(place: Path, variant: str, models: Graphs, spec: ModelSpec, model_id: str, facts: dict[str, Any]) -> Codec:
    """Write a whole model to the folder `place` and open it as users do: what is measured is what ships."""
    place.mkdir(exist_ok=True)
    graphs = {role: finish_graph(model, spec, model_id, variant) for role, model in models.items()}
    write_bundle(place, graphs, spec, model_id, variant, facts)
    return Codec.load(place, provider="cpu")


def _pca_mse(run: Run, data: TrainingData) -> dict[str, Any]:
    """The error of PCA of the code's size on the held-out images: the baseline, kept for evaluation elsewhere."""
    saved = run.path / PCA
    pca = Pca.load(saved) if saved.is_file() else Pca.fit(data.train, run.config.code_dim)
    return {"mse": pca.mse(data.validation), "code_dim": run.config.code_dim, "images": len(data.validation)}


def identity(spec: ModelSpec, options: dict[str, str], weights: dict[str, Tensor]) -> str:
    """model_id: SHA-256 over the spec, the objective's options and every weight by name, the first 16 hexadecimal
    digits. Options count because they change what the graphs compute: a threshold, how many units stay."""
    digest = hashlib.sha256((spec.canonical() + json.dumps(options, sort_keys=True)).encode())
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def storage_cost(codec: Codec, images: Pixels) -> dict[str, float | None]:
    """Measure reconstructions of images uint8 [n, H, W, C], with pixels in [0, 1].

    `mse` and `psnr` (dB; None for no error) belong to float32 latents, or to uint8 codes if the objective stores
    only those. `mse_float_latents` and `mse_uint8_codes` are the errors of both, `uint8_cost_db` the loss of PSNR
    by rounding, in dB.
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
    """The distribution of latents in code units: the prior, if training pulled latents towards one, else a Gaussian
    fitted to `latents` [n, D], which are the training images' in the network's units."""
    if network.objective.has_prior:
        return LatentGaussian.prior(units.scale.numpy(), units.offset.numpy())
    return LatentGaussian.fitted(units(latents).numpy())


@torch.no_grad()
def rounding_noise(network: Autoencoder, folded: Autoencoder, images: Pixels) -> Tensor:
    """How far float32 arithmetic moves each latent, shape [D], in the network's units: the largest distance from
    float64 arithmetic, in the network as trained and in its folded form, on uint8 images [n, H, W, C]."""
    x = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float() / 255
    exact = copy.deepcopy(network).double().encode(x.double())
    return torch.stack([(half.encode(x) - exact).abs().amax(0) for half in (network, folded)]).amax(0)


@torch.no_grad()
def _latents(network: Autoencoder, images: Pixels) -> Tensor:
    """The network's latents of uint8 images [n, H, W, C]."""
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH].copy())
        parts.append(network.encode(batch.permute(0, 3, 1, 2).float() / 255))
    return torch.cat(parts)
