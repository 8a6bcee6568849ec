"""images: which files are found, and what each kind of file decodes to."""

import os
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from aekit.errors import ImageError, ShapeError, SourceError
from aekit.images.decode import Pixels, decode_file, fit_array
from aekit.images.paths import find_images
from aekit.images.sources import FolderSource, read_files
from aekit.spec import Geometry

GRAY, RGB = Geometry(16, 16, 1), Geometry(16, 16, 3)
WIDE = Geometry(16, 24, 3)
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


def colours(height: int = 16, width: int = 16) -> Pixels:
    """A picture that differs in every direction and channel, uint8 [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    channels = (200 * x / width + 30, 200 * y / height + 40, 120 * (x / width > y / height) + 50)
    return np.stack(channels, -1).astype(np.uint8)


def decoded(path: Path, image: Image.Image, geometry: Geometry = RGB, **save: object) -> Pixels:
    image.save(path, **save)
    return decode_file(path, geometry)[0]


def png(width: int, height: int, data: bytes = b"", *more: bytes) -> bytes:
    """A gray PNG by hand, with any size in its header, and any chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ROWS = (b"\0" + bytes([7] * 16)) * 16
"""The pixels of a PNG of 16x16, all 7."""


# --- files found


def test_images_are_found_below_the_folder_in_sorted_order_by_suffix_of_any_case(tmp_path: Path) -> None:
    names = ["z.png", "a/b.JPG", "a/b/c.Jpeg", "a.webp", "B.TIF", "b.tiff", "c.bmp", " sp ace.png", "new\nline.png"]
    for name in [*names, "notes.txt", "png", ".png", "a.png.bak", "x.gif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == sorted(names)


def test_names_that_are_not_utf8_are_found_and_read(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "ok.png")
    os.rename(os.fsencode(tmp_path / "ok.png"), os.fsencode(tmp_path) + b"/\xff\xfe.png")
    paths = find_images(tmp_path)
    assert [os.fsencode(path) for path in paths] == [b"\xff\xfe.png"]
    np.testing.assert_array_equal(decode_file(tmp_path / paths[0], RGB)[0], colours())


def test_only_regular_files_are_found_and_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "in.png").touch()
    assert find_images(tmp_path) == ["folder.png/in.png"]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir(), outside.mkdir()
    (outside / "far.png").touch()
    (inside / "near.png").touch()
    (inside / "up").symlink_to(inside, target_is_directory=True)
    (inside / "away").symlink_to(outside, target_is_directory=True)
    (inside / "again").symlink_to(outside, target_is_directory=True)
    (inside / "file.png").symlink_to(outside / "far.png")
    assert find_images(inside) == ["again/far.png", "file.png", "near.png"]


@pytest.mark.parametrize("target", ["nowhere.png", "link.png"])
def test_a_link_to_nothing_or_to_itself_is_listed_and_reported_when_read(tmp_path: Path, target: str) -> None:
    (tmp_path / "link.png").symlink_to(target)
    assert find_images(tmp_path) == ["link.png"]
    with pytest.raises(ImageError, match=r"link\.png: "):
        decode_file(tmp_path / "link.png", RGB)


def test_a_folder_that_is_missing_a_file_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, found in [("missing", "nothing there"), ("file", "a file"), ("empty", "none")]:
        with pytest.raises(SourceError, match=found):
            find_images(tmp_path / name)


def test_a_socket_is_never_opened_and_a_pipe_is_refused_even_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(tmp_path / "socket.png"))
    with listening:
        with pytest.raises(SourceError, match="found none"):
            find_images(tmp_path)
        for name in ("pipe.png", "socket.png", "."):
            with pytest.raises(ImageError, match="not a regular file"):
                decode_file(tmp_path / name, RGB)


