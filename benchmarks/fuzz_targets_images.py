"""Fuzz targets of images: files in five formats, TIFF layouts, JPEG scans, and arrays."""

import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_targets_base import GEOMETRY, Target, Wrong, repaired_zip, saved
from PIL import Image

from aekit.errors import ImageError
from aekit.images.arrays import load_images, read_idx
from aekit.images.decode import Pixels, decode_file
from aekit.images.opening import native_form
from aekit.images.sources import read_files

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from tiffs import tiff as tiff_file


def image(folder: Path) -> Target:
    """PNG, JPEG, WebP, BMP and TIFF files, by the decoder of training and device."""
    y, x = np.mgrid[:20, :30]
    rgb = Image.fromarray(np.stack([8 * x, 12 * y, (x * y) % 256], -1).astype(np.uint8))
    gray16 = Image.fromarray((y * 3000 + x).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[Image.Image, dict[str, Any]]] = [
        (rgb, {"format": "PNG"}),
        (
            rgb.resize((GEOMETRY.width, GEOMETRY.height)).convert("L" if GEOMETRY.channels == 1 else "RGB"),
            {"format": "PNG"},
        ),
        (rgb, {"format": "PNG", "exif": exif}),
        (rgb.quantize(16), {"format": "PNG", "transparency": 3}),
        (gray16, {"format": "PNG", "transparency": 900}),
        (rgb, {"format": "PNG", "save_all": True, "append_images": [rgb.rotate(90)]}),
        (rgb, {"format": "JPEG", "exif": exif}),
        (rgb, {"format": "JPEG", "progressive": True, "icc_profile": b"profile"}),
        (rgb.convert("CMYK"), {"format": "JPEG"}),
        (rgb, {"format": "WEBP"}),
        (rgb.convert("RGBA"), {"format": "WEBP", "lossless": True, "exif": exif}),
        (rgb, {"format": "BMP"}),
        (rgb.convert("1"), {"format": "BMP"}),
        (rgb, {"format": "TIFF", "compression": "tiff_lzw"}),
        (gray16, {"format": "TIFF"}),
        (rgb.convert("1"), {"format": "TIFF", "compression": "group4"}),
        (rgb, {"format": "TIFF", "compression": "jpeg"}),
    ]
    seeds = [saved(lambda stream, image=image, how=how: image.save(stream, **how)) for image, how in kinds]
    file = folder / "x.png"

    def run(data: bytes) -> None:
        file.write_bytes(data)
        block = read_files(folder, (file.name,), GEOMETRY)  # as jobs do, which unpack small PNG files together
        try:
            pixels, (width, height) = decode_file(file, GEOMETRY)
        except ImageError:
            if not block.records[0].error:
                raise Wrong("read among others and refused alone") from None
            raise
        if not np.array_equal(block.images, pixels[None]):
            raise Wrong("other pixels among others than alone")
        if pixels.shape != GEOMETRY.shape or pixels.dtype != np.uint8 or width < 1 or height < 1:
            raise Wrong(f"{pixels.dtype} {pixels.shape} of {width}x{height}")
        if native_form(file)[0] != (width, height):
            raise Wrong(f"{width}x{height} when read, {native_form(file)[0]} by its header")

    return Target(seeds, run, repaired_png)


