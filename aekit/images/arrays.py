"""Read arrays of images from files: .npy and .npz of numpy, and idx, the format of MNIST."""

import gzip
import io
import math
import mmap
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aekit.errors import SourceError, reason
from aekit.images.decode import Pixels
from aekit.images.paths import FILE, kind_of


def load_images(path: Path) -> Pixels:
    """Return the images of an .npy or .npz file, uint8 [n, height, width, channels].

    The file holds an array [n, height, width] or [n, height, width, 1 or 3]. Its numbers are uint8, bool (read as 0 and
    255), uint16 (divided by 257) or floats from 0 to 1 (multiplied by 255). An .npz holds one array, or one that is
    called `images` among others. A uint8 array in an .npy file is mapped: it takes no memory until it is used.

    Raises SourceError if the file is missing or damaged, or holds anything else, such as NaN.
    """
    _check_file(path, "an array saved by numpy")
    return _as_images(str(path), _load_array(path))


def read_rows(array: npt.NDArray[Any], start: int, stop: int, name: str) -> npt.NDArray[Any]:
    """Return the rows from start to stop - 1 of an array [n, …]. Rows of a mapped file are read from the file.

    If another program makes the file shorter, an access to the map's lost pages kills the process (SIGBUS). A read of
    the file fails without harm. Raises SourceError, which names `name`, if the file does not hold the rows any more.
    """
    rows = array[start:stop]
    if not isinstance(array, np.memmap) or not rows.size or not rows.flags.c_contiguous or array.filename is None:
        return rows
    mapped: Any = array
    within = rows.__array_interface__["data"][0] - np.frombuffer(mapped._mmap, np.uint8).__array_interface__["data"][0]
    offset = mapped.offset - mapped.offset % mmap.ALLOCATIONGRANULARITY + within
    try:
        with open(array.filename, "rb", buffering=0) as file:
            file.seek(offset)
            read = np.fromfile(file, array.dtype, rows.size)
    except OSError as error:
        raise SourceError(name, expected=f"rows {start:,} to {stop - 1:,}", found=reason(error)) from error
    if read.size != rows.size:
        found = f"{offset + read.nbytes:,} bytes; the file was cut short while it was read"
        raise SourceError(name, expected=f"at least {offset + rows.nbytes:,} bytes", found=found)
    return read.reshape(rows.shape)


def _check_file(path: Path, expected: str) -> None:
    """Raise SourceError unless `path` is a file. Opening a pipe would wait for ever."""
    if (kind := kind_of(path)) != FILE:
        raise SourceError(str(path)[:300], expected=expected, found=kind)


def _load_array(path: Path) -> npt.NDArray[Any]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded if loaded.flags.c_contiguous else np.load(path, allow_pickle=False)
        with loaded:
            names = loaded.files
            if len(names) != 1 and "images" not in names:
                raise SourceError(
                    str(path), expected="one array, or one called 'images'", found=", ".join(names) or "no array"
                )
            return np.asarray(loaded["images" if "images" in names else names[0]])
    except SourceError:
        raise
    except Exception as error:  # numpy, zipfile, zlib and tokenize raise every kind of error on damaged bytes
        raise SourceError(str(path), expected="an array saved by numpy", found=reason(error)) from error


def _as_images(name: str, array: npt.NDArray[Any]) -> Pixels:
    """Return an array of any accepted shape and type as uint8 [n, height, width, channels]; see load_images."""
    if array.ndim == 3 and array.shape[2] in (3, 4) and array.size:
        raise SourceError(
            name,
            expected="an array [n, height, width] or [n, height, width, 1 or 3]",
            found=f"shape {array.shape}, one colour image or {array.shape[0]:,} gray ones",
            fix="save array[None] if it is one colour image, array[..., None] if it is gray images",
        )
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        raise SourceError(
            name,
            expected="an array [n, height, width] or [n, height, width, 1 or 3]",
            found=f"shape {array.shape if array.shape[-1:] != (1,) else array.shape[:-1]}",
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if np.isnan(low) or np.isnan(high):
            raise SourceError(name, expected="numbers", found="NaN", fix="remove or replace those pixels")
        if low < 0 or high > 1:
            raise SourceError(
                name,
                expected="floats from 0 to 1, or uint8",
                found=f"{array.dtype} from {low:g} to {high:g}",
                fix="scale them, or convert to uint8",
            )
        return np.rint(array * 255).astype(np.uint8)
    raise SourceError(name, expected="uint8, uint16, bool or floats from 0 to 1", found=str(array.dtype))


def read_idx(path: Path) -> Pixels:
    """Return the images of an idx file (the MNIST format), plain or gzip: uint8 [n, height, width, channels].

    The format is: two zero bytes, a type byte (8 for unsigned bytes), the number of dimensions, each dimension as a
    big-endian uint32, then the values (LeCun, the MNIST database page). A plain file is mapped.

    Raises SourceError if the file is missing, is not idx, is cut short, or holds no images.
    """
    expected = "an idx file of unsigned bytes in 3 dimensions (or 4: channels last)"
    _check_file(path, expected)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08" or head[3] not in (3, 4):
                raise SourceError(str(path), expected=expected, found=f"a file that starts with {head.hex(' ')}")
            shape = struct.unpack(f">{head[3]}I", file.read(4 * head[3]))
            count = math.prod(shape)
            # At most one byte too many: a small file may unpack to any size.
            data = _read_up_to(file, count + 1) if packed else b""
    except (OSError, EOFError, struct.error, zlib.error, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(str(path), expected=expected, found=reason(error)) from error
    offset = 4 + 4 * head[3]
    size = len(data) if packed else path.stat().st_size - offset
    if size != count or count == 0:
        raise SourceError(str(path), expected=f"{count:,} bytes of pixels {shape}", found=f"{size:,}")
    flat = np.frombuffer(data, np.uint8) if packed else np.memmap(path, np.uint8, "r", offset)
    # In this format three dimensions are always gray images, even if the last one is 3.
    return _as_images(str(path), flat.reshape(shape if len(shape) == 4 else (*shape, 1)))


def _read_up_to(file: io.BufferedIOBase, most: int) -> bytearray:
    """Return the next `most` bytes of a file, or fewer if it ends. Memory is taken only for bytes that are there."""
    data = bytearray()
    while piece := file.read(min(2**20, most - len(data))):
        data += piece
    return data
