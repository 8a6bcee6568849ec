"""aekit info: describe a model folder or a code file."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.cli.options import JsonOption
from aekit.cli.printing import code_in_words, emit, entropy_in_words, kmac_in_words, qualities_in_words
from aekit.codes.formats import MESSAGE_SUFFIX, Description, format_of, names, owner_of
from aekit.registry import objective_facts

if TYPE_CHECKING:
    from aekit.model.bundle import Bundle


def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            help=f"Model folder, code file ({names()}) or message (NAME{MESSAGE_SUFFIX}).",
            show_default="the folder of --model",
        ),
    ] = None,
    model: Annotated[
        Path, typer.Option("--model", envvar="AEKIT_MODEL", help="Model folder, or the one that made a message.")
    ] = Path("model"),
    as_json: JsonOption = False,
) -> None:
    """Describe a model folder, a code file or a message; reads no graph and runs nothing."""
    from aekit.errors import SourceError
    from aekit.images.picture_output import MARKER
    from aekit.model.bundle import Bundle

    path = path or model
    if not path.exists() and path.with_name(f"{path.name}.journal").exists():
        found, fix = "an interrupted job", "run it again with --resume"
        raise SourceError(str(path), expected="a finished output", found=found, fix=fix)
    if path.suffix == MESSAGE_SUFFIX and not path.is_dir():
        from aekit.codes.message_files import describe_message

        about = describe_message(path, model)
    elif kind := format_of(path):
        about = kind.module.describe(path)
    elif not path.is_dir():
        owner = owner_of(path)
        fix = f"the codes are {owner.name}" if owner else ""
        found = "another file" if path.exists() else "nothing there"
        raise SourceError(str(path), expected=f"a model folder or a code file, {names()}", found=found, fix=fix)
    elif (path / MARKER).exists():
        found = "pictures or messages that aekit wrote"
        raise SourceError(str(path), expected="a model folder, a code file or a message", found=found)
    else:
        about = _describe_model(path, Bundle.read(path))
    emit(about.facts, list(about.lines), as_json)


def _describe_model(path: Path, bundle: "Bundle") -> Description:
    """Describe a model folder from its model.json."""
    from aekit.codes.tables import read_tables

    facts = dict(bundle.manifest)
    if isinstance(facts.get("latent"), dict):  # its arrays are base64, which is of no use to a reader
        facts["latent"] = {"source": facts["latent"].get("source"), "holds": sorted(facts["latent"])}
    facts["tables"] = read_tables(bundle).digest if "tables" in facts else None
    facts.pop("context", None)  # base64 too; the digest of the tables covers it
    first = f"{path}: model {bundle.model_id}, {bundle.variant}, {bundle.spec.geometry}, "
    first += code_in_words(bundle.spec)
    if isinstance(validation := facts.get("validation"), dict):  # lines of their own show its qualities
        validation = {name: value for name, value in validation.items() if name != "qualities"}
        told = {**facts, "validation": validation}
    else:
        told = facts
    # Other lines show these, or only programs need them.
    hidden = ("spec", "model_id", "variant", "files", "kmac_per_pixel", "rounding", "entropy")
    shown = {name: value for name, value in told.items() if name not in hidden}
    lines = [f"  {name.replace('_', ' ')}: {_fact_in_words(name, value)}" for name, value in shown.items()]
    return Description({"path": str(path), **facts}, (first, *_headline(bundle), *_graph_lines(bundle), *lines))


def _graph_lines(bundle: "Bundle") -> tuple[str, ...]:
    """Return lines on the graphs. For grid codes they include the halo, the work a pixel and the qualities."""
    files = bundle.manifest.get("files", {})
    sizes = {
        role: entry["bytes"]
        for role in ("encoder", "decoder")
        if isinstance(entry := files.get(f"{role}.onnx"), dict) and isinstance(entry.get("bytes"), int)
    }
    graphs = ", ".join(f"{role} {size:,} bytes" for role, size in sizes.items())
    lines = [f"graphs: {graphs}"] if graphs else []
    if bundle.spec.is_grid:
        grid = bundle.spec.grid
        reach = f"a code depends on {grid.encoder_halo} places around it, a block of pixels on {grid.decoder_halo}"
        lines.insert(0, f"halo: {reach}")
        if work := kmac_in_words(bundle.manifest):
            lines.append(work)
    if entropy := entropy_in_words(bundle.manifest.get("entropy")):
        lines.append(f"entropy model: {entropy}")
    validation = bundle.manifest.get("validation")
    if bundle.spec.has_qualities:
        lines.append(f"qualities: 1 to {bundle.spec.qualities}, {bundle.spec.default_quality} by default")
        lines += qualities_in_words(validation.get("qualities") if isinstance(validation, dict) else None)
    return tuple(f"  {line}" for line in lines)


def _headline(bundle: "Bundle") -> tuple[str, ...]:
    """Return a line on the validation error of the codes that the model stores; none if model.json lacks the figure."""
    validation = bundle.manifest.get("validation")
    if not isinstance(validation, dict):
        return ()
    uint8_only = objective_facts(bundle.spec.objective).stores_uint8_only
    # Models of older versions have the figures of float latents in `mse` and `psnr`, even if they store uint8 only.
    error = validation.get("mse_uint8_codes" if uint8_only else "mse_float_latents", validation.get("mse"))
    if not isinstance(error, int | float) or isinstance(error, bool) or not 0 <= error < math.inf:
        return ()
    ratio = f"PSNR {-10 * math.log10(error):.2f} dB" if error else "no error"
    rate = validation.get("bits_per_pixel") if uint8_only else None
    cost = f", {rate:.3f} bits a pixel" if isinstance(rate, float) and 0 <= rate < math.inf else ""
    return (f"  validation with {'uint8' if uint8_only else 'float32'} codes: MSE {error:.5f}, {ratio}{cost}",)


def _fact_in_words(name: str, value: Any) -> str:
    """Return an entry of model.json as a sentence if it has the form that export gives it, else as plain values."""
    match name, value:
        case "training", {
            "data": str() as data,
            "train_images": int() as count,
            "validation_images": int() as held_out,
        }:
            pca = value.get("pca_mse")
            error = pca.get("mse") if isinstance(pca, dict) else None
            baseline = f"; PCA with as many numbers has MSE {error:.5f} on these" if isinstance(error, float) else ""
            return f"{data}, {count:,} images to learn from, {held_out:,} held out{baseline}"
        case "parity", {
            "latent_difference": float() as latents,
            "codes_differing": int() as codes,
            "images": int() as n,
        }:
            return f"like torch on {n:,} images: latents within {latents:.1e} of their range, {codes:,} codes differ"
        case "validation", {"mse_float_latents": float() as exact, "mse_uint8_codes": float() as rounded}:
            return f"MSE {exact:.5f} with float32 codes, {rounded:.5f} with uint8 codes"
        case "latent", {"source": "prior"}:
            return "drawn from the prior"
        case "latent", {"source": "training"}:
            return "drawn from a Gaussian fitted to the training images"
    return _in_words(value)


def _in_words(value: Any) -> str:
    """Return a value of model.json as a reader wants it: no braces, brackets or quotes."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(map(_in_words, value)) or "none"
    return str(value)
