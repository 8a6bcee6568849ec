"""Decode image files to uint8 arrays: the one decoder that the trainer and the device share.

The rules, the same wherever an image is read:

- The formats of aekit.images.formats are known by their content: a JPEG called .png is read. Of an animation the first
  frame is taken. GIF and others are refused, whatever they are called. A damaged or truncated file gives no image.
- Only regular files are opened: folders (x.png/ is one), pipes, sockets and devices are refused.
- Sides may be from 1 pixel up, with MAX_PIXELS in all. A larger image is refused by its header, before decoding.
- EXIF orientation is applied; ICC profiles are not.
- Transparent pixels are laid over the geometry's background (white unless the spec says otherwise).
- 16-bit gray becomes 8-bit by v / 257, rounded; 12-bit gray by v * 255 / 4095. Of 16-bit colour the high byte is taken.
  32-bit, signed and floating-point pixels are refused, as are channels of unknown meaning.
- Colour becomes gray by ITU-R 601 luma; gray becomes RGB by repetition.
- A JPEG over twice the model's size is decoded at 1/2, 1/4 or 1/8 scale, never below twice the model's size.
- Another size is brought to height × width by Pillow's bilinear filter. It averages when it shrinks, and works in
  integers, so that its result does not depend on the machine.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from aekit.errors import ImageError, ShapeError, reason
from aekit.images.colour import PLAIN, is_gray, plain_colour
from aekit.images.formats import BY_NAME, NAMES
from aekit.images.paths import system_reason
from aekit.images.png import Packed, read_packed, unfiltered
from aekit.spec import Geometry

Pixels = npt.NDArray[np.uint8]

MAX_PIXELS = 89_478_485
"""Largest image decoded, width × height: Pillow's own warning level. Decoding takes 8 to 24 bytes a pixel (2 GB),
most for a transparent WebP."""

_EXIF_ORIENTATION = 0x0112
_STACK_BYTES = 2**20
"""Bytes of unpacked rows, about, that PngStack turns into pixels together."""
_MOST_LOADED = 2**30
"""Bytes of the largest file read into memory before it is decoded."""
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""How files are opened. With O_NONBLOCK nobody waits, should the file have become a pipe just now."""
_NO_MEMORY = "not enough memory to decode it"


def decode_file(path: str | Path, geometry: Geometry) -> tuple[Pixels, tuple[int, int]]:
    """Decode one image file.

    Returns uint8 [height, width, channels], and the file's own (width, height) after EXIF orientation, in pixels.
    Raises ImageError, which names the file, for anything that is not a whole image of a known kind.
    """
    return decode_read(path, geometry, read_packed(path, MAX_PIXELS))


def decode_read(path: str | Path, geometry: Geometry, packed: Packed | None) -> tuple[Pixels, tuple[int, int]]:
    """Decode one image file of which `packed` is what read_packed returned. Returns and raises as decode_file does."""
    if packed and (plain := packed.image()) is not None:
        return fit(plain, geometry), plain.size
    from PIL import ImageOps  # it imports much that plain PNG files do not need

    with _opened(path, load=True) as image:
        kind = BY_NAME[str(image.format)]
        kind.check(image)  # before the size: for EXIF, Pillow decodes the pixels of a PNG
        size = _upright(image, image.size)
        if kind.drafts:
            wanted = 2 * geometry.width, 2 * geometry.height
            # A gray model needs luma alone; a CMYK file must not be told to become RGB by the JPEG library.
            mode = PLAIN[geometry.channels] if image.mode in ("L", "RGB") else image.mode
            image.draft(mode, _upright(image, wanted))
        ImageOps.exif_transpose(image, in_place=True)  # in place spares a copy
        return fit(image, geometry), size


class PngStack:
    """Plain PNG files of the geometry's own size and colour, whose pixels are unpacked together.

    `take` the files, then `empty` the stack. The pixels are those that decode_file returns for each file.
    """

    def __init__(self, geometry: Geometry, images: Pixels) -> None:
        self._mode, self._size = PLAIN[geometry.channels], (geometry.width, geometry.height)
        self._images = images
        self._rows, self._places, self._bytes = list[bytes](), list[int](), 0

    def take(self, packed: Packed, place: int) -> bool:
        """Return whether the file is of this kind; if so, its pixels become the image at `place`."""
        if packed.mode != self._mode or packed.size != self._size or (rows := packed.rows()) is None:
            return False
        self._rows.append(rows)
        self._places.append(place)
        self._bytes += len(rows)
        if self._bytes > _STACK_BYTES:
            self.empty()
        return True

    def empty(self) -> None:
        """Unpack what was taken."""
        if self._rows:
            self._images[self._places] = unfiltered(self._rows, self._mode, self._size)
            self._rows, self._places, self._bytes = [], [], 0