def tiff(folder: Path) -> Target:
    """TIFF files of many layouts: bits, photometrics, planes, byte orders, extra and signed samples.

    A plain second reader knows the pixels of the simplest layout. The decoder has to agree with it.
    """
    size, ramp = (GEOMETRY.width, GEOMETRY.height), np.arange(GEOMETRY.height * GEOMETRY.width) % 256
    gray = ramp.astype(np.uint8).tobytes()
    wide = (ramp * 257).astype("<u2").tobytes()
    twelve = b"".join((level * 4095 // 255 * 4097).to_bytes(3, "big") for level in ramp[::2].tolist())
    rgb = np.repeat(ramp, 3).astype(np.uint8).tobytes()
    seeds = [
        tiff_file(gray, size, photometric=1, bits=[8]),
        tiff_file(gray, size, photometric=0, bits=[8]),
        tiff_file(gray, size, photometric=1, bits=[8], order=">"),
        tiff_file(twelve, size, photometric=1, bits=[12]),
        tiff_file(wide, size, photometric=0, bits=[16]),
        tiff_file(wide, size, photometric=1, bits=[16], t339=2),
        tiff_file(wide + wide, size, photometric=1, bits=[32], t339=2),
        tiff_file(wide, size, photometric=1, bits=[8, 8], t338=0),
        tiff_file(wide, size, photometric=1, bits=[8, 8], t338=2),
        tiff_file(gray[: len(gray) // 2], size, photometric=1, bits=[4]),
        tiff_file(gray[: len(gray) // 2], size, photometric=3, bits=[4], t320=list(range(0, 48 * 1365, 1365))),
        tiff_file(rgb, size, photometric=2, bits=[8, 8, 8]),
        tiff_file([gray, gray, gray], size, photometric=2, bits=[8, 8, 8]),
        tiff_file(rgb, size, photometric=6, bits=[8, 8, 8], t530=[1, 1]),
        tiff_file(rgb + gray, size, photometric=5, bits=[8, 8, 8, 8]),
    ]
    file = folder / "x.tif"

    def run(data: bytes) -> None:
        file.write_bytes(data)
        pixels, _ = decode_file(file, GEOMETRY)
        plain = plain_gray(data)
        if plain is not None and not np.array_equal(pixels, np.broadcast_to(plain[:, :, None], GEOMETRY.shape)):
            raise Wrong("other pixels than a plain reader of 8-bit gray")

    return Target(seeds, run)


def plain_gray(data: bytes) -> Pixels | None:
    """The pixels uint8 [H, W] of an uncompressed 8-bit gray TIFF of one strip, little-endian; None for any other."""
    try:
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        rows = [struct.unpack_from("<HHII", data, start + 2 + 12 * row) for row in range(count)]
    except struct.error:
        return None
    tags = {tag: value for tag, _, _, value in rows}
    height, width = GEOMETRY.height, GEOMETRY.width
    wanted = {256: width, 257: height, 258: 8, 259: 1, 277: 1, 278: height, 279: height * width, 284: 1}
    kinds = {256: 4, 257: 4, 258: 3, 259: 3, 262: 3, 273: 4, 277: 3, 278: 4, 279: 4, 284: 3}
    plain = data[:4] == b"II*\0" and len(rows) == len(kinds) and {row[0]: row[1] for row in rows} == kinds
    if not plain or wanted.items() - tags.items() or any(row[2] != 1 for row in rows) or tags[262] > 1:
        return None
    if tags[273] + height * width > len(data) or data[start + 2 + 12 * count :] != bytes(4):
        return None
    levels = np.frombuffer(data, np.uint8, height * width, tags[273]).reshape(height, width)
    return 255 - levels if tags[262] == 0 else levels


def jpeg(folder: Path) -> Target:
    """JPEG files, plain and progressive; every second one has its last scan many times over."""
    y, x = np.mgrid[:20, :30]
    rgb = Image.fromarray(np.stack([8 * x, 12 * y, (x * y) % 256], -1).astype(np.uint8))
    kinds: list[dict[str, Any]] = [{}, {"progressive": True}, {"progressive": True, "restart_marker_rows": 1}]
    seeds = [
        saved(lambda stream, image=image, how=how: image.save(stream, "JPEG", **how))
        for image in (rgb, rgb.convert("L"))
        for how in kinds
    ]
    file = folder / "x.jpg"

    def run(data: bytes) -> None:
        file.write_bytes(data)
        pixels, _ = decode_file(file, GEOMETRY)
        if pixels.shape != GEOMETRY.shape or pixels.dtype != np.uint8:
            raise Wrong(f"{pixels.dtype} {pixels.shape}")

    def more_scans(data: bytes) -> bytes:
        start = data.rfind(b"\xff\xda")
        times = (0, 1, 20, 999, 1001, 20_000)[zlib.crc32(data) % 6]
        return data if start < 0 or len(data) > 4000 else data[:-2] + data[start:-2] * times + data[-2:]

    return Target(seeds, run, more_scans)


def npy(folder: Path) -> Target:
    """Images in .npy files."""
    arrays = [np.arange(480, dtype=np.uint8).reshape(5, 8, 12), np.ones((2, 8, 8, 3)), np.zeros((2, 8, 8), np.uint16)]
    arrays += [np.asfortranarray(arrays[0]), np.array([object()], object)]
    return Target([saved(lambda stream, a=a: np.save(stream, a)) for a in arrays], images_in(folder / "x.npy"))


def npz(folder: Path) -> Target:
    """Images in .npz files."""
    array = np.arange(480, dtype=np.uint8).reshape(5, 8, 12)
    seeds = [
        saved(lambda stream: np.savez(stream, images=array, labels=np.arange(5))),
        saved(lambda stream: np.savez_compressed(stream, array)),
    ]
    return Target(seeds, images_in(folder / "x.npz"), repaired_zip)


def idx(folder: Path) -> Target:
    """Images in idx files, plain and gzip."""
    plain = b"\0\0\x08\x03" + struct.pack(">3I", 5, 8, 12) + bytes(480)
    return Target([plain, saved(lambda stream: stream.write(gzipped(plain)))], images_in(folder / "x.idx", read_idx))


def images_in(file: Path, read: Callable[[Path], Any] = load_images) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        file.write_bytes(data)
        images = read(file)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or not images.size:
            raise Wrong(f"{images.dtype} {images.shape}")
        images[-1].sum()

    return run


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def repaired_png(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that their bytes want."""
    out, place = bytearray(data), 8
    while data[:4] == b"\x89PNG" and place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
    return bytes(out)
