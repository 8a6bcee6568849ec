"""Export a run: calibrate, build both graphs, verify that they compute what torch computes, write the bundle."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aekit._version import __version__
from aekit.exporting.archive_facts import fit_archive_models
from aekit.exporting.calibration import choose_code_rounding, choose_units, latent_gaussian
from aekit.exporting.entropy_models import check_entropy
from aekit.exporting.figures import pca_mse, storage_cost
from aekit.exporting.graphs import OPSET, CodeUnits, DecoderGraph, EncoderGraph, fp32_graphs
from aekit.exporting.parity import Parity, VariantCost, measure_parity
from aekit.exporting.samples import Samples, samples_of
from aekit.exporting.variants import VariantFolders, check_variant, choose_variant, measure_variants
from aekit.model.bundle import MANIFEST, ROLES, Bundle, graph_file, write_manifest
from aekit.model.codec import Codec
from aekit.outputs.staging import staged_folder
from aekit.spec import ModelSpec
from aekit.training.checkpoint import Run
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder
from aekit.training.objectives.vector_prior import VectorPrior
from aekit.training.pictures import PictureData
from aekit.training.trainer import load_network


def export_run(
    run: Run,
    data: TrainingData | PictureData,
    out: Path,
    *,
    variant: str = "fp32",
    entropy: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Export the weights of `run` to the model folder `out`. After an error, nothing is left at `out`.

    Args:
        run: the run folder.
        data: the images of the run. Training images calibrate int8, and the code units unless training fixed them.
            All figures are measured on validation images. Export looks at only a part of pictures of any size; see
            aekit.exporting.samples.
        out: model folder to write.
        variant: precision: fp32, fp16, int8, or auto, which keeps the variant that is fastest on this machine's CPU
            and costs at most MOST_AUTO_DB.
        entropy: entropy model of archives: static tables, a context model, or auto, which keeps the context
            model if it saves at least 1 % of the bytes.
        overwrite: replace a model folder at `out`.
        say: called with a few words when a step begins.

    Raises:
        OptionError: `variant` or `entropy` is unknown.
        ParityError: the graphs differ too much from torch, or a variant differs too much from fp32.
        OutputExists: `out` is taken.
        OutputError: `out` can't be written.
        CheckpointError: the run's weights can't be read.
        SourceError: the run's PCA is damaged.
    """
    check_variant(variant)
    check_entropy(entropy)
    samples = samples_of(data)
    with staged_folder(out, MANIFEST, overwrite=overwrite) as folder, tempfile.TemporaryDirectory() as scratch:
        say("computing latents of the training images")
        model = _calibrate(run, samples)
        folders = VariantFolders(Path(scratch), model.spec, model.model_id)
        say("building the graphs")
        exact = _write_fp32(model, folders)
        say("comparing the graphs with torch")
        parity = _compare_with_torch(run, model, exact, samples)
        measured = measure_variants(folders, exact, variant, samples, say)
        kept = choose_variant(variant, measured)
        shipped = exact if kept == "fp32" else folders.load(kept)
        say("measuring errors of the held-out images")
        facts = _facts(run, data, model, parity, storage_cost(shipped, samples.validation()), measured)
        say("fitting the entropy model")
        models, figures = fit_archive_models(shipped, samples, entropy, model.prior)
        facts["validation"] |= figures
        for role in ROLES:
            shutil.move(graph_file(shipped.bundle.path, role), graph_file(folder, role))
        write_manifest(folder, ROLES, model.spec, model.model_id, kept, facts | models)
    return Bundle.read(out)


@dataclass(frozen=True)
class _Calibrated:
    """A model that is ready to become graphs. The network as trained is no part of it, to save memory."""

    spec: ModelSpec
    model_id: str
    folded: Autoencoder
    """The network in the form that the graphs have. Its tensors are emptied once the graphs are written."""
    units: CodeUnits
    """The map from latents to code units."""
    rounding: nn.Module
    """The rounding of latents in code units."""
    rounding_facts: dict[str, Any]
    """How the rounding was chosen, for model.json."""
    gaussian: dict[str, Any] | None
    """Distribution of the latents of vector codes, for model.json; None for grid codes."""
    prior: VectorPrior | None
    """The probabilities that the transform was trained with, if they depend on the context."""


def _calibrate(run: Run, samples: Samples) -> _Calibrated:
    """Choose units and rounding of codes by the latents of training images.

    The trained network is in memory only until this function returns. A large model is then there once, folded.
    """
    network = load_network(run)
    folded = network.folded()
    has_qualities = network.objective.quality_count > 1
    latents = torch.empty(0) if has_qualities else samples.latents(network)
    units = choose_units(network, folded, latents, samples)
    rounding, rounding_facts = choose_code_rounding(network, units, latents, samples)
    spec = run.config.spec(run.geometry)
    learned = {**network.state_dict(), **units.state_dict(), **rounding.state_dict()}
    return _Calibrated(
        spec,
        identity(spec, run.config.options, learned),
        folded,
        units,
        rounding,
        rounding_facts,
        gaussian=None if spec.is_grid else latent_gaussian(network, units, latents).to_dict(),
        prior=network.learned if isinstance(network.learned, VectorPrior) else None,
    )


def _write_fp32(model: _Calibrated, folders: VariantFolders) -> Codec:
    """Build and write the fp32 graphs. It empties the tensors of `model.folded`."""
    codec = folders.write("fp32", fp32_graphs(model.folded, model.units, model.spec, model.rounding))
    for tensor in (*model.folded.parameters(), *model.folded.buffers()):
        tensor.data = tensor.new_empty(0)  # torch's exporter keeps a reference to each of them
    return codec


def _compare_with_torch(run: Run, model: _Calibrated, codec: Codec, samples: Samples) -> Parity:
    """Compare the written graphs with the network as trained, which is read again and in memory only here."""
    network = load_network(run)
    encoder, decoder = EncoderGraph(network, model.units, model.rounding), DecoderGraph(network, model.units)
    return measure_parity(encoder, decoder, codec, samples.groups())


def _facts(
    run: Run,
    data: TrainingData | PictureData,
    model: _Calibrated,
    parity: Parity,
    validation: dict[str, Any],
    measured: dict[str, VariantCost],
) -> dict[str, Any]:
    """Return what model.json keeps of the run and of its measurements. `validation` are figures of held-out images."""
    facts: dict[str, Any] = {
        "made_by": f"aekit {__version__}, torch {torch.__version__}, opset {OPSET}",
        "training": {**data.facts(), "run_id": run.run_id},
        "parity": parity.to_dict(),
        "validation": validation,
        **model.rounding_facts,
    }
    if isinstance(data, PictureData):
        work = zip(("encoder", "decoder"), run.config.layout.kmac(data.geometry.channels), strict=True)
        facts["kmac_per_pixel"] = {role: round(kmac, 2) for role, kmac in work}
    else:
        facts["training"]["pca_mse"] = pca_mse(run, data)
        facts["latent"] = model.gaussian
    if measured:
        facts["variants"] = {name: cost.to_dict() for name, cost in measured.items()}
    return facts


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
