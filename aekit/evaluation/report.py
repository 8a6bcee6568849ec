"""The report on a model: errors and sizes on images it was not trained on, beside PCA and image codecs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aekit.codes.archive.container import inputs_per_block
from aekit.codes.entropy import Sets
from aekit.codes.grid_coders import sets_of
from aekit.codes.tables import read_tables
from aekit.errors import SourceError
from aekit.evaluation.archive_size import Stored, archive_size, has_tables
from aekit.evaluation.comparison import compare
from aekit.evaluation.figures import save_reconstructions
from aekit.evaluation.metrics import mean_mse, psnr
from aekit.evaluation.opening import TestImages, open_test_images
from aekit.images.decode import Pixels
from aekit.json_files import write_json
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.outputs.staging import staged_folder
from aekit.pca import Pca
from aekit.registry import objective_facts
from aekit.spec import ModelSpec

__all__ = ["PICTURE", "REPORT", "Report", "TestImages", "evaluate", "open_test_images", "write_report"]

REPORT, PICTURE = "report.json", "reconstructions.png"
SHOWN = 10
"""Largest number of images in the picture."""
_BLOCK, _BLOCK_BYTES = 256, 2**26
"""Images that are encoded and decoded at a time, and bytes of their pixels, unless one image has more."""


@dataclass(frozen=True)
class Report:
    """What was measured."""

    figures: dict[str, Any]
    """JSON-ready values."""
    shown: list[Pixels]
    """Some of the images, each uint8 [H, W, C]."""
    reconstructions: list[Pixels]
    """These images as they come back from the codes that the model is meant to store."""


def evaluate(
    codec: Codec,
    test: TestImages,
    pca: Pca | None = None,
    say: Callable[[str], None] = lambda _: None,
    quality: int | None = None,
) -> Report:
    """Measure a model. `say` is called with a few words when a step begins. `quality` is as in Codec.encode.

    `pca` has the principal components of the training images, [code_dim, pixels]. None means that they are not
    available; then the figure in model.json is used.

    `mse` and `psnr` are the headline figures. They belong to the codes that the model is meant to store: uint8 if it
    was trained for rounded codes, else float32. `headline_codes` says which. Names that begin with `float_` or `uint8_`
    are figures of one kind of code. The other codecs are compared at the MSE of uint8 codes, because an archive stores
    these. Pixels are in [0, 1] for MSE and PSNR; the PSNR is infinite if the MSE is 0. An MSE of several images is the
    mean of the MSE of each one, so that a small picture counts as much as a large one.

    Raises:
        SourceError: there are no images, or `pca` has another number of pixels.
        OptionError: the model lacks the quality.
        BundleError: a graph or a table of the model is missing or damaged.
        ProviderError: a graph can't be run.
        OutputError: no temporary file can be written.
    """
    count, spec = len(test.images), codec.spec
    if not count:
        raise SourceError("the images to evaluate", expected="at least one", found="none")
    if pca is not None and pca.mean.size != spec.fixed.pixels:
        expected, found = f"components of {spec.fixed.pixels} pixels", f"{pca.mean.size}"
        raise SourceError("the run's principal components", expected=expected, found=found)
    say(f"{count:,} images through the model")
    rounded = stores_rounded_codes(spec)
    shown = np.linspace(0, count - 1, min(SHOWN, count)).astype(int)
    run = _run(codec, test.images, set(shown), "uint8" if rounded else "float32", quality)
    float_mse, uint8_mse = run.float_mse, run.uint8_mse
    headline = uint8_mse if rounded else float_mse
    values = run.values / count
    figures = {
        "images": count,
        "test_images": test.description,
        "skipped": len(test.skipped),
        "geometry": str(spec.geometry),
        "mse": headline,
        "psnr": psnr(headline),
        "headline_codes": "uint8" if rounded else "float32",
        **_pca_figures(codec.bundle, test, pca),
        "code_dim": spec.code_dim,
        "bytes_per_image": values * (1 if rounded else 4),
        "float_mse": float_mse,
        "float_psnr": psnr(float_mse),
        "float_bytes_per_image": values * 4,
        "uint8_mse": uint8_mse,
        "uint8_psnr": psnr(uint8_mse),
        "uint8_cost_db": psnr(float_mse) - psnr(uint8_mse),
        "uint8_bytes_per_image": values,
    }
    say("the size of an archive")
    archive = archive_size(codec.bundle, run.codes, test.records) if has_tables(codec.bundle) else None
    pixels = sum(image.shape[0] * image.shape[1] for image in test.images)
    figures |= {
        "archive_bytes_per_image": archive and archive.bytes_per_image,
        "archive_header_bytes": archive and archive.header,
        "archive_bytes_per_image_with_names": archive and archive.with_names and archive.with_names / count,
        "archive_bits_per_pixel": archive and 8 * archive.file / pixels,
        "entropy_bytes_per_image": archive and _entropy(codec.bundle, run.codes) / 8 / count,
        "entropy_model": archive and ("context" if read_tables(codec.bundle).context else "tables"),
        "raw_bytes_per_image": sum(image.size for image in test.images) / count,
        "codecs": compare(codec, test.images, archive, say, quality),
        "quality": (quality or spec.default_quality) if spec.has_qualities else None,
        "model_bytes": sum(len(codec.bundle.graph(role)) for role in ("encoder", "decoder")),
        "model_id": codec.model_id,
        "provider": codec.provider("encoder"),
    }
    return Report(figures, [test.images[row] for row in shown], run.shown)


def stores_rounded_codes(spec: ModelSpec) -> bool:
    """Return whether the model was trained for rounded codes, so that only its uint8 codes are worth storing."""
    return objective_facts(spec.objective).stores_uint8_only


@dataclass(frozen=True)
class _Run:
    """All images through the model."""

    codes: Stored
    """uint8 codes."""
    values: int
    """Numbers in these codes."""
    float_mse: float
    """Error with latents as codes, the mean over images."""
    uint8_mse: float
    """Error with uint8 codes, the mean over images."""
    shown: list[Pixels]
    """Some of the reconstructions, from the codes that the model is meant to store."""


def _run(codec: Codec, images: Pixels | list[Pixels], shown: set[int], dtype: str, quality: int | None) -> _Run:
    parts: list[Any] = []
    kept, errors = list[Pixels](), {"float32": 0.0, "uint8": 0.0}
    for start, stop in _blocks(images):
        block: Any = images[start:stop]
        for each in errors:
            codes = codec.encode(block, each, quality=quality)
            back = codec.decode(codes)
            errors[each] += mean_mse(block, back) * len(block)
            if each == "uint8":
                parts.append(codes)
            if each == dtype:
                kept += [image for row, image in enumerate(back, start) if row in shown]
    whole = GridCodes.joined(parts) if codec.spec.is_grid else np.concatenate(parts)
    values = sum(code.size for code in whole)
    return _Run(whole, values, errors["float32"] / len(images), errors["uint8"] / len(images), kept)


def _blocks(images: Pixels | list[Pixels]) -> Iterator[tuple[int, int]]:
    """Yield ranges of images that are run at a time."""
    start, size = 0, 0
    for row, image in enumerate(images):
        if row > start and (row - start == _BLOCK or size + image.size > _BLOCK_BYTES):
            yield start, row
            start, size = row, 0
        size += image.size
    yield start, len(images)


def _entropy(bundle: Bundle, codes: Stored) -> float:
    """Return the entropy of codes under the model's tables, in bits. A context model can do with less."""
    rows: Any = codes
    step, tables = inputs_per_block(bundle.spec.code_dim), read_tables(bundle).tables
    sets: Sets = None
    if isinstance(codes, GridCodes):
        rows, sets = codes.rows(), sets_of(codes)
    starts = range(0, len(rows), step)
    parts = ((rows[start : start + step], None if sets is None else sets[start : start + step]) for start in starts)
    return float(sum(tables.entropy_bits(*part) for part in parts))


