"""layouts: what Pillow would misread is read right or refused, and a JPEG of endless scans is refused."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_images import chunk
from tiffs import tiff

from aekit.errors import ImageError
from aekit.images.decode import Pixels, decode_file
from aekit.spec import Geometry

PAIR, COLOUR_PAIR = Geometry(8, 8, 1), Geometry(8, 8, 3)
MAP = [0, 65535, 257, 0, 0, 0, 128 * 257, 0, 0, 0, 0, 0]


def read(folder: Path, data: bytes, geometry: Geometry = PAIR) -> Pixels:
    """The two pixels [2, channels] of a picture of 2x1: enlarged, its outer columns are still those pixels."""
    (folder / "x.tif").write_bytes(data)
    return decode_file(folder / "x.tif", geometry)[0][0, [0, -1]]


@pytest.mark.parametrize(
    ("data", "levels"),
    [
        (tiff(bytes([0, 0x0F, 0xFF]), (2, 1), photometric=1, bits=[12]), [0, 255]),
        (tiff(bytes([0x80, 0x07, 0xFF]), (2, 1), photometric=1, bits=[12]), [128, 127]),
        (tiff(struct.pack("<HH", 0, 65535), (2, 1), photometric=0, bits=[16]), [255, 0]),
        (tiff(struct.pack("<HH", 257, 65535), (2, 1), photometric=1, bits=[16]), [1, 255]),
        (tiff(struct.pack(">HH", 257, 65535), (2, 1), photometric=1, bits=[16], order=">"), [1, 255]),
        (tiff(bytes([7, 200]), (2, 1), photometric=0, bits=[8]), [248, 55]),
        (tiff(bytes([0x0F]), (2, 1), photometric=1, bits=[4]), [0, 255]),
        (tiff(bytes([0x0F]), (2, 1), photometric=0, bits=[4]), [255, 0]),
        (tiff(bytes([0b00100000]), (2, 1), photometric=1, bits=[2]), [0, 170]),
        (tiff(bytes([30, 255, 90, 0]), (2, 1), photometric=1, bits=[8, 8], t338=2), [30, 255]),
        (tiff(bytes([30, 255, 0, 0]), (2, 1), photometric=1, bits=[8, 8], t338=1), [30, 255]),
    ],
)
def test_gray_tiffs_of_every_depth_are_read_right(tmp_path: Path, data: bytes, levels: list[int]) -> None:
    assert read(tmp_path, data)[:, 0].tolist() == levels


@pytest.mark.parametrize(
    ("data", "second"),
    [
        (tiff([b"\1\2", b"\3\4", b"\5\6"], (2, 1), photometric=2, bits=[8] * 3), (2, 4, 6)),
        (tiff(struct.pack("<6H", 0, 0, 0, 256, 512, 65535), (2, 1), photometric=2, bits=[16] * 3), (1, 2, 255)),
        (tiff(bytes([0, 0, 0, 0, 255, 0, 0, 0]), (2, 1), photometric=5, bits=[8] * 4), (0, 255, 255)),
        (tiff(bytes([0, 128, 128, 76, 85, 255]), (2, 1), photometric=6, bits=[8] * 3, t530=[1, 1]), (254, 0, 0)),
        (tiff(bytes([0b00100000]), (2, 1), photometric=3, bits=[2], t320=MAP), (1, 128, 0)),
    ],
)
def test_colour_tiffs_of_every_kind_are_read_right(tmp_path: Path, data: bytes, second: tuple[int, ...]) -> None:
    assert tuple(read(tmp_path, data, COLOUR_PAIR)[1]) == second


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (tiff(struct.pack("<ii", 0, 300), (2, 1), photometric=1, bits=[32], t339=2), "32-bit pixels"),
        (tiff(struct.pack("<II", 0, 300), (2, 1), photometric=1, bits=[32]), "32-bit pixels"),
        (tiff(struct.pack("<hh", 0, 300), (2, 1), photometric=1, bits=[16], t339=2), "signed"),
        (tiff(bytes([0, 253]), (2, 1), photometric=1, bits=[8], t339=2), "signed"),
        (tiff(bytes([0, 9, 50, 128]), (2, 1), photometric=1, bits=[8, 8], t338=0), "unknown meaning"),
        (tiff(bytes([0, 9, 50, 128]), (2, 1), photometric=1, bits=[8, 8]), "a TIFF of a layout"),
        (tiff([b"\0\t", b"2\x80"], (2, 1), photometric=1, bits=[8, 8], t338=0), "a TIFF of a layout"),
        (tiff(bytes(8), (2, 1), photometric=2, bits=[8] * 4, t338=0), "unknown meaning"),
        (tiff(bytes(4), (2, 1), photometric=1, bits=[16], t339=3), "a TIFF of a layout"),
        (tiff(struct.pack(">HH", 0, 65535), (2, 1), photometric=0, bits=[16], order=">"), "a TIFF of a layout"),
        (tiff(bytes([255, 0, 0] * 2), (2, 1), photometric=8, bits=[8] * 3), "LAB colour"),
        (tiff(bytes(8), (2, 1), photometric=5, bits=[8] * 4, t332=2), "inks other"),
        (tiff(bytes(12), (2, 1), photometric=6, bits=[8] * 3, t530=[2, 2]), "subsampled"),
        (tiff(bytes(12), (2, 1), photometric=6, bits=[8] * 3), "subsampled"),
    ],
)
@pytest.mark.parametrize("geometry", [PAIR, COLOUR_PAIR])
def test_tiffs_that_would_be_misread_are_refused(tmp_path: Path, data: bytes, said: str, geometry: Geometry) -> None:
    with pytest.raises(ImageError, match=rf"x\.tif: .*({said})"):
        read(tmp_path, data, geometry)


def png(depth: int, colour: int, row: bytes, clear: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"tRNS", clear), chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("depth", "row", "level"),
    [(1, b"\x40", 1), (2, b"\x20", 2), (4, b"\x05", 5), (8, b"\0\7", 7), (16, b"\0\0\1\7", 263)],
)
def test_transparent_gray_of_every_depth_is_laid_over_the_background(
    tmp_path: Path, depth: int, row: bytes, level: int
) -> None:
    data = png(depth, 0, row, struct.pack(">H", level))
    assert read(tmp_path, data, Geometry(8, 8, 1, background=99))[:, 0].tolist() == [0, 99]


def test_16_bit_colour_with_a_transparent_colour_is_refused(tmp_path: Path) -> None:
    data = png(16, 2, struct.pack(">6H", 0, 0, 0, 300, 300, 300), struct.pack(">3H", 300, 300, 300))
    with pytest.raises(ImageError, match="transparent colour"):
        read(tmp_path, data)


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_endless_scans_is_refused_and_usual_ones_are_read(tmp_path: Path, progressive: bool) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(stream, "JPEG", progressive=progressive)
    whole = stream.getvalue()
    assert (read(tmp_path, whole, PAIR) <= 1).all()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="scans, which take too long"):
        read(tmp_path, whole[:-2] + last * 20_000 + whole[-2:])


LITTLE_MEMORY = """
import resource, sys
from aekit.images.decode import decode_file
from aekit.spec import Geometry
decode_file(sys.argv[2], Geometry(16, 16, 3))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, used + 2**24))
try:
    decode_file(sys.argv[1], Geometry(16, 16, 3))
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits memory as Linux does")
@pytest.mark.parametrize("how", [{}, {"compression": "tiff_lzw"}])
def test_a_sound_tiff_without_memory_is_not_called_damaged(tmp_path: Path, how: dict[str, str]) -> None:
    for name, side in (("large.tif", 5000), ("small.tif", 16)):
        Image.new("RGB", (side, side)).save(tmp_path / name, **how)
    command = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "large.tif"), str(tmp_path / "small.tif")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'large.tif'}: not enough memory to decode it\n", done.stderr
