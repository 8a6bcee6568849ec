"""png: the short way gives what Pillow gives, pixels and errors alike."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from PIL import Image, PngImagePlugin

from aekit.errors import ImageError
from aekit.images.decode import decode_file
from aekit.images.named_sets import load_named_set
from aekit.images.opening import MAX_PIXELS
from aekit.images.png import encode, encode_alike, read_packed
from aekit.images.sources import read_files
from aekit.spec import Geometry

GRAY, RGB = Geometry(16, 16, 1), Geometry(16, 16, 3)
NOISE = np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8)


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:  # type: ignore[type-arg]
    Image.fromarray(pixels).save(path, "PNG", **options)
    return path


def by_pillow(path: Path, geometry: Geometry, monkeypatch: pytest.MonkeyPatch) -> object:
    """What the long way makes of the file: its pixels and size, or the words of its error."""
    with monkeypatch.context() as patch:
        patch.setattr("aekit.images.decode.read_packed", lambda path, most: None)
        return outcome(path, geometry)


def read_plain(path: Path, most: int) -> Image.Image | None:
    """The image by the short way, if the file is one for that."""
    packed = read_packed(path, most)
    return packed and packed.image()


def outcome(path: Path, geometry: Geometry) -> object:
    try:
        pixels, size = decode_file(path, geometry)
    except ImageError as error:
        return str(error)
    return pixels.tobytes(), size


@pytest.mark.parametrize("pixels", [NOISE, NOISE[:, :, 0], made_images(1)[0, :, :, 0]], ids=["rgb", "gray", "blob"])
@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"optimize": True}, {"dpi": (72, 72)}], ids=str)
def test_plain_files_are_read_here_as_pillow_reads_them(
    pixels: np.ndarray,  # type: ignore[type-arg]
    options: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = saved(tmp_path / "a.png", pixels, **options)
    plain = read_plain(path, MAX_PIXELS)
    assert plain is not None
    assert np.array_equal(np.asarray(plain), pixels)
    for geometry in (GRAY, RGB):
        assert outcome(path, geometry) == by_pillow(path, geometry, monkeypatch)


def test_what_is_not_plain_is_left_to_pillow(tmp_path: Path) -> None:
    gray = Image.fromarray(NOISE[:, :, 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "x")
    files = {
        "palette": (gray.convert("P"), {}),
        "bits": (gray.convert("1"), {}),
        "alpha": (gray.convert("LA"), {}),
        "deep": (Image.fromarray(NOISE[:, :, 0].astype(np.uint16)), {}),
        "clear": (gray, {"transparency": 3}),
        "turned": (gray, {"exif": exif}),
        "text": (gray, {"pnginfo": text}),
    }
    for name, (image, options) in files.items():
        path = tmp_path / f"{name}.png"
        image.save(path, **options)
        assert read_plain(path, MAX_PIXELS) is None, name
    plain = saved(tmp_path / "plain.png", NOISE)
    assert read_plain(plain, NOISE.shape[0] * NOISE.shape[1] - 1) is None  # too many pixels
    assert read_plain(plain.rename(tmp_path / "plain.jpg"), MAX_PIXELS) is None
    assert read_plain(tmp_path / "absent.png", MAX_PIXELS) is None


def test_damaged_files_give_the_same_pixels_or_the_same_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, path = random.Random(0), tmp_path / "a.png"
    taken = 0
    for pixels, level in ((NOISE, 0), (NOISE[:, :, 0], 6), (made_images(1)[0, :, :, 0], 9)):
        whole = saved(tmp_path / "whole.png", pixels, compress_level=level).read_bytes()
        for number in range(400):
            data = bytearray(whole)
            if number % 3 == 0:
                data = data[: rng.randrange(len(data))]
            elif number % 3 == 1:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            else:
                at = rng.randrange(len(data))
                data[at:at] = rng.randbytes(rng.randrange(1, 30))
            path.write_bytes(data)
            taken += read_plain(path, MAX_PIXELS) is not None
            assert outcome(path, GRAY) == by_pillow(path, GRAY, monkeypatch), (number, bytes(data))
    assert taken > 10  # a wrong bit in a checksum that Pillow does not read


def test_files_unpacked_together_are_those_unpacked_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole ones with every filter, damaged ones, others; images of the geometry's size and not."""
    rng, names = random.Random(1), list[str]()
    pictures = [
        NOISE,
        NOISE[:, :, 0],
        made_images(1, 20, 12)[0, :, :, 0],
        NOISE[:12, :12],
        NOISE.astype(np.uint16)[..., 0],
    ]
    for number in range(600):
        path = saved(tmp_path / f"{number}.png", pictures[number % 5], compress_level=number % 10)
        data = bytearray(path.read_bytes())
        if number % 4 == 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        names.append(path.name)
    # Rows of all the filters, the last ones on images' first rows too, and a filter that there is none of.
    for first in range(6):
        rows = b"".join(
            bytes([(row + first) % 6 if row == 0 else (row + first) % 5]) + rng.randbytes(12) for row in range(20)
        )
        whole = saved(tmp_path / "x.png", NOISE[:, :, 0]).read_bytes()
        idat = b"IDAT" + zlib.compress(rows)
        chunk = struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
        (tmp_path / f"filter{first}.png").write_bytes(whole[:33] + chunk + whole[-12:])
        names.append(f"filter{first}.png")
    monkeypatch.setattr("aekit.images.decode._STACK_BYTES", 10_000)
    for geometry in (Geometry(20, 12, 1), Geometry(20, 12, 3), GRAY):
        block = read_files(tmp_path, tuple(names), geometry)
        images = iter(block.images)
        for record in block.records:
            expected = by_pillow(tmp_path / record.path, geometry, monkeypatch)
            if record.error:
                assert f"{tmp_path / record.path}: {record.error}" == expected
            else:
                assert (next(images).tobytes(), (record.width, record.height)) == expected, record.path
        assert 20 < sum(bool(record.error) for record in block.records) < 150


