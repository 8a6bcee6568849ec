"""Read and write plain PNG files faster than Pillow alone: chunks are handled here, pixels by Pillow.

For a small image, Pillow spends more time on the file's structure than on the pixels: it tries formats, makes objects
for every chunk and looks for EXIF in many places. Reading here takes 0.52 × the CPU time of `Image.open` at 28×28, and
0.35 × with files of one size unpacked together; 0.81 × and 0.70 × at 64×64; 0.94 × at 224×224
(benchmarks/png_speed.py).

A plain file is 8-bit gray or RGB, not interlaced, and has no chunk that could change its look. Any other file, and any
damaged one, is left to Pillow. So the pixels and the errors are the same as Pillow's (PNG Specification, third
edition, W3C 2025).
"""

import io
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_MODES = {b"\x08\0\0\0\0": "L", b"\x08\x02\0\0\0": "RGB"}
"""Pillow's mode for the bytes of a header that give bit depth, colour type, compression, filter and interlacing."""
_SMALL_BYTES = 2**11
"""Most bytes of pixels of an image that `encode_alike` filters together with others."""
_RUN_LENGTHS = 3
"""Number of zlib's strategy Z_RLE, which searches for runs of one byte only."""
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags with which files are opened. With O_NONBLOCK, opening a pipe does not wait for its other end."""
_FIRST_BYTES = 2**16
"""Bytes of a file that are read first. Most small images are whole then."""
_LAST_FILTER = 4
"""Highest number of a filter. The five are None, Sub, Up, Average and Paeth."""
_MOST_BYTES = 2**24
"""Largest file that is read here, in bytes. In larger files the structure takes little time, so Pillow reads them."""
_HARMLESS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"tIME": 7}
"""Length of each kind of chunk that changes neither the pixels nor their meaning to aekit."""


class Packed(NamedTuple):
    """A plain PNG file whose pixels are still packed."""

    mode: str
    """`L` or `RGB`."""
    size: tuple[int, int]
    """Width and height, pixels."""
    pixels: bytes
    """The zlib stream of its rows."""

    def image(self) -> Image.Image | None:
        """Decode the image. Returns None if Pillow must read the file."""
        try:
            return Image.frombytes(self.mode, self.size, self.pixels, "zip", self.mode, 0)
        except (OSError, ValueError):  # Pillow will say what is wrong
            return None

    def rows(self) -> bytes | None:
        """Unpack the rows: height × (1 + width × channels) bytes, where each row begins with the number of its filter.

        Returns None if the stream holds anything else.
        """
        width, height = self.size
        stride = 1 + width * len(self.mode)
        stream = zlib.decompressobj()
        try:
            rows = stream.decompress(self.pixels, height * stride + 1)
        except zlib.error:
            return None
        whole = stream.eof and not stream.unused_data and len(rows) == height * stride
        return rows if whole and max(rows[::stride]) <= _LAST_FILTER else None


def unfiltered(stack: list[bytes], mode: str, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Undo the filters of images of one mode and size. `stack` has the rows of each; returns uint8 [n, height, width,
    channels].

    Pillow decodes all of them as one tall image, because the call takes most of the time of a small image. A filter
    refers to the row above only, so a blank row between two images keeps them apart.
    """
    width, height = size
    blank = bytes(1 + width * len(mode))
    rows = blank.join([b"", *stack])
    tall = width, len(stack) * (height + 1)
    pixels = np.frombuffer(Image.frombytes(mode, tall, zlib.compress(rows, 0), "zip", mode, 0).tobytes(), np.uint8)
    return pixels.reshape(len(stack), height + 1, width, len(mode))[:, 1:]