def native_form(path: Path) -> tuple[tuple[int, int], bool]:
    """Return an image file's own (width, height) after EXIF orientation, in pixels, and whether it is of a gray kind.

    Raises ImageError if its header does not tell.
    """
    with _opened(path) as image:
        return _upright(image, image.size), is_gray(image)


@contextlib.contextmanager
def _opened(path: str | Path, *, load: bool = False) -> Iterator[ImageFile.ImageFile]:
    """Open an image by its header. Any failure, in the block too, raises an ImageError that names the file.

    With `load`, a file whose decoder would map it is read into memory first.
    """
    try:
        with _open_regular(path) as file, _open_image(file, load=load) as image:
            yield image
    except ImageError as error:
        raise ImageError(error.problem, str(path)) from error.__cause__
    except MemoryError:
        raise ImageError(_NO_MEMORY, str(path)) from None
    except Exception as error:  # Pillow's decoders raise every kind of error on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(system_reason(error), str(path)) from error
        raise ImageError(f"damaged image ({reason(error, 200)})", str(path)) from error


def _open_regular(path: str | Path) -> BinaryIO:
    """Open a file that is a regular one. Raises ImageError for others, OSError or ValueError if it can't be opened."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening some devices does something
        raise ImageError("not a regular file")
    # Pillow is given the open file, not its path: it maps uncompressed files that it opens itself.
    file = os.fdopen(os.open(path, _FLAGS), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ImageError("not a regular file")
    return file


def _open_image(file: BinaryIO, *, load: bool) -> ImageFile.ImageFile:
    """Open an image by its header. Raises ImageError for an unknown kind or over MAX_PIXELS."""
    try:
        image = Image.open(file, formats=tuple(BY_NAME))
    except Image.DecompressionBombError:
        raise ImageError(f"over {MAX_PIXELS:,} pixels, the most that is decoded") from None
    except UnidentifiedImageError as error:
        raise ImageError(_other_kind(file)) from error
    if image.size[0] * image.size[1] > MAX_PIXELS:
        raise ImageError(f"{image.size[0]}x{image.size[1]}, over {MAX_PIXELS:,} pixels, the most decoded")
    if load and BY_NAME[str(image.format)].is_mapped and os.fstat(file.fileno()).st_size <= _MOST_LOADED:
        file.seek(0)
        return Image.open(io.BytesIO(file.read()), formats=(str(image.format),))
    return image


def _upright(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Turn a (width, height) by the image's EXIF orientation. The turn is its own inverse."""
    opened_upright = BY_NAME[str(image.format)].opens_upright
    turned = not opened_upright and image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (size[1], size[0]) if turned else (size[0], size[1])


def fit(image: Image.Image, geometry: Geometry) -> Pixels:
    """Bring a Pillow image to the geometry: colour first, then size; returns uint8 [height, width, channels].

    Raises ImageError for 32-bit and floating-point pixels.
    """
    image = plain_colour(image, geometry)
    if image.size != (geometry.width, geometry.height):
        image = image.resize((geometry.width, geometry.height), Image.Resampling.BILINEAR)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(geometry.shape)


def fit_array(images: Pixels, geometry: Geometry) -> Pixels:
    """Bring uint8 images [n, h, w, c] to the geometry by the rules for files; images that fit are returned as they are.

    Raises ShapeError if the array is not uint8 with 1 or 3 channels.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ShapeError("images", expected="uint8 [n, height, width, 1 or 3]", found=f"{images.dtype} {images.shape}")
    if images.shape[1:] == geometry.shape:
        return images
    out = np.empty((len(images), *geometry.shape), np.uint8)
    for row, image in zip(out, images, strict=True):
        row[...] = fit(Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]), geometry)
    return out


def _other_kind(file: BinaryIO) -> str:
    """Say what a file is that no format accepts, as far as its first bytes tell."""
    file.seek(0)
    head = file.read(12)
    if not head:
        return "empty file"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "a TIFF of a layout that isn't read; save it as 8-bit gray or RGB"
    kinds = {"a GIF": head[:4] == b"GIF8", "a HEIF or AVIF": head[4:8] == b"ftyp", "a PDF": head[:4] == b"%PDF"}
    return ", ".join([*(kind for kind, is_it in kinds.items() if is_it), f"not a {NAMES} image"])
