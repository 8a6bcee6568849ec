"""aekit evaluate: measure a model on images it was not trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aekit.cli.options import (
    IMAGES_HELP,
    JsonOption,
    ModelOption,
    OverwriteOption,
    ProviderOption,
    QualityOption,
    ThreadsOption,
)
from aekit.cli.printing import emit, note, phase
from aekit.runs import FOLDER, LATEST, PCA, resolve_run, run_of_model

if TYPE_CHECKING:
    from aekit.pca import Pca


def evaluate(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Images to measure on: {IMAGES_HELP} A named set gives its test split. The data that the model was "
            "trained on gives the images that were held out. Any other source gives all its images.",
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
    quality: QualityOption = None,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on images it was not trained on: error, bytes per image, and PCA and image codecs to compare.

    Codecs are tried at several scales: shrink, write, read, enlarge. Writes report.json, and a picture of ten images
    above their reconstructions.
    """
    from aekit.cli.report_lines import report_lines
    from aekit.errors import OptionError
    from aekit.evaluation.opening import open_test_images
    from aekit.evaluation.report import REPORT, write_report
    from aekit.evaluation.report import evaluate as measure
    from aekit.images.apart import check_apart_from
    from aekit.images.named_sets import NAMES
    from aekit.images.sources import open_source
    from aekit.model.codec import Codec
    from aekit.outputs.staging import check_folder_free

    check_folder_free(out, REPORT, overwrite=overwrite)
    if run != FOLDER / LATEST and not resolve_run(run).is_dir():
        raise OptionError(f"--run {run}", expected="the model's run folder", found="nothing there")
    codec = Codec.load(model, provider, threads)
    training = codec.bundle.manifest.get("training", {})
    settings = run_of_model(resolve_run(run), training.get("run_id"))
    if not source:
        # Only the user's own run may name a path to read. A model.json may come from a stranger, so only the name of a
        # known set is taken from it.
        named = str(training.get("data", ""))
        kept = settings.get("data", []) if settings else [named] if named in NAMES else []
        source = [str(text) for text in kept] if isinstance(kept, list) else [str(kept)]
    if not source:
        raise OptionError(
            "SOURCE",
            expected="images to evaluate on",
            found=f"none, and {run} is not the run that made {model}",
            fix="name the images, or the model's run with --run",
        )
    if settings and group_by is None:
        group_by = str(settings.get("group_by", ""))
    opened = open_source(source)
    check_apart_from(opened, out, model, resolve_run(run), pictures=True)
    phase(f"reading {opened.name}")
    test = open_test_images(opened, codec.bundle, group_by)
    for record in test.skipped:
        note(f"skipped {record.path}: {record.error}")
    is_grid = codec.spec.is_grid
    pca = _baseline(resolve_run(run)) if settings and not is_grid else None
    report = measure(codec, test, pca, phase, quality)
    write_report(out, report, overwrite=overwrite)
    emit({**report.figures, "out": str(out)}, [*report_lines(report.figures), f"report and picture: {out}"], as_json)
    if test.skipped:
        raise typer.Exit(3)


def _baseline(run: Path) -> "Pca | None":
    from aekit.pca import Pca

    return Pca.load(run / PCA) if (run / PCA).exists() else None