def _pca_figures(bundle: Bundle, test: TestImages, pca: Pca | None) -> dict[str, Any]:
    """Return the PCA baseline: `pca_mse`, `pca_code_dim` and `pca_note`.

    The note says which images the baseline was measured on, or why it is missing.
    """
    if bundle.spec.is_grid:
        note = "left out: PCA of whole images needs images of one size; the model itself starts as PCA of blocks"
        return {"pca_mse": None, "pca_code_dim": None, "pca_note": note}
    if pca is not None and isinstance(test.images, np.ndarray):
        return {"pca_mse": pca.mse(test.images), "pca_code_dim": len(pca.components), "pca_note": "on these images"}
    stored = bundle.manifest.get("training", {}).get("pca_mse")
    match stored:
        case {"mse": int() | float() as error, "code_dim": int() as code_dim, "images": int() as images} if error >= 0:
            note = f"on the {images:,} images that training held out, as model.json says"
            return {"pca_mse": float(error), "pca_code_dim": code_dim, "pca_note": note}
    note = "unknown: it is not in model.json; name the model's run with --run, or export the model again"
    return {"pca_mse": None, "pca_code_dim": None, "pca_note": note}


def write_report(folder: Path, report: Report, *, overwrite: bool) -> None:
    """Write report.json and a picture of some images above their reconstructions into `folder`, replaced as a whole.

    Raises OutputExists if `folder` is taken and may not be replaced, OutputError if it can't be written.
    """
    with staged_folder(folder, REPORT, overwrite=overwrite) as part:
        write_json(part / REPORT, report.figures)
        save_reconstructions(part / PICTURE, report.shown, report.reconstructions)