def read_packed(path: str | Path, max_pixels: int) -> Packed | None:
    """Read a plain PNG file of mode L or RGB. Returns None if Pillow must read the file, also for files in error."""
    if not str(path).lower().endswith(".png"):  # Pillow reads PNG files with another suffix
        return None
    try:
        status = os.stat(path)
        size = status.st_size
        # Pipes and devices are never opened, and a large file is never read whole.
        if not stat.S_ISREG(status.st_mode) or size > _MOST_BYTES:
            return None
        file = os.open(path, _FLAGS)
        try:
            data = os.read(file, min(size, _FIRST_BYTES))
            mode = _MODES.get(data[24:29]) if data.startswith(_HEAD) else None
            if mode is None:
                return None
            if size > len(data):
                data += os.read(file, size - len(data))
        finally:
            os.close(file)
        return _parse(data, mode, max_pixels)
    except (OSError, ValueError, struct.error):  # Pillow will say what is wrong
        return None


def _parse(data: bytes, mode: str, max_pixels: int) -> Packed | None:
    width, height = struct.unpack_from(">II", data, 16)
    if not 0 < width * height <= max_pixels or not _is_intact(data, 12, 13):
        return None
    at, parts = 33, []
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        if name == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        elif not parts and _HARMLESS.get(name) == length:
            if not _is_intact(data, at + 4, length):
                return None
        elif name == b"IEND" and length == 0 and parts and _is_intact(data, at + 4, 0):
            break
        else:
            return None
        at += 12 + length
    return Packed(mode, (width, height), parts[0] if len(parts) == 1 else b"".join(parts))


def _is_intact(data: bytes, at: int, length: int) -> bool:
    """Return whether the checksum of the chunk whose name begins at `at` is right."""
    end = at + 4 + length
    (checksum,) = struct.unpack_from(">I", data, end)
    return zlib.crc32(data[at:end]) == checksum


def encode(image: Image.Image) -> bytes:
    """Return the PNG file of an image of mode L or RGB, as Pillow writes it.

    zlib searches for run lengths only, at its lowest level. The files are as small as with Pillow's defaults, or
    smaller: 269 bytes at 28×28, where the defaults take 269; 60,420 bytes at 224×224, where they take 62,890. CPU time
    is less: 0.7 × at 28×28, 0.5 × at 64×64, 0.2 × at 224×224 (benchmarks/png_speed.py).
    """
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, compress_type=_RUN_LENGTHS)
    return file.getvalue()


def encode_alike(images: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return the PNG file of each image, uint8 [n, height, width, 1 or 3].

    Small images are filtered together: at 28×28 `encode` takes 1.37 × the CPU time, for files of the same size. Larger
    images are given to `encode`, because filtering them here takes as long and makes larger files (64×64: 7 %; measured
    by benchmarks/png_speed.py). Each row gets the filter among None, Sub and Up that leaves the smallest sum of
    differences, as the specification suggests (12.8, filter selection).
    """
    count, height, width, channels = images.shape
    if images[0:1].size > _SMALL_BYTES:
        return [encode(Image.fromarray(image if channels == 3 else image[:, :, 0])) for image in images]
    plain = images.reshape(count, height, width * channels)
    left, up = plain.copy(), plain.copy()
    left[:, :, channels:] -= plain[:, :, :-channels]
    up[:, 1:] -= plain[:, :-1]
    filtered = np.stack([plain, left, up])
    # As signed differences, so that 255 is 1.
    sums = np.minimum(filtered, 0 - filtered).sum(-1, dtype=np.uint32)
    chosen = sums.argmin(0)
    rows = np.empty((count, height, 1 + width * channels), np.uint8)
    rows[:, :, 0] = chosen
    np.choose(chosen[:, :, None], filtered, out=rows[:, :, 1:])
    return [_file((width, height), channels, _packed(image)) for image in rows]


def _packed(rows: npt.NDArray[np.uint8]) -> bytes:
    stream = zlib.compressobj(1, strategy=_RUN_LENGTHS)
    return stream.compress(rows.data) + stream.flush()


def _file(size: tuple[int, int], channels: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return _HEAD[:8] + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _END


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


_END = _chunk(b"IEND", b"")
