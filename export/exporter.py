"""Export a run: calibrate, build both graphs, verify that they compute what torch computes, write the bundle."""

import copy
import gc
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from aekit._version import __version__
from aekit.codes.tables import MAX_TABLES_DIM
from aekit.errors import OptionError
from aekit.evaluation.metrics import mse, psnr
from aekit.exporting.entropy_models import bits_per_pixel, check_entropy, fit_entropy_models, fit_vector_models
from aekit.exporting.graphs import (
    OPSET,
    CodeUnits,
    DecoderGraph,
    EncoderGraph,
    Nearest,
    finish_graph,
    fp32_graphs,
)
from aekit.exporting.parity import VariantCost, each_quality, fastest, measure_parity, measure_variant, psnr_loss
from aekit.exporting.quantize import VARIANTS, make_variant
from aekit.exporting.rounding import GridRounding, choose_rounding
from aekit.exporting.samples import TRAINING_PIXELS, GridSamples, Samples, samples_of, to_floats
from aekit.images.decode import Pixels
from aekit.model.bundle import MANIFEST, ROLES, Bundle, graph_file, write_manifest
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.model.sampling import LatentGaussian
from aekit.outputs.staging import staged_folder
from aekit.pca import Pca
from aekit.registry import objective_facts
from aekit.runs import PCA
from aekit.spec import ModelSpec
from aekit.training.checkpoint import Run
from aekit.training.data import TrainingData
from aekit.training.networks import Autoencoder
from aekit.training.objectives.grid import GridObjective
from aekit.training.objectives.vector_prior import VectorPrior
from aekit.training.pictures import PictureData
from aekit.training.trainer import load_network

_ROUNDED_ON = 32
"""Number of validation pictures that choose the rounding of grid codes, about; qualities share them."""
_FEWEST_ROUNDED = 8
"""Number of validation pictures that choose the rounding of each quality, at least, if there are so many."""
_FEWEST_VISITS = 2
"""Number of qualities at which each training picture is encoded to fit entropy models, at least."""


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
            All figures are measured on validation images. Of pictures of any size only a part is looked at; see
            aekit.exporting.samples.
        out: model folder to write.
        variant: precision: fp32, fp16, int8, or auto, which keeps the variant that is fastest on this machine's CPU
            and costs at most MOST_AUTO_DB.
        entropy: entropy model of archives: static tables, a context model, or auto, which keeps the smaller one.
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
    if variant not in (*VARIANTS, "auto"):
        raise OptionError("--variant", expected=f"auto or one of {', '.join(VARIANTS)}", found=repr(variant)[:80])
    check_entropy(entropy)
    samples = samples_of(data)
    with staged_folder(out, MANIFEST, overwrite=overwrite) as folder, tempfile.TemporaryDirectory() as beside:
        scratch = Path(beside)
        say("latents of the training images")
        network = load_network(run)
        folded = network.folded()
        has_qualities = network.objective.quality_count > 1
        latents = torch.empty(0) if has_qualities else samples.latents(network)
        units = _code_units(network, folded, latents, samples)
        rounding, rounding_facts = _rounding(network, units, latents, samples)
        spec = run.config.spec(run.geometry)
        learned = {**network.state_dict(), **units.state_dict(), **rounding.state_dict()}
        model_id = identity(spec, run.config.options, learned)
        gaussian = None if spec.is_grid else _latent_gaussian(network, units, latents).to_dict()
        prior = network.learned if isinstance(network.learned, VectorPrior) else None
        del learned, latents, network  # of a large model, memory then holds only the folded one

        say("building the graphs")
        folders = {"fp32": scratch / "fp32"}
        codec = _write(folders["fp32"], "fp32", fp32_graphs(folded, units, spec, rounding), spec, model_id)
        for tensor in (*folded.parameters(), *folded.buffers()):
            tensor.data = tensor.new_empty(0)  # torch's exporter keeps a reference to each of them
        say("comparing the graphs with torch")
        network = load_network(run)
        torch_graphs = EncoderGraph(network, units, rounding), DecoderGraph(network, units)
        parity = measure_parity(*torch_graphs, codec, samples.groups())
        del network, torch_graphs

        measured = dict[str, VariantCost]()
        for name in _variants_to_make(variant):
            say(f"making and measuring the variant {name}")
            graphs = _variant_graphs(folders["fp32"], name, samples.typical(), codec)
            folders[name] = scratch / name
            measured[name] = measure_variant(
                codec, _write(folders[name], name, graphs, spec, model_id), samples.compared()
            )
            if variant != "auto":
                measured[name].check(name)
        kept = fastest(measured) if variant == "auto" else variant
        shipped = codec if kept == "fp32" else Codec.load(folders[kept], provider="cpu")
        say("errors of the held-out images")
        facts: dict[str, Any] = {
            "made_by": f"aekit {__version__}, torch {torch.__version__}, opset {OPSET}",
            "training": {**data.facts(), "run_id": run.run_id},
            "parity": parity.to_dict(),
            "validation": storage_cost(shipped, samples.validation()),
            **rounding_facts,
        }
        if isinstance(data, PictureData):
            work = zip(("encoder", "decoder"), run.config.layout.kmac(data.geometry.channels), strict=True)
            facts["kmac_per_pixel"] = {role: round(kmac, 2) for role, kmac in work}
        else:
            facts["training"]["pca_mse"] = _pca_mse(run, data)
            facts["latent"] = gaussian
        if measured:
            facts["variants"] = {name: cost.to_dict() for name, cost in measured.items()}
        # An archive stores codes of the exported graph, so its entropy models are fitted to that graph's codes.
        say("fitting the entropy model")
        if isinstance(samples, GridSamples):
            facts |= _entropy_models(shipped, samples, entropy, facts["validation"])
        elif spec.code_dim <= MAX_TABLES_DIM:
            held_out_codes = np.asarray(shipped.encode(data.validation, "uint8"))
            facts |= fit_vector_models(samples.codes(shipped), held_out_codes, _for_vectors(entropy, spec), prior)
        for role in ROLES:
            shutil.move(graph_file(folders[kept], role), graph_file(folder, role))
        write_manifest(folder, ROLES, spec, model_id, kept, facts)
    return Bundle.read(out)


