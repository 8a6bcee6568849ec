"""Pictures for the tests of images: made by rule, saved by Pillow, or put together byte by byte."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from aekit.images.decode import Pixels, decode_file
from aekit.spec import Geometry

GRAY, RGB = Geometry(16, 16, 1), Geometry(16, 16, 3)
WIDE = Geometry(16, 24, 3)


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
