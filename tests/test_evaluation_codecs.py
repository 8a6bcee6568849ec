"""Codecs that ours is held against: real files, the cheapest setting that is good enough, and evaluate's figures."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from PIL import Image
from test_bundle import rewrite

from aekit import jobs
from aekit.codes.tables import read_tables
from aekit.evaluation import report
from aekit.evaluation.codecs import CODECS, FILES, available, cheapest, codecs_at, mosaic, write_and_read
from aekit.images.decode import Pixels
from aekit.images.sources import ArraySource
from aekit.model.codec import Codec

BY_NAME = {codec.name: codec for codec in CODECS}
GRAY = made_images(30, 24, 20)
COLOUR = np.concatenate([GRAY, GRAY[::-1], 255 - GRAY], axis=3)


def test_pillow_itself_writes_these() -> None:
    assert {"PNG", "JPEG", "WebP", "AVIF"} <= {codec.name for codec in available()}


@pytest.mark.parametrize("images", [GRAY, COLOUR], ids=["gray", "colour"])
def test_sizes_and_errors_are_those_of_the_files(images: Pixels) -> None:
    coded = write_and_read(BY_NAME["JPEG"], images[:3], 3, 20)
    size, error = 0, 0.0
    for image in images[:3]:
        file = io.BytesIO()
        Image.fromarray(image.squeeze()).save(file, "JPEG", quality=20, optimize=True)
        size += len(file.getvalue())
        error += float(np.square(np.asarray(Image.open(file)).reshape(image.shape).astype(float) - image).mean())
    assert coded.bytes_per_image == size / 3
    assert coded.mse == pytest.approx(error / 3 / 255**2)
    assert write_and_read(BY_NAME["PNG"], images, 30, None).mse == 0


@pytest.mark.parametrize("images", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("name", ["JPEG", "WebP"])
def test_the_setting_found_is_the_coarsest_that_is_good_enough(images: Pixels, name: str) -> None:
    codec, whole = BY_NAME[name], mosaic(images)[None]
    codec = dataclasses.replace(codec, chroma=codec.chroma[:1] if images.shape[3] == 3 else ())
    chroma = codec.chroma[0] if codec.chroma else None
    found = cheapest(codec, whole, 25, 0.002)
    assert found is not None
    assert found.quality is not None
    assert found.mse <= 0.002
    assert found == write_and_read(codec, whole, 25, found.quality, chroma)
    assert write_and_read(codec, whole, 25, found.quality - 1, chroma).mse > 0.002


def test_of_two_resolutions_of_colour_the_cheaper_counts() -> None:
    whole = mosaic(COLOUR)[None]
    sizes = [cheapest(dataclasses.replace(BY_NAME["JPEG"], chroma=(way,)), whole, 25, 0.004) for way in (0, 2)]
    both = cheapest(BY_NAME["JPEG"], whole, 25, 0.004)
    assert both == min((size for size in sizes if size), key=lambda size: size.bytes_per_image)


def test_what_no_setting_reaches_is_none() -> None:
    assert cheapest(BY_NAME["JPEG"], COLOUR[:2], 2, 0.0) is None


def test_a_mosaic_is_the_images_side_by_side() -> None:
    whole = mosaic(GRAY)
    assert whole.shape == (5 * 24, 5 * 20, 1)
    tiles = whole.reshape(5, 24, 5, 20, 1).swapaxes(1, 2).reshape(25, 24, 20, 1)
    np.testing.assert_array_equal(tiles, GRAY[np.linspace(0, 29, 25).astype(int)])
    assert mosaic(GRAY[:3]).shape == (24, 20, 1)
    assert mosaic(made_images(9, 400, 500)).shape == (400, 500, 1)


def test_few_images_are_compared_too() -> None:
    tried = codecs_at(GRAY[:2], 0.001)
    assert json.loads(json.dumps(tried)) == tried
    assert (tried["mosaic_images"], tried["file_images"], tried["mse"]) == (1, 2, 0.001)
    assert {"files", "mosaic"} == set(tried["WebP"])
    assert tried["PNG"]["files"]["bytes_per_image"] > tried["WebP"]["files"]["bytes_per_image"]


def test_the_report_shows_the_archive_as_compress_writes_it(tmp_path: Path, tiny_codec: Codec) -> None:
    images = made_images(300)
    figures, _ = report.evaluate(tiny_codec, report.TestImages(images, "blobs"), None)
    made = jobs.compress(ArraySource("a", images), tmp_path / "codes.aek", tiny_codec)
    assert figures["archive_bytes_per_image"] == made.bytes / 300
    codes = tiny_codec.encode(images, "uint8")
    assert figures["entropy_bytes_per_image"] == pytest.approx(
        read_tables(tiny_codec.bundle).tables.entropy_bits(codes) / 2400
    )
    assert 0 < figures["archive_bytes_per_image"] - figures["entropy_bytes_per_image"] < 1.5
    assert figures["codecs"]["mse"] == figures["uint8_mse"]
    assert figures["codecs"]["file_images"] == FILES


def test_a_model_without_tables_is_measured_all_the_same(model: Path) -> None:
    rewrite(model, tables=None)
    figures, _ = report.evaluate(Codec.load(model, "cpu"), report.TestImages(made_images(4), "blobs"), None)
    assert (figures["archive_bytes_per_image"], figures["entropy_bytes_per_image"]) == (None, None)
    assert "codecs" in figures