def _for_vectors(entropy: str, spec: ModelSpec) -> str:
    """Return the option `entropy` for vector codes: auto tries a context model only where uint8 codes are the default.

    Models of other objectives seldom write archives, and a context model takes time to train.
    """
    is_tried = entropy != "auto" or objective_facts(spec.objective).stores_uint8_only
    return entropy if is_tried else "static"


def _code_units(network: Autoencoder, folded: Autoencoder, latents: Tensor, samples: Samples) -> CodeUnits:
    """Return the map to code units: training's own grid, or one calibrated on `latents` [m, D] of training images."""
    scale = network.objective.code_scale(network)
    if scale is not None:
        return CodeUnits.on_grid(scale, network.objective.code_size(network))
    return CodeUnits.calibrated(latents, rounding_noise(network, folded, samples.few()))


@torch.no_grad()
def _rounding(
    network: Autoencoder, units: CodeUnits, latents: Tensor, samples: Samples
) -> tuple[nn.Module, dict[str, Any]]:
    """Return how codes are rounded, and the facts of the choice for model.json.

    Where training counted bits, validation pictures choose among the ways to round, by training's own cost, for each
    quality by itself.
    `latents` [m, D] are those of training images, in the network's units, for a network of one quality.
    """
    objective = network.objective
    weights = objective.error_weights(network) if isinstance(objective, GridObjective) else []
    if not weights or not isinstance(samples, GridSamples) or not isinstance(objective, GridObjective):
        return Nearest(), {}
    most = max(_ROUNDED_ON // len(weights), _FEWEST_ROUNDED)
    pictures = samples.held_out[:: len(samples.held_out) // most + 1]
    chosen, facts = list[GridRounding](), list[dict[str, Any]]()
    decoder = DecoderGraph(network, units)
    for number, (own, weight) in enumerate(zip(units.each(), weights, strict=True), 1):
        quality = torch.tensor([number]) if len(weights) > 1 else None

        def squared_error(index: int, code: Tensor, quality: Tensor | None = quality) -> float:
            picture = pictures[index]
            decoded = decoder(code[None].float(), quality)[0].numpy()[: picture.shape[0], : picture.shape[1]]
            return mse(picture[None], decoded[None]) * picture.shape[0] * picture.shape[1]

        rounding, tried = choose_rounding(
            own(latents if quality is None else samples.latents(network, number)),
            [own(network.encode(to_floats(picture[None]), quality))[0] for picture in pictures],
            squared_error,
            sum(picture.shape[0] * picture.shape[1] for picture in pictures),
            weight,
            objective.dead_zone,
        )
        best = min(tried, key=lambda trial: trial.cost)
        chosen.append(rounding)
        facts.append({**vars(best), "tried": [vars(trial) for trial in tried]})
    if len(chosen) == 1:
        return chosen[0], {"rounding": facts[0]}
    return GridRounding.of_qualities(chosen), {"rounding": facts}


def _variants_to_make(variant: str) -> tuple[str, ...]:
    """Return the variants, other than fp32, that must be made to export `variant`."""
    if variant == "fp32":
        return ()
    if variant == "auto":
        return VARIANTS[1:]
    return (variant,)


def _variant_graphs(fp32: Path, variant: str, images: Pixels, codec: Codec) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Make the graphs in reduced precision, one after the other.

    The encoder is calibrated on images, the decoder on their fp32 latents. `fp32` is the folder of the fp32 graphs.
    """
    quality = each_quality(codec, len(images))
    inputs = {"encoder": images, "decoder": codec.encode(images, quality=quality)}
    given = () if quality is None else (quality,)
    for role in ROLES:
        yield role, make_variant(onnx.load(graph_file(fp32, role)), variant, inputs[role], *given)


def _write(
    place: Path, variant: str, models: Iterable[tuple[str, onnx.ModelProto]], spec: ModelSpec, model_id: str
) -> Codec:
    """Write a whole model to the folder `place` and load it as users do, so that measurements use the written files.

    The graphs are taken and written one after the other, so that a large model is in memory only once.
    """
    place.mkdir(exist_ok=True)
    for role, model in models:
        finish_graph(model, graph_file(place, role), spec, model_id, variant)
        del model
        gc.collect()  # torch's exporter leaves the graph in cycles of references
    write_manifest(place, ROLES, spec, model_id, variant, {})
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


def storage_cost(codec: Codec, images: Pixels | list[Pixels]) -> dict[str, Any]:
    """Measure reconstructions of images uint8 [n, H, W, C], or of a list of pictures, with pixels in [0, 1].

    `mse` and `psnr` (dB; None if the error is 0) are the headline figures. They belong to uint8 codes if the objective
    stores only those, else to float32 latents. `mse_float_latents` and `mse_uint8_codes` are the errors of both, as
    means over images. `uint8_cost_db` is the PSNR that rounding to uint8 codes loses, in dB.
    """
    exact, stored = (_error(codec, images, dtype) for dtype in ("float32", "uint8"))
    headline = stored if objective_facts(codec.spec.objective).stores_uint8_only else exact
    return {
        "mse": headline,
        "psnr": psnr(headline) if headline else None,
        "mse_float_latents": exact,
        "mse_uint8_codes": stored,
        "uint8_cost_db": psnr_loss(exact, stored),
    }


def _error(codec: Codec, images: Pixels | list[Pixels], dtype: str) -> float:
    if not isinstance(images, list):
        return mse(images, codec.reconstruct(images, dtype))
    pairs = ((picture, codec.reconstruct([picture], dtype)[0]) for picture in images)
    return float(np.mean([mse(picture[None], again[None]) for picture, again in pairs]))


def _entropy_models(codec: Codec, samples: GridSamples, entropy: str, validation: dict[str, Any]) -> dict[str, Any]:
    """Return the entropy models of grid codes and their figures; add the figures of all qualities to `validation`."""
    held_out, spec = samples.held_out, codec.spec
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in held_out)
    tested = [_grids(codec, held_out, [each] * len(held_out)) for each in range(1, spec.qualities + 1)]
    facts = fit_entropy_models(_training_codes(codec, samples), tested, pixels, entropy)
    validation["bits_per_pixel"] = bits_per_pixel(facts["entropy"])[spec.default_quality - 1]
    if spec.has_qualities:
        rates = bits_per_pixel(facts["entropy"])
        validation["qualities"] = [
            {"quality": number, "bits_per_pixel": rate, **_decoded_error(codec, held_out, codes)}
            for number, (rate, codes) in enumerate(zip(rates, tested, strict=True), 1)
        ]
    return facts


def _training_codes(codec: Codec, samples: GridSamples) -> GridCodes:
    """Return codes of training pictures. With qualities, each picture has a few of them, in turn, to save time."""
    pictures, count = samples.train, codec.spec.qualities
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    visits = min(max(TRAINING_PIXELS // pixels, _FEWEST_VISITS), count)
    qualities = [1 + (row + visit * count // visits) % count for visit in range(visits) for row in range(len(pictures))]
    return _grids(codec, [*pictures] * visits, qualities)


def _grids(codec: Codec, pictures: list[Pixels], qualities: Sequence[int]) -> GridCodes:
    """Return the uint8 codes of pictures at these qualities, which mean nothing to a model without them."""
    has_qualities = codec.spec.has_qualities
    return GridCodes.joined(
        codec.encode([picture], "uint8", quality=quality if has_qualities else None)
        for picture, quality in zip(pictures, qualities, strict=True)
    )


def _decoded_error(codec: Codec, pictures: list[Pixels], codes: GridCodes) -> dict[str, float | None]:
    """Return `mse` and `psnr` of codes, the mean over pictures, for pixels in [0, 1]."""
    pairs = ((picture, codec.decode(codes[row : row + 1])[0]) for row, picture in enumerate(pictures))
    error = float(np.mean([mse(picture[None], again[None]) for picture, again in pairs]))
    return {"mse": error, "psnr": psnr(error) if error else None}


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
    x = to_floats(images)
    exact = copy.deepcopy(network).double().encode(x.double())
    return torch.stack([(half.encode(x) - exact).abs().flatten(0, -2).amax(0) for half in (network, folded)]).amax(0)
