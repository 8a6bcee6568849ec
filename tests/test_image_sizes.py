"""image sizes: orientation, scale, and arrays by the rules for files."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import GRAY, WIDE, colours, decoded, png
from PIL import Image

from aekit.errors import ImageError, ShapeError
from aekit.images.decode import Pixels, decode_file, fit_array, picture_for_grid
from aekit.images.sources import FolderSource
from aekit.spec import Geometry, GridGeometry

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


ANY_SIZE = GridGeometry(stride=8, channels=3, encoder_halo=0, decoder_halo=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (37, 53), (300, 400)])  # the last in two strips
def test_a_grid_model_takes_a_picture_as_it_lies(tmp_path: Path, height: int, width: int) -> None:
    image = colours(height, width)
    for name in ("plain.png", "plain.bmp", "plain.tif"):
        Image.fromarray(image).save(tmp_path / name)
        out, size = picture_for_grid(tmp_path / name, ANY_SIZE)
        assert size == (width, height)
        np.testing.assert_array_equal(out, image)
    Image.fromarray(image).save(tmp_path / "a.jpg", quality=90)
    out, size = picture_for_grid(tmp_path / "a.jpg", ANY_SIZE)
    with Image.open(tmp_path / "a.jpg") as jpeg:
        np.testing.assert_array_equal(out, jpeg)
    assert size == (width, height)


@pytest.mark.parametrize(("height", "width"), [(30, 200), (300, 400)])
def test_strips_have_the_colours_of_the_whole(
    tmp_path: Path, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Palettes, transparent pixels and 16 bits, whose meaning lies beside the pixels, and an EXIF turn."""
    image = Image.fromarray(colours(height, width))
    turned = Image.Exif()
    turned[0x0112] = 6
    see_through = image.copy()
    see_through.putalpha(Image.fromarray((np.indices((height, width)).sum(0) % 256).astype(np.uint8)))
    levels = Image.fromarray((np.indices((height, width)).sum(0) * 31 % 65536).astype(np.uint16))
    palette = image.quantize(17)
    palette.save(tmp_path / "palette.png", transparency=3)
    see_through.save(tmp_path / "alpha.png", exif=turned)
    levels.save(tmp_path / "levels.png")
    levels.save(tmp_path / "clear.png", transparency=310)
    image.save(tmp_path / "turned.jpg", exif=turned)
    for channels in (1, 3):
        geometry = GridGeometry(8, channels, 0, 0, background=90)
        for path in sorted(tmp_path.iterdir()):
            out, size = picture_for_grid(path, geometry)
            assert out.shape == (*size[::-1], channels)
            with monkeypatch.context() as patch:
                patch.setattr("aekit.images.decode._STRIP_PIXELS", 2**40)
                np.testing.assert_array_equal(picture_for_grid(path, geometry)[0], out, path.name)
            if height == 30:  # the vector models' rule at the same size
                np.testing.assert_array_equal(out, decode_file(path, Geometry(*out.shape, background=90))[0])


def test_a_picture_over_max_side_is_shrunk_to_it(tmp_path: Path) -> None:
    image = Image.fromarray(colours(300, 640))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.jpg")
    image.save(tmp_path / "thin.png")
    geometry = GridGeometry(8, 3, 0, 0, max_side=100)
    out, size = picture_for_grid(tmp_path / "a.png", geometry)
    assert size == (640, 300)
    np.testing.assert_array_equal(out, image.resize((100, 47), Image.Resampling.LANCZOS))
    out, size = picture_for_grid(tmp_path / "a.jpg", geometry)
    with Image.open(tmp_path / "a.jpg") as jpeg:
        jpeg.draft("RGB", (200, 94))
        assert jpeg.size == (320, 150)
        np.testing.assert_array_equal(out, jpeg.resize((100, 47), Image.Resampling.LANCZOS))
    assert size == (640, 300)
    Image.fromarray(colours(1, 5000)).save(tmp_path / "line.png")
    assert picture_for_grid(tmp_path / "line.png", geometry)[0].shape == (1, 100, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_too_large_for_a_grid_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pixels.png").write_bytes(png(10_000, 10_000))
    Image.fromarray(np.zeros((1, 70_000), np.uint8)).save(tmp_path / "side.png")
    with pytest.raises(ImageError, match=r"pixels\.png: 10000x10000, over 89,478,485 pixels"):
        picture_for_grid(tmp_path / "pixels.png", ANY_SIZE)
    with pytest.raises(ImageError, match=r"side\.png: 70000x1, a side over 65,535 pixels"):
        picture_for_grid(tmp_path / "side.png", ANY_SIZE)
    assert picture_for_grid(tmp_path / "side.png", GridGeometry(8, 1, 0, 0, max_side=50))[0].shape == (1, 50, 1)
