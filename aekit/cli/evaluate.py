"""aekit evaluate: measure a model on images it was not trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.cli.options import JsonOption, ModelOption, OverwriteOption, ProviderOption, ThreadsOption
from aekit.cli.printing import emit, note
from aekit.runs import FOLDER, LATEST, PCA, resolve_run, run_of_model

if TYPE_CHECKING:
    from aekit.pca import Pca


def evaluate(
    source: Annotated[
        str | None,
        typer.Argument(
            help="Images to measure on. A named set gives its test split. The data that the model was trained on gives "
            "the images that were held out. Any other source gives all its images.",
            show_default="the data that the model was trained on, if --run is the model's run",
        ),
    ] = None,
    model: ModelOption = Path("model"),
    out: Annotated[Path, typer.Option(help="Folder for report.json and the picture.")] = Path("report"),
    run: Annotated[
        Path, typer.Option(help="The model's run folder. It holds the PCA baseline and names the training images.")
    ] = FOLDER / LATEST,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Expression that split the training images into groups; needed only without the model's run.",
        ),
    ] = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on images it was not trained on: error, bytes per image, and PCA and image codecs to compare.

    Writes report.json, and a picture of ten images above their reconstructions.
    """
    from aekit.errors import OptionError
    from aekit.evaluation.report import REPORT, open_test_images, write_report
    from aekit.evaluation.report import evaluate as measure
    from aekit.images.named_sets import NAMES
    from aekit.model.codec import Codec
    from aekit.outputs.places import check_apart
    from aekit.outputs.staging import check_folder_free

    check_folder_free(out, REPORT, overwrite=overwrite)
    if run != FOLDER / LATEST and not resolve_run(run).is_dir():
        raise OptionError(f"--run {run}", expected="the model's run folder", found="nothing there")
    codec = Codec.load(model, provider, threads)
    training = codec.bundle.manifest.get("training", {})
    settings = run_of_model(resolve_run(run), training.get("run_id"))
    if source is None:
        # Only the user's own run may name a path to read. A model.json may come from a stranger, so only the name of a
        # known set is taken from it.
        named = str(training.get("data", ""))
        source = str(settings.get("data", "")) if settings else named if named in NAMES else ""
    if source == "":
        raise OptionError(
            "SOURCE",
            expected="images to evaluate on",
            found=f"none, and {run} is not the run that made {model}",
            fix="name the images, or the model's run with --run",
        )
    if settings and group_by is None:
        group_by = str(settings.get("group_by", ""))
    check_apart(out, Path(source), model, resolve_run(run), scanned=Path(source))
    test = open_test_images(source, codec.bundle, group_by)
    for record in test.skipped:
        note(f"skipped {record.path}: {record.error}")
    figures, reconstructions = measure(codec, test, _baseline(resolve_run(run)) if settings else None)
    write_report(out, figures, test, reconstructions, overwrite=overwrite)
    emit({**figures, "out": str(out)}, [*_lines(figures), f"report and picture: {out}"], as_json)
    if test.skipped:
        raise typer.Exit(3)


def _lines(figures: dict[str, Any]) -> list[str]:
    """Return the report in words. The first figures belong to the codes that the model is meant to store."""
    pca = figures["pca_note"]
    if figures["pca_mse"] is not None:
        pca = f"MSE {figures['pca_mse']:.5f} {pca}"
    what = f"PCA of {figures['pca_code_dim'] or figures['code_dim']} numbers"
    return [
        f"{figures['images']:,} images: {figures['test_images']}",
        f"MSE {figures['mse']:.5f}, PSNR {figures['psnr']:.2f} dB from {figures['headline_codes']} codes of "
        f"{figures['bytes_per_image']:,} bytes an image; the pixels are {figures['raw_bytes_per_image']:,} bytes",
        f"{what}: {pca}",
        f"float32 codes: {figures['float_bytes_per_image']:,} bytes an image, MSE {figures['float_mse']:.5f}; "
        f"uint8 codes: {figures['uint8_bytes_per_image']:,} bytes, MSE {figures['uint8_mse']:.5f}; "
        f"rounding costs {figures['uint8_cost_db']:.3f} dB",
        *_stored(figures),
        f"model {figures['model_id']}: {figures['model_bytes']:,} bytes, ran on {figures['provider']}",
    ]


def _stored(figures: dict[str, Any]) -> list[str]:
    """Return the lines about the archive and the other codecs."""
    size, entropy = figures["archive_bytes_per_image"], figures["entropy_bytes_per_image"]
    stored = "unknown: the model has no frequency tables; export it again"
    if size is not None:
        stored = f"{size:.2f} bytes an image; the entropy of the codes is {entropy:.2f}"
    codecs = figures["codecs"]
    lines = [
        f"in an archive: {stored}",
        f"bytes an image that other codecs need for an MSE of {codecs['mse']:.5f}, first {codecs['mosaic_images']} "
        f"images in one mosaic, then {codecs['file_images']} as one file each:",
    ]
    for name, sizes in codecs.items():
        if isinstance(sizes, dict):
            ways = [
                f"{coded['bytes_per_image']:.1f} (MSE {coded['mse']:.5f})" if coded else "no setting is good enough"
                for coded in (sizes["mosaic"], sizes["files"])
            ]
            lines.append(f"  {name}: {ways[0]}, {ways[1]}")
    return lines


def _baseline(run: Path) -> "Pca | None":
    from aekit.pca import Pca

    return Pca.load(run / PCA) if (run / PCA).exists() else None