def test_a_name_of_255_bytes_and_one_with_a_line_end_are_read_and_listed_in_one_line(tmp_path: Path) -> None:
    names = ["ü" * 125 + "x.png", "\r\n.png"]
    assert len(os.fsencode(names[0])) == 255
    for name in names:
        Image.fromarray(colours()).save(tmp_path / name)
    assert find_images(tmp_path) == sorted(names)
    for name in names:
        np.testing.assert_array_equal(decode_file(tmp_path / name, RGB)[0], colours())
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageError) as caught:
            decode_file(tmp_path / name, RGB)
        assert "\n" not in str(caught.value)


# --- kinds of file


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


# --- orientation and size


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


# --- damaged files


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ImageError, match=rf"a\.{suffix}: "):
        decode_file(path, RGB)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"not an image", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "a.png: "),
        (png(16, 16), "damaged image"),
        (png(60_000, 60_000), "89,478,485 pixels"),
        (png(60_000, 60_000, bytes(10**7)), "89,478,485 pixels"),  # its pixels are there, in 10 kB
        (png(2**31 - 1, 2**31 - 1), "89,478,485 pixels"),
        (png(10_000, 10_000), "10000x10000, over 89,478,485 pixels"),
        (png(0, 16), "a.png: "),
        # Chunks beside the pixels that swell a thousandfold when they are unpacked.
        (png(16, 16, ROWS, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**8)))), "too large"),
        (png(16, 16, ROWS, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(10**8)))), "too large"),
        (png(16, 16, ROWS, *[chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**6)))] * 100), "Too much memory"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_empty_junk_and_bomb_files_are_refused_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        decode_file(tmp_path / "a.png", RGB)


def test_the_hand_made_png_is_a_good_one(tmp_path: Path) -> None:
    for more in (b"", bytes(10**8)):  # what follows the last pixel is never unpacked
        (tmp_path / "a.png").write_bytes(png(16, 16, ROWS + more))
        assert (decode_file(tmp_path / "a.png", RGB)[0] == 7).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 65535), (65535, 1)])
def test_sides_from_one_pixel_up_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    (tmp_path / "a.png").write_bytes(png(width, height, (b"\0" + bytes([7] * width)) * height))
    out, found = decode_file(tmp_path / "a.png", RGB)
    assert found == size
    assert (out == 7).all()


MEASURED = """
import re, sys
from pathlib import Path
from aekit.images.decode import decode_file
from aekit.spec import Geometry

def peak():
    return int(re.search("VmHWM: *(.+) kB", Path("/proc/self/status").read_text())[1])

before = peak()
try:
    decode_file(Path(sys.argv[1]), Geometry(16, 16, 3))
except ValueError as error:
    print(peak() - before, error)
"""


def test_a_bomb_is_refused_in_little_memory(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not say how much memory a process took")
    (tmp_path / "a.png").write_bytes(
        png(60_000, 60_000, bytes(10**7), chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(10**8))))
    )
    done = subprocess.run([sys.executable, "-c", MEASURED, tmp_path / "a.png"], capture_output=True, text=True)
    grown, _, said = done.stdout.partition(" ")
    assert "a.png: " in said, done.stderr
    assert int(grown) < 20_000  # kilobytes


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=60)
@given(
    st.sampled_from(["png", "jpeg", "webp", "bmp", "tiff"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=8)
)
def test_damaged_bytes_never_raise_anything_but_an_image_error(kind: str, place: int, patch: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.png"
        Image.fromarray(colours(24, 24)).save(path, kind)
        data = bytearray(path.read_bytes())
        start = place % len(data)
        data[start : start + len(patch)] = patch
        path.write_bytes(data)
        try:
            assert decode_file(path, RGB)[0].shape == RGB.shape
        except ImageError as error:
            assert "\n" not in str(error)


def test_the_reason_is_kept_without_the_path_even_if_the_path_is_odd(tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").touch()
    block = read_files(tmp_path, ("a\nb.png",), RGB)
    assert [(record.path, record.error) for record in block.records] == [("a\nb.png", "empty file")]
    assert block.images.shape == (0, 16, 16, 3)
