"""Export a run: calibrate, build both graphs, write the bundle; it stands only if it computes what torch does."""

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
from aekit.exporting.parity import VariantCost, fastest, measure_parity, measure_variant
from aekit.exporting.quantize import CALIBRATED_ON, VARIANTS, make_variant
from aekit.images.decode import Pixels
from aekit.model.bundle import MANIFEST, Bundle, write_bundle
from aekit.model.codec import Codec
from aekit.model.sampling import LatentGaussian
from aekit.outputs.staging import staged_folder
from aekit.spec import ModelSpec
from aekit.training.checkpoint import Run
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder
from aekit.training.trainer import load_network

_BATCH = 1000


def export_run(run: Run, data: TrainingData, out: Path, *, variant: str = "fp32", overwrite: bool = False) -> Bundle:
    """Export the weights of `run` to the model folder `out`, in precision `variant`: fp32, fp16, int8, or auto.

    `data` is what the run was trained on: the training images calibrate the code units, unless training fixed them, and
    int8; the validation images measure. `auto` keeps the fastest on this machine's CPU of those that cost at most
    MOST_AUTO_DB.

    Raises ParityError if the graphs differ from torch, or a variant from fp32, by more than is allowed, OutputExists if
    `out` is taken, CheckpointError if the run's weights can't be read. Nothing is left behind then.
    """
    if variant not in (*VARIANTS, "auto"):
        raise OptionError("--variant", expected=f"auto or one of {', '.join(VARIANTS)}", found=repr(variant))
    with staged_folder(out, MANIFEST, overwrite=overwrite) as folder, tempfile.TemporaryDirectory() as beside:
        scratch = Path(beside)
        network = load_network(run)
        latents = _latents(network, data.train)
        scale = network.objective.code_scale(network)
        units = CodeUnits.calibrated(latents) if scale is None else CodeUnits.on_grid(scale)
        encoder, decoder = EncoderGraph(network, units), DecoderGraph(network, units)
        folded = network.folded()
        spec = run.config.spec(run.geometry)
        image, latent = torch.zeros((2, *run.geometry.shape), dtype=torch.uint8), torch.zeros(2, spec.code_dim)
        models = {
            "encoder": export_graph(EncoderGraph(folded, units), image, ["image"], ["latent", "code"]),
            "decoder": export_graph(DecoderGraph(folded, units), latent, ["latent"], ["image"]),
        }
        for model in models.values():
            check_dimensions(model, run.geometry, spec.code_dim)
        model_id = identity(spec, run.config.options, {**network.state_dict(), **units.state_dict()})

        def write(place: Path, variant: str, models: dict[str, onnx.ModelProto], facts: dict[str, Any]) -> Codec:
            """A whole model in the folder `place`, opened by the Codec that users run: what is measured ships."""
            place.mkdir(exist_ok=True)
            graphs = {role: finish_graph(model, spec, model_id, variant) for role, model in models.items()}
            write_bundle(place, graphs, spec, model_id, variant, facts)
            return Codec.load(place, provider="cpu")

        made = {"fp32": models}
        codec = write(scratch / "fp32", "fp32", models, {})
        facts: dict[str, Any] = {
            "made_by": f"aekit {__version__}, torch {torch.__version__}, opset {OPSET}",
            "training": {**data.facts(), "run_id": run.run_id},
            "latent": _latent_gaussian(network, units, latents).to_dict(),
            "parity": measure_parity(encoder, decoder, codec, data.validation).to_dict(),
        }
        measured = dict[str, VariantCost]()
        # Spread over all of them: a folder's first images may be of one class.
        spread = data.train[:: max(len(data.train) // CALIBRATED_ON, 1)][:CALIBRATED_ON]
        samples = {"encoder": spread, "decoder": codec.encode(spread)}
        for name in {"fp32": (), "auto": VARIANTS[1:]}.get(variant, (variant,)):
            made[name] = {role: make_variant(model, name, samples[role]) for role, model in models.items()}
            measured[name] = measure_variant(codec, write(scratch / name, name, made[name], {}), data.validation)
            if variant != "auto":
                measured[name].check(name)
        kept = fastest(measured) if variant == "auto" else variant
        shipped = Codec.load(scratch / kept, provider="cpu")
        facts["validation"] = storage_cost(shipped, data.validation)
        if measured:
            facts["variants"] = {name: cost.to_dict() for name, cost in measured.items()}
        if spec.code_dim <= MAX_TABLES_DIM:
            # Of the codes that the kept graph gives: those are what an archive will hold.
            facts["tables"] = pack_tables(FrequencyTables.fit(shipped.encode(data.train, "uint8")))
        write(folder, kept, made[kept], facts)
    return Bundle.read(out)


def identity(spec: ModelSpec, options: dict[str, str], weights: dict[str, Tensor]) -> str:
    """model_id: SHA-256 over the spec, the objective's options and every weight by name, the first 16 hexadecimal
    digits. Options count because they change what the graphs compute: a threshold, how many units stay."""
    digest = hashlib.sha256((spec.canonical() + json.dumps(options, sort_keys=True)).encode())
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)}".encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def storage_cost(codec: Codec, images: Pixels) -> dict[str, float]:
    """What rounding latents to uint8 codes costs on these images: MSE of both, and the loss of PSNR in dB."""
    exact, stored = (mse(images, codec.reconstruct(images, dtype)) for dtype in ("float32", "uint8"))
    return {"mse": exact, "mse_uint8_codes": stored, "uint8_cost_db": psnr(exact) - psnr(stored)}


@torch.no_grad()
def _latent_gaussian(network: Autoencoder, units: CodeUnits, latents: Tensor) -> LatentGaussian:
    """How latents in code units are distributed: as the prior that the network was trained towards, or as those of the
    training images, `latents` [n, D] in the network's units."""
    if network.objective.has_prior:
        return LatentGaussian.prior(units.scale.numpy(), units.offset.numpy())
    return LatentGaussian.fitted(units(latents).numpy())


@torch.no_grad()
def _latents(network: Autoencoder, images: Pixels) -> Tensor:
    """The network's latents of uint8 images [n, H, W, C]."""
    parts = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH].copy())
        parts.append(network.encode(batch.permute(0, 3, 1, 2).float() / 255))
    return torch.cat(parts)
