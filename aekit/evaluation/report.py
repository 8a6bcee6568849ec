"""The report on a model: errors and sizes on images it was not trained on, beside PCA and image codecs."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aekit.codes.archive import ArchiveWriter
from aekit.codes.archive.container import inputs_per_block
from aekit.codes.entropy import U8
from aekit.codes.tables import read_tables
from aekit.errors import OptionError, SourceError
from aekit.evaluation.codecs import codecs_at
from aekit.evaluation.figures import save_reconstructions
from aekit.evaluation.metrics import mse, psnr
from aekit.images.decode import Pixels
from aekit.images.held_out import hold_out
from aekit.images.records import Record
from aekit.images.sources import ArraySource, fingerprint, open_source, read_all
from aekit.json_files import write_json
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.outputs.staging import staged_folder
from aekit.pca import Pca
from aekit.registry import objective_facts
from aekit.spec import ModelSpec

REPORT, PICTURE = "report.json", "reconstructions.png"
SHOWN = 10
"""Largest number of images in the picture."""


@dataclass(frozen=True)
class TestImages:
    """Images to evaluate on, and where they come from."""

    images: Pixels
    """uint8 [n, H, W, C]."""
    description: str
    """Name of the set or folder, which part of it is used, and whether the model was trained on any of it, in words."""
    skipped: tuple[Record, ...] = ()
    """Files that could not be read, with the reason."""


def open_test_images(text: str, bundle: Bundle, group_by: str | None = None) -> TestImages:
    """Read the images that a user named, without the images that the model was trained on, if these are known.

    A named set gives its test split. A folder or array with the same content as the training data gives the part that
    was held out. Any other source gives all its images.

    `group_by` is the regular expression that split the training images into groups, from a run that the user trusts.
    It is empty if no expression split them, and None if that is unknown. The expression in model.json is not used: an
    expression from a stranger can take hours.

    Raises SourceError if the source can't be read; OptionError if the training images were split by groups and
    `group_by` is None or malformed.
    """
    source = open_source(text, "test")
    geometry = bundle.spec.fixed
    if isinstance(source, ArraySource) and source.is_named_set:
        return TestImages(source.read(0, len(source), geometry).images, f"the test split of {text}")
    images, names, skipped = read_all(source, geometry)
    training = bundle.manifest.get("training", {})
    if training.get("fingerprint") != fingerprint(images, names):
        what = f"all of {text}, which is not what the model was trained on as a whole"
        return TestImages(images, what, tuple(skipped))
    stored = str(training.get("group_by", ""))
    if group_by is None and stored:
        raise OptionError(
            "--group-by",
            expected="the expression that split these images in training",
            found=f"{stored[:80]!r} in model.json only",
            fix="name the model's run with --run, or give --group-by if you trust that expression",
        )
    held_out = hold_out(names, group_by or "")
    what = f"the held-out part of {text}; the model was trained on the other {int((~held_out).sum()):,}"
    return TestImages(images[held_out], what, tuple(skipped))


def evaluate(codec: Codec, test: TestImages, pca: Pca | None) -> tuple[dict[str, Any], Pixels]:
    """Measure a model. Returns the report's figures and the reconstructions, uint8 [n, H, W, C].

    `pca` has the principal components of the training images, [code_dim, pixels]. None means that they are not
    available; then the figure in model.json is used.

    `mse` and `psnr` are the headline figures. They belong to the codes that the model is meant to store: uint8 if it
    was trained for rounded codes, else float32. `headline_codes` says which. Names that begin with `float_` or `uint8_`
    are figures of one kind of code. The other codecs are compared at the MSE of uint8 codes, because an archive stores
    these. Pixels are in [0, 1] for MSE and PSNR; the PSNR is infinite if the MSE is 0.

    Raises:
        SourceError: there are no images, or `pca` has another number of pixels.
        BundleError: a graph or a table of the model is missing or damaged.
        ProviderError: a graph can't be run.
        OutputError: no temporary file can be written.
    """
    if not len(test.images):
        raise SourceError("the images to evaluate", expected="at least one", found="none")
    spec = codec.spec
    pixels = spec.fixed.pixels
    if pca is not None and pca.mean.size != pixels:
        raise SourceError(
            "the run's principal components", expected=f"components of {pixels} pixels", found=f"{pca.mean.size}"
        )
    codes = codec.encode(test.images, "uint8")
    of_float, of_uint8 = codec.reconstruct(test.images), codec.decode(codes)
    float_mse, uint8_mse = mse(test.images, of_float), mse(test.images, of_uint8)
    rounded = stores_rounded_codes(spec)
    headline = uint8_mse if rounded else float_mse
    return {
        "images": len(test.images),
        "test_images": test.description,
        "skipped": len(test.skipped),
        "geometry": str(spec.geometry),
        "mse": headline,
        "psnr": psnr(headline),
        "headline_codes": "uint8" if rounded else "float32",
        **_pca_figures(codec.bundle, test, pca),
        "code_dim": spec.code_dim,
        "bytes_per_image": spec.code_dim * (1 if rounded else 4),
        "float_mse": float_mse,
        "float_psnr": psnr(float_mse),
        "float_bytes_per_image": spec.code_dim * 4,
        "uint8_mse": uint8_mse,
        "uint8_psnr": psnr(uint8_mse),
        "uint8_cost_db": psnr(float_mse) - psnr(uint8_mse),
        "uint8_bytes_per_image": spec.code_dim,
        **_archived(codec.bundle, codes),
        "raw_bytes_per_image": pixels,
        "codecs": codecs_at(test.images, uint8_mse),
        "model_bytes": sum(len(codec.bundle.graph(role)) for role in ("encoder", "decoder")),
        "model_id": codec.model_id,
        "provider": codec.provider("encoder"),
    }, of_uint8 if rounded else of_float


def stores_rounded_codes(spec: ModelSpec) -> bool:
    """Return whether the model was trained for rounded codes, so that only its uint8 codes are worth storing."""
    return objective_facts(spec.objective).stores_uint8_only


def _pca_figures(bundle: Bundle, test: TestImages, pca: Pca | None) -> dict[str, Any]:
    """Return the PCA baseline: `pca_mse`, `pca_code_dim` and `pca_note`.

    The note says which images the baseline was measured on, or why it is missing.
    """
    if pca is not None:
        return {"pca_mse": pca.mse(test.images), "pca_code_dim": len(pca.components), "pca_note": "on these images"}
    stored = bundle.manifest.get("training", {}).get("pca_mse")
    match stored:
        case {"mse": int() | float() as error, "code_dim": int() as code_dim, "images": int() as images} if error >= 0:
            note = f"on the {images:,} images that training held out, as model.json says"
            return {"pca_mse": float(error), "pca_code_dim": code_dim, "pca_note": note}
    note = "unknown: it is not in model.json; name the model's run with --run, or export the model again"
    return {"pca_mse": None, "pca_code_dim": None, "pca_note": note}


def _archived(bundle: Bundle, codes: U8) -> dict[str, float | None]:
    """Measure codes uint8 [n, D] in a real archive without names, and their entropy under the model's tables.

    Both figures are bytes per image. They are None if the model has no tables.
    """
    if "tables" not in bundle.manifest:
        return {"archive_bytes_per_image": None, "entropy_bytes_per_image": None}
    with tempfile.TemporaryFile() as file:
        writer = ArchiveWriter(file, bundle, named=False)
        writer.add(codes, ())
        writer.finish()
        size = file.tell()
    step = inputs_per_block(bundle.spec.code_dim)
    tables = read_tables(bundle).tables
    bits = sum(tables.entropy_bits(codes[start : start + step]) for start in range(0, len(codes), step))
    return {"archive_bytes_per_image": size / len(codes), "entropy_bytes_per_image": bits / 8 / len(codes)}


def write_report(
    folder: Path, figures: dict[str, Any], test: TestImages, reconstructions: Pixels, *, overwrite: bool
) -> None:
    """Write report.json and a picture of ten images above their reconstructions into `folder`, replaced as a whole.

    Raises OutputExists if `folder` is taken and may not be replaced, OutputError if it can't be written.
    """
    shown = np.linspace(0, len(test.images) - 1, min(SHOWN, len(test.images))).astype(int)
    with staged_folder(folder, REPORT, overwrite=overwrite) as part:
        write_json(part / REPORT, figures)
        save_reconstructions(part / PICTURE, test.images[shown], reconstructions[shown])