def test_chunks_of_wrong_lengths_and_checksums_are_left_to_pillow(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.png", NOISE).read_bytes()

    def with_chunk(name: bytes, data: bytes, checksum: int | None = None) -> Path:
        checksum = zlib.crc32(name + data) if checksum is None else checksum
        chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
        path = tmp_path / "b.png"
        path.write_bytes(whole[:33] + chunk + whole[33:])
        return path

    assert read_plain(with_chunk(b"gAMA", bytes(4)), MAX_PIXELS) is not None
    assert read_plain(with_chunk(b"gAMA", bytes(5)), MAX_PIXELS) is None
    assert read_plain(with_chunk(b"gAMA", bytes(4), 1), MAX_PIXELS) is None
    assert read_plain(with_chunk(b"eXIf", bytes(4)), MAX_PIXELS) is None


def test_files_filtered_together_are_what_any_reader_reads_and_no_larger() -> None:
    smooth = np.add.outer(np.arange(20), np.arange(12)).astype(np.uint8) * 9
    rows = np.where(np.arange(20)[:, None] % 2, smooth, 0).astype(np.uint8)  # rows that want different filters
    for pictures in (
        [NOISE, NOISE[::-1]],
        [NOISE[:, :, :1], smooth[..., None], rows[..., None]],
        [NOISE[:1, :1]],
        [NOISE.repeat(3, 0)],
        [],
    ):
        images = np.stack(pictures) if pictures else np.empty((0, 4, 4, 1), np.uint8)
        files = encode_alike(images)
        assert len(files) == len(images)
        for file, image in zip(files, images, strict=True):
            with Image.open(io.BytesIO(file)) as whole:
                whole.verify()
            with Image.open(io.BytesIO(file)) as whole:
                assert np.array_equal(np.asarray(whole).reshape(image.shape), image)
    digits = load_named_set("mnist-5k", "test")[:200]
    alone = sum(len(encode(Image.fromarray(digit[:, :, 0]))) for digit in digits)
    assert sum(map(len, encode_alike(digits))) < 1.02 * alone


def test_files_written_here_are_what_any_reader_reads() -> None:
    for pixels in (NOISE, NOISE[:, :, 0], NOISE[:1, :1]):
        with Image.open(io.BytesIO(encode(Image.fromarray(pixels)))) as image:
            image.verify()
        with Image.open(io.BytesIO(encode(Image.fromarray(pixels)))) as image:
            assert np.array_equal(np.asarray(image), pixels)
