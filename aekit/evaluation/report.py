"""The report on a model: measured on images it was never trained on, beside PCA of the same code size and codecs."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aekit.codes.archive import ArchiveWriter
from aekit.codes.archive.container import inputs_per_block
from aekit.codes.entropy import U8
from aekit.codes.tables import read_tables
from aekit.errors import SourceError
from aekit.evaluation.codecs import codecs_at
from aekit.evaluation.figures import save_reconstructions
from aekit.evaluation.metrics import mse, psnr
from aekit.images.decode import Pixels
from aekit.images.held_out import hold_out
from aekit.images.records import Record
from aekit.images.sources import ArraySource, fingerprint, open_source, read_all
from aekit.json_files import finite
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.outputs.places import write_errors
from aekit.outputs.staging import staged_folder
from aekit.pca import Pca

REPORT, PICTURE = "report.json", "reconstructions.png"
SHOWN = 10


@dataclass(frozen=True)
class TestImages:
    """Images to evaluate on, and what is known of them."""

    images: Pixels
    """uint8 [n, H, W, C]."""
    description: str
    """What they are, in words: which set, which part of it, and whether the model can have seen them."""
    skipped: tuple[Record, ...] = ()
    """Files that could not be read."""


def open_test_images(text: str, bundle: Bundle) -> TestImages:
    """The images a user named, less those that the model was trained on where that can be known.

    Of a named set that is its test split. Of a folder or array whose content is that of the training data, it is the
    part that was held out. Of anything else it is everything.
    """
    source = open_source(text, "test")
    geometry = bundle.spec.geometry
    if isinstance(source, ArraySource) and source.is_named_set:
        return TestImages(source.read(0, len(source), geometry).images, f"the test split of {text}")
    images, names, skipped = read_all(source, geometry)
    training = bundle.manifest.get("training", {})
    if training.get("fingerprint") == fingerprint(images, names):
        held = hold_out(names, str(training.get("group_by", "")))
        what = f"the held-out part of {text}; the model was trained on the other {int((~held).sum()):,}"
        return TestImages(images[held], what, tuple(skipped))
    return TestImages(images, f"all of {text}, which is not what the model was trained on as a whole", tuple(skipped))


def evaluate(codec: Codec, test: TestImages, pca: Pca | None) -> tuple[dict[str, Any], Pixels]:
    """The report's figures and the reconstructions; MSE and PSNR for pixels in [0, 1].

    The codecs are held against the codes of an archive: uint8, at the MSE those come to.
    """
    if not len(test.images):
        raise SourceError("the images to evaluate", expected="at least one", found="none")
    reconstructions = codec.reconstruct(test.images)
    error = mse(test.images, reconstructions)
    codes = codec.encode(test.images, "uint8")
    rounded = mse(test.images, codec.decode(codes))
    code_dim = codec.spec.code_dim
    pixels = codec.spec.geometry.pixels
    if pca is not None and pca.mean.size != pixels:
        raise SourceError(
            "the run's principal components", expected=f"those of {pixels} pixels", found=f"of {pca.mean.size}"
        )
    return {
        "images": len(test.images),
        "test_images": test.description,
        "skipped": len(test.skipped),
        "geometry": str(codec.spec.geometry),
        "mse": error,
        "psnr": psnr(error),
        "pca_mse": pca.mse(test.images) if pca else None,
        "code_dim": code_dim,
        "bytes_per_image": code_dim * 4,
        "uint8_mse": rounded,
        "uint8_psnr": psnr(rounded),
        "uint8_cost_db": psnr(error) - psnr(rounded),
        "uint8_bytes_per_image": code_dim,
        **_archived(codec.bundle, codes),
        "raw_bytes_per_image": pixels,
        "codecs": codecs_at(test.images, rounded),
        "model_bytes": sum(len(codec.bundle.graph(role)) for role in ("encoder", "decoder")),
        "model_id": codec.model_id,
        "provider": codec.provider("encoder"),
    }, reconstructions


def _archived(bundle: Bundle, codes: U8) -> dict[str, float | None]:
    """Bytes an image of codes uint8 [n, D] in a real archive without names, and what their entropy under the model's
    tables is; None for a model without tables."""
    if "tables" not in bundle.manifest:
        return {"archive_bytes_per_image": None, "entropy_bytes_per_image": None}
    with write_errors(Path("a temporary file")), tempfile.TemporaryFile() as file:
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
    """Write report.json and the picture of ten images above their reconstructions."""
    shown = np.linspace(0, len(test.images) - 1, min(SHOWN, len(test.images))).astype(int)
    with staged_folder(folder, REPORT, overwrite=overwrite) as part:
        (part / REPORT).write_text(json.dumps(finite(figures), indent=1) + "\n", encoding="utf-8")
        save_reconstructions(part / PICTURE, test.images[shown], reconstructions[shown])
