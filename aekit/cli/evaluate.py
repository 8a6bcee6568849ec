"""aekit evaluate: measure a model on images it was never trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.cli.common import JsonOption, ModelOption, OverwriteOption, ProviderOption, ThreadsOption, emit, note
from aekit.registry import objective_facts
from aekit.runs import FOLDER, LATEST, PCA, resolve_run, run_of_model

if TYPE_CHECKING:
    from aekit.pca import Pca


def evaluate(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Images to measure on. Of a named set its test split; of the very images the model was trained on, "
            "those that were held out; anything else, all of it.",
            show_default="what the model was trained on",
        ),
    ] = None,
    model: ModelOption = Path("model"),
    out: Annotated[Path, typer.Option(help="Folder for report.json and the picture.")] = Path("report"),
    run: Annotated[Path, typer.Option(help="The model's run folder, which keeps the PCA baseline.")] = FOLDER / LATEST,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the exported graphs: MSE, PSNR, bytes as stored in an archive, beside PCA of the same size and what PNG,
    JPEG, WebP, AVIF and JPEG XL need for the same MSE; draw images above reconstructions."""
    from aekit.errors import OptionError
    from aekit.evaluation.report import REPORT, open_test_images, write_report
    from aekit.evaluation.report import evaluate as measure
    from aekit.model.codec import Codec
    from aekit.outputs.staging import check_apart, check_folder_free

    check_folder_free(out, REPORT, overwrite=overwrite)
    if run != FOLDER / LATEST and not resolve_run(run).is_dir():
        raise OptionError(f"--run {run}", expected="the model's run folder", found="nothing there")
    codec = Codec.load(model, provider, threads)
    training = codec.bundle.manifest.get("training", {})
    settings = run_of_model(resolve_run(run), training.get("run_id"))
    if source is None:
        source = str((settings or training).get("data", ""))
        if source in ("folder", "array", ""):
            raise OptionError(
                "SOURCE",
                expected="images to evaluate on",
                found=f"none, and {run} is not the run that made {model}",
                fix="name the images, or the model's run with --run",
            )
    check_apart(out, Path(source), model, resolve_run(run), scanned=Path(source))
    test = open_test_images(source, codec.bundle)
    for record in test.skipped:
        note(f"skipped {record.path}: {record.error}")
    figures, reconstructions = measure(codec, test, _baseline(resolve_run(run)) if settings else None)
    write_report(out, figures, test, reconstructions, overwrite=overwrite)
    pca = figures["pca_mse"]
    beside = f"{pca:.5f}" if pca is not None else f"not known: {run} is not the run that made {model} (--run)"
    # Of such a model the latents as they are would take more than was paid for.
    unrounded = (
        ", by latents that are not to be stored" if objective_facts(codec.spec.objective).stores_uint8_only else ""
    )
    lines = [
        f"{figures['images']:,} images: {figures['test_images']}",
        f"MSE {figures['mse']:.5f}, PSNR {figures['psnr']:.2f} dB{unrounded}; "
        f"PCA of {figures['code_dim']} numbers: {beside}",
        f"{figures['bytes_per_image']} bytes an image as float32; as uint8 {figures['uint8_bytes_per_image']} bytes, "
        f"MSE {figures['uint8_mse']:.5f}, which costs {figures['uint8_cost_db']:.3f} dB; "
        f"the pixels are {figures['raw_bytes_per_image']:,} bytes",
        *_stored(figures),
        f"model {figures['model_id']}: {figures['model_bytes']:,} bytes, ran on {figures['provider']}",
        f"report and picture: {out}",
    ]
    emit({**figures, "out": str(out)}, lines, as_json)
    if test.skipped:
        raise typer.Exit(3)


def _stored(figures: dict[str, Any]) -> list[str]:
    """Lines on the archive, and on what the codecs need."""
    size, entropy = figures["archive_bytes_per_image"], figures["entropy_bytes_per_image"]
    stored = "not known: the model has no frequency tables, export it again"
    if size is not None:
        stored = f"{size:.2f} bytes an image, their entropy {entropy:.2f}"
    codecs = dict(figures["codecs"])
    counts = codecs.pop("mosaic_images"), codecs.pop("file_images")
    what = f"{counts[0]} images in one mosaic, and {counts[1]} as one file each"
    lines = [
        f"in an archive: {stored}",
        f"for an MSE of {codecs.pop('mse'):.5f} other codecs need, bytes an image ({what}):",
    ]
    for name, found in codecs.items():
        ways = [
            f"{coded['bytes_per_image']:.1f} (MSE {coded['mse']:.5f})" if coded else "no setting is good enough"
            for coded in (found["mosaic"], found["files"])
        ]
        lines.append(f"  {name}: {ways[0]}, {ways[1]}")
    return lines


def _baseline(run: Path) -> "Pca | None":
    from aekit.pca import Pca

    return Pca.load(run / PCA) if (run / PCA).exists() else None
