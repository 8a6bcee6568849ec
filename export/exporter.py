"""Export a run: calibrate, build both graphs, write the bundle; it stands only if it computes what torch does."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aekit._version import __version__
from aekit.bundle import MANIFEST, Bundle, write_bundle
from aekit.codec import Codec
from aekit.evaluation.metrics import mse, psnr
from aekit.export.graphs import (
    OPSET,
    CodeUnits,
    DecoderGraph,
    EncoderGraph,
    check_dimensions,
    export_graph,
    finish_graph,
)
from aekit.export.parity import measure_parity
from aekit.images import Pixels
from aekit.outputs import staged_folder
from aekit.sampling import LatentGaussian
from aekit.spec import ModelSpec
from aekit.training.checkpoint import Run
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder
from aekit.training.trainer import load_network

_BATCH = 1000


def export_run(run: Run, data: TrainingData, out: Path, *, overwrite: bool = False) -> Bundle:
    """Export the weights of `run` to the model folder `out`.

    `data` is what the run was trained on: the training images calibrate the code units, unless training fixed them, and
    the validation images measure.

    Raises ParityError if the graphs differ from torch by more than is allowed, OutputExists if `out` is taken,
    CheckpointError if the run's weights can't be read. Nothing is left behind then.
    """
    with staged_folder(out, MANIFEST, overwrite=overwrite) as folder:
        network = load_network(run)
        latents = _latents(network, data.train)
        scale = network.objective.code_scale(network)
        units = CodeUnits.calibrated(latents) if scale is None else CodeUnits.on_grid(scale)
        encoder, decoder = EncoderGraph(network, units), DecoderGraph(network, units)
        folded = network.folded()
        spec, variant = run.config.spec(run.geometry), "fp32"
        image, latent = torch.zeros((2, *run.geometry.shape), dtype=torch.uint8), torch.zeros(2, spec.code_dim)
        models = {
            "encoder": export_graph(EncoderGraph(folded, units), image, ["image"], ["latent", "code"]),
            "decoder": export_graph(DecoderGraph(folded, units), latent, ["latent"], ["image"]),
        }
        for model in models.values():
            check_dimensions(model, run.geometry, spec.code_dim)
        model_id = identity(spec, run.config.options, {**network.state_dict(), **units.state_dict()})
        graphs = {role: finish_graph(model, spec, model_id, variant) for role, model in models.items()}

        # The staged folder already is a whole model, so the graphs are measured through the Codec that users run.
        write_bundle(folder, graphs, spec, model_id, variant, {})
        codec = Codec.load(folder, provider="cpu")
        facts: dict[str, Any] = {
            "made_by": f"aekit {__version__}, torch {torch.__version__}, opset {OPSET}",
            "training": {**data.facts(), "run_id": run.run_id},
            "latent": _latent_gaussian(network, units, latents).to_dict(),
            "parity": measure_parity(encoder, decoder, codec, data.validation).to_dict(),
            "validation": storage_cost(codec, data.validation),
        }
        write_bundle(folder, graphs, spec, model_id, variant, facts)
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
