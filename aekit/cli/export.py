"""aekit export: turn a trained run into a model folder of two ONNX graphs."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.extras import need_extra
from aekit.cli.options import JsonOption, OverwriteOption
from aekit.cli.printing import (
    code_in_words,
    emit,
    entropy_in_words,
    kmac_in_words,
    note,
    phase,
    qualities_in_words,
)
from aekit.registry import objective_facts
from aekit.runs import FOLDER, LATEST


def export(
    run: Annotated[Path, typer.Argument(help="Run folder, as `aekit train` makes it.")] = FOLDER / LATEST,
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("model"),
    variant: Annotated[
        str,
        typer.Option(
            help="Precision: fp32, fp16, int8 (a quarter of the size; calibrated on training images), or auto. auto "
            "keeps the fastest variant on this machine that loses at most 0.1 dB."
        ),
    ] = "fp32",
    entropy: Annotated[
        str,
        typer.Option(
            help="Entropy model of archives: static (a table for each number of a code), context (smaller archives "
            "that take longer to write and read), or auto. auto trains a context model, which takes up to a minute, "
            "and keeps it if it saves at least 1 % of the bytes of held-out images. For vector codes auto does so only "
            "with the objective rate."
        ),
    ] = "auto",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a run as encoder.onnx, decoder.onnx and model.json.

    The graphs take and return uint8 pixels and accept any number of images; for pictures of any size they accept any
    height and width. The export succeeds only if onnxruntime computes the same as torch on the run's validation images.
    """
    from aekit.model.bundle import MANIFEST
    from aekit.outputs.staging import check_folder_free

    check_folder_free(out, MANIFEST, overwrite=overwrite)  # before torch loads, which takes seconds
    need_extra("aekit export", "train", "torch", "onnx", "onnxscript", "safetensors")
    phase("loading torch")
    from aekit.exporting.command import export as export_model

    done = export_model(run, out, variant=variant, entropy=entropy, overwrite=overwrite, say=phase)
    bundle, unfinished = done.bundle, done.unfinished
    manifest = bundle.manifest
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    parity, validation = manifest["parity"], manifest["validation"]
    lines = [
        f"{out}: model {bundle.model_id} of {done.run}, {bundle.variant}, {bundle.spec.geometry}, "
        f"{code_in_words(bundle.spec)}, encoder {sizes['encoder.onnx']:,} bytes, decoder {sizes['decoder.onnx']:,}",
        f"parity with torch on {parity['images']} images: latents within {parity['latent_difference']:.1e} of their "
        f"range, {parity['codes_differing']} codes differ, pixels within {parity['image_levels']} of 255 levels",
    ]
    if objective_facts(bundle.spec.objective).stores_uint8_only:
        rate = f" at {validation['bits_per_pixel']:.3f} bits a pixel" if "bits_per_pixel" in validation else ""
        lines.append(f"validation MSE of stored codes (uint8): {validation['mse']:.5f}{rate}")
    else:
        lines.append(
            f"validation MSE {validation['mse']:.5f}; codes stored as uint8: {validation['mse_uint8_codes']:.5f}, "
            f"which costs {validation['uint8_cost_db']:.3f} dB"
        )
    lines += [
        f"{name}{' (kept)' if name == bundle.variant else ''}: costs {cost['cost_db']:.3f} dB, "
        f"{cost['encoder_cost_db']:.3f} by the encoder alone; encodes {cost['encoder_speed']:.2f} × as fast as fp32 on "
        f"one core, decodes {cost['decoder_speed']:.2f} ×; {cost['bytes']:,} bytes"
        for name, cost in manifest.get("variants", {}).items()
    ]
    if entropy_model := entropy_in_words(manifest.get("entropy")):
        lines.append(f"entropy model: {entropy_model}")
    lines += qualities_in_words(validation.get("qualities"))
    if work := kmac_in_words(manifest):
        lines.append(work)
    at = "" if out == Path("model") else f" --model {out}"
    lines.append(f"next: aekit compress images/ --out codes.aek{at}, or aekit evaluate{at}")
    if unfinished:
        note(f"warning: {done.run} {unfinished}: these are its best weights so far")
    # The distributions of latents and codes are long base64 texts, of no use to a reader.
    facts = {name: value for name, value in manifest.items() if name not in ("latent", "tables", "context")}
    emit({"out": str(out), "unfinished": unfinished, **facts}, lines, as_json)
