"""image sizes: orientation, scale, and arrays by the rules for files."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import GRAY, WIDE, colours, decoded
from PIL import Image

from aekit.errors import ShapeError
from aekit.images.decode import Pixels, decode_file, fit_array
from aekit.images.sources import FolderSource
from aekit.spec import Geometry

UNDO = {  # EXIF orientation -> what turns an upright picture into the one that is stored
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = Image.fromarray(colours(16, 24))
    undo = UNDO[orientation]
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    path = tmp_path / f"a.{suffix}"
    stored.save(path, exif=exif, **save)
    out, size = decode_file(path, WIDE)
    assert size == (24, 16)
    np.testing.assert_allclose(out.astype(int), colours(16, 24), atol=30 if suffix == "jpg" else 0)
    assert FolderSource(tmp_path, (path.name,)).native_geometry() == ({(16, 24)}, (1, 0))


@pytest.mark.parametrize(
    ("side", "scale"), [(31, 1), (63, 1), (64, 2), (127, 2), (128, 4), (255, 4), (256, 8), (900, 8)]
)
def test_a_large_jpeg_is_decoded_at_a_scale_never_below_twice_the_models_size(
    tmp_path: Path, side: int, scale: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path, quality=95)
    with Image.open(path) as image:
        image.draft("L", (side // scale, side // scale))
        assert image.size == (-(-side // scale),) * 2
        wanted = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    out, size = decode_file(path, GRAY)
    assert size == (side, side)
    np.testing.assert_array_equal(out[..., 0], wanted)


def test_a_turned_jpeg_is_scaled_by_its_upright_size(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 512), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "a.jpg", exif=exif, quality=95)
    out, size = decode_file(tmp_path / "a.jpg", Geometry(128, 16, 1))
    with Image.open(tmp_path / "a.jpg") as image:
        image.draft("L", (256, 32))
        assert image.size == (256, 32)
        upright = image.transpose(Image.Transpose.ROTATE_270)
        wanted = upright.resize((16, 128), Image.Resampling.BILINEAR)
    assert size == (64, 512)
    np.testing.assert_array_equal(out[..., 0], wanted)


def test_other_sizes_are_averaged_down(tmp_path: Path) -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * 200
    out = decoded(tmp_path / "a.png", Image.fromarray(checks.astype(np.uint8)), GRAY)
    assert np.abs(out.astype(int) - 100).max() <= 4  # a filter that only picks pixels would give 0 and 200


@settings(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3]), st.sampled_from([1, 3]))
def test_an_array_and_its_png_come_out_the_same(height: int, width: int, channels: int, wanted: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    geometry = Geometry(16, 24, wanted)
    with tempfile.TemporaryDirectory() as folder:
        out = decoded(Path(folder) / "a.png", Image.fromarray(image if channels == 3 else image[..., 0]), geometry)
    np.testing.assert_array_equal(fit_array(image[None], geometry)[0], out)


@pytest.mark.parametrize(
    "images", [np.zeros((2, 16, 16), np.uint8), np.zeros((2, 16, 16, 2), np.uint8), np.zeros((2, 16, 16, 1))]
)
def test_arrays_of_another_kind_are_refused(images: Pixels) -> None:
    with pytest.raises(ShapeError, match="expected uint8"):
        fit_array(images, GRAY)
