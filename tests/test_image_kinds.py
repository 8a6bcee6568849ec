"""image kinds: what each kind of file and each mode of pixels decodes to."""

from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from pictures import GRAY, RGB, colours, decoded
from PIL import Image, ImageCms

from aekit.errors import ImageError
from aekit.spec import Geometry


@pytest.mark.parametrize(
    ("suffix", "save"), [("png", {}), ("bmp", {}), ("tiff", {}), ("webp", {"lossless": True, "exact": True})]
)
def test_lossless_formats_decode_exactly(tmp_path: Path, suffix: str, save: dict[str, object]) -> None:
    np.testing.assert_array_equal(decoded(tmp_path / f"a.{suffix}", Image.fromarray(colours()), **save), colours())


def test_jpeg_decodes_closely_under_any_name(tmp_path: Path) -> None:
    smooth = np.repeat(made_images(1)[0], 3, axis=2)
    for name in ("a.jpg", "a.png"):
        out = decoded(tmp_path / name, Image.fromarray(smooth), format="JPEG", quality=95)
        assert np.abs(out.astype(int) - smooth).max() <= 12


@pytest.mark.parametrize(
    ("format", "said"), [("GIF", "a GIF, not"), ("AVIF", "a HEIF or AVIF, not"), ("PPM", "not"), ("ICO", "not")]
)
def test_other_formats_are_refused_whatever_they_are_called(tmp_path: Path, format: str, said: str) -> None:
    with pytest.raises(ImageError, match=rf"a\.png: {said} a PNG, JPEG"):
        decoded(tmp_path / "a.png", Image.fromarray(colours()), format=format)


def test_colour_profiles_are_not_applied_even_broken_ones(tmp_path: Path) -> None:
    for profile in (ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), b"no profile"):
        out = decoded(tmp_path / "a.png", Image.fromarray(colours()), icc_profile=profile)
        np.testing.assert_array_equal(out, colours())


def test_gray_becomes_rgb_by_repetition_and_rgb_gray_by_luma(tmp_path: Path) -> None:
    gray = made_images(1)[0]
    np.testing.assert_array_equal(decoded(tmp_path / "g.png", Image.fromarray(gray[..., 0])), gray.repeat(3, axis=2))
    out = decoded(tmp_path / "c.png", Image.fromarray(colours()), GRAY)
    assert out.shape == (16, 16, 1)
    np.testing.assert_allclose(out[..., 0], colours() @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_every_16_bit_level_becomes_its_257th_part_rounded(tmp_path: Path) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    out = decoded(tmp_path / "a.png", Image.fromarray(levels), Geometry(256, 256, 1))
    np.testing.assert_array_equal(out[..., 0], np.floor(levels / 257 + 0.5))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_in_tiff_and_png_is_one_picture(tmp_path: Path, suffix: str) -> None:
    levels = made_images(1)[0, :, :, 0].astype(np.uint16) * 257
    out = decoded(tmp_path / f"a.{suffix}", Image.fromarray(levels), GRAY)
    np.testing.assert_array_equal(out[..., 0], levels // 257)


def test_one_bit_and_palette_pictures(tmp_path: Path) -> None:
    bits = Image.fromarray(made_images(1)[0, :, :, 0] > 100)
    assert bits.mode == "1"
    np.testing.assert_array_equal(decoded(tmp_path / "b.png", bits, GRAY)[..., 0], np.asarray(bits) * 255)
    palette = Image.fromarray(colours()).quantize(32)
    np.testing.assert_array_equal(decoded(tmp_path / "p.png", palette), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("suffix", ["jpg", "tiff"])
def test_cmyk_becomes_rgb_and_gray(tmp_path: Path, suffix: str) -> None:
    cmyk = Image.fromarray(np.full((64, 64, 3), (200, 100, 50), np.uint8)).convert("CMYK")
    for geometry, wanted in ((RGB, (200, 100, 50)), (GRAY, (124,))):
        out = decoded(tmp_path / f"a.{suffix}", cmyk, geometry)
        np.testing.assert_allclose(out.reshape(-1, geometry.channels).mean(0), wanted, atol=6)


@pytest.mark.parametrize("background", [255, 0, 77])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "tRNS", "L tRNS", "16-bit tRNS"])
def test_transparent_pixels_are_laid_over_the_background(tmp_path: Path, mode: str, background: int) -> None:
    geometry = Geometry(16, 16, 3, background=background)
    clear = np.zeros((16, 16), bool)
    clear[:8] = True
    save: dict[str, object] = {}
    if mode in ("RGBA", "LA"):
        image = Image.new(mode, (16, 16), (10, 20, 30, 255)[-len(mode) :] if mode == "RGBA" else (30, 255))
        image.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    elif mode == "P":
        image = Image.fromarray(np.where(clear, 1, 0).astype(np.uint8))
        image.putpalette([10, 20, 30, 90, 90, 90])
        save["transparency"] = 1
    elif mode == "tRNS":
        image = Image.fromarray(np.where(clear[..., None], 90, (10, 20, 30)).astype(np.uint8))
        save["transparency"] = (90, 90, 90)
    elif mode == "L tRNS":
        image = Image.fromarray(np.where(clear, 90, 30).astype(np.uint8))
        save["transparency"] = 90
    else:
        image = Image.fromarray(np.where(clear, 900, 30 * 257).astype(np.uint16))
        save["transparency"] = 900
    out = decoded(tmp_path / "a.png", image, geometry, **save)
    assert (out[clear] == background).all()
    solid = (10, 20, 30) if mode in ("RGBA", "P", "tRNS") else (30, 30, 30)
    assert (out[~clear] == solid).all()


def test_half_transparent_pixels_are_mixed_with_the_background(tmp_path: Path) -> None:
    image = Image.new("RGBA", (16, 16), (200, 100, 0, 128))
    np.testing.assert_allclose(decoded(tmp_path / "a.png", image)[0, 0], (227, 177, 127), atol=1)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_pixels_are_refused(tmp_path: Path, dtype: type) -> None:
    with pytest.raises(ImageError, match=r"a\.tiff: .*save it as 8 or 16 bits"):
        decoded(tmp_path / "a.tiff", Image.fromarray(np.full((16, 16), 70_000, dtype)))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = Image.fromarray(colours()), Image.new("RGB", (16, 16))
    for name, save in (("a.webp", {"lossless": True, "exact": True}), ("a.tiff", {}), ("a.png", {})):
        out = decoded(tmp_path / name, first, save_all=True, append_images=[second], **save)
        np.testing.assert_array_equal(out, colours())
