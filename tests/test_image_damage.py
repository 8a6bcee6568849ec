"""image damage: truncated, hostile and odd files are refused with one line."""

import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import RGB, ROWS, chunk, colours, png
from PIL import Image

from aekit.errors import ImageError
from aekit.images.decode import decode_file
from aekit.images.sources import read_files


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
