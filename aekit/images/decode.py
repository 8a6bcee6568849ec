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
- A model of grid codes takes a picture at its own size (`picture_for_grid`). Only a side over the model's `max_side` is
  shrunk, by Pillow's Lanczos filter, which works in integers too.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from aekit.errors import ImageError, ShapeError
from aekit.images.colour import PLAIN, plain_colour
from aekit.images.formats import BY_NAME
from aekit.images.opening import MAX_PIXELS, opened, upright
from aekit.images.png import Packed, read_packed, unfiltered
from aekit.spec import MAX_PICTURE_SIDE, Geometry, GridGeometry

Pixels = npt.NDArray[np.uint8]

_STACK_BYTES = 2**20
"""Bytes of unpacked rows, about, that PngStack turns into pixels together."""
_STRIP_PIXELS = 2**16
"""Pixels of a picture of any size that are brought to the model's colour together: so few fit into a cache.
All at once take 3.6 × the time, for 12 megapixels."""


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
    with opened(path, load=True) as image:
        size = _turned(image, geometry.channels, (geometry.width, geometry.height))
        return fit(image, geometry), size


def picture_for_grid(path: str | Path, geometry: GridGeometry) -> tuple[Pixels, tuple[int, int]]:
    """Decode one image file at its own size, for a model of grid codes. Training and the device use the same rule.

    A picture with a side over the geometry's `max_side` is shrunk to it by Pillow's Lanczos filter. A JPEG over twice
    that size is decoded at 1/2, 1/4 or 1/8 scale first.

    Returns uint8 [H, W, channels], and the file's own (width, height) after EXIF orientation, in pixels.
    Raises ImageError, which names the file, for anything that is not a whole image of a known kind, or is too large.
    """
    packed = read_packed(path, MAX_PIXELS)
    if packed and max(packed.size) <= MAX_PICTURE_SIDE and (plain := packed.image()) is not None:
        return fit_picture(plain, geometry, geometry.fitted(plain.height, plain.width)), plain.size
    with opened(path, load=True) as image:
        width, height = upright(image, image.size)
        fitted = geometry.fitted(height, width)
        if max(fitted) > MAX_PICTURE_SIDE:
            raise ImageError(f"{width}x{height}, a side over {MAX_PICTURE_SIDE:,} pixels, the longest encoded")
        size = _turned(image, geometry.channels, fitted[::-1])
        return fit_picture(image, geometry, fitted), size


def _turned(image: ImageFile.ImageFile, channels: int, wanted: tuple[int, int]) -> tuple[int, int]:
    """Check an opened image, and turn it by its EXIF orientation; return its own (width, height) after that.

    A JPEG over twice the `wanted` (width, height) is decoded at a smaller scale.
    """
    from PIL import ImageOps  # it imports much that plain PNG files do not need

    kind = BY_NAME[str(image.format)]
    kind.check(image)  # before the size: for EXIF, Pillow decodes the pixels of a PNG
    size = upright(image, image.size)
    if kind.drafts:
        # A gray model needs luma alone; a CMYK file must not be told to become RGB by the JPEG library.
        mode = PLAIN[channels] if image.mode in ("L", "RGB") else image.mode
        image.draft(mode, upright(image, (2 * wanted[0], 2 * wanted[1])))
    ImageOps.exif_transpose(image, in_place=True)  # in place spares a copy
    return size


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


def fit(image: Image.Image, geometry: Geometry) -> Pixels:
    """Bring a Pillow image to the geometry: colour first, then size; returns uint8 [height, width, channels].

    Raises ImageError for 32-bit and floating-point pixels.
    """
    image = plain_colour(image, geometry)
    if image.size != (geometry.width, geometry.height):
        image = image.resize((geometry.width, geometry.height), Image.Resampling.BILINEAR)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(geometry.shape)


def fit_picture(image: Image.Image, geometry: GridGeometry, size: tuple[int, int]) -> Pixels:
    """Bring a Pillow image to a grid model's colour and to `size`, the (height, width) of `GridGeometry.fitted`.

    Returns uint8 [height, width, channels]. Raises ImageError for 32-bit and floating-point pixels.
    """
    height, width = size
    if image.size != (width, height):
        image = plain_colour(image, geometry).resize((width, height), Image.Resampling.LANCZOS)
    elif image.mode.startswith("I;16"):  # whole: a strip does not know the white level of its file
        image = plain_colour(image, geometry)
    out = np.empty((height, width, geometry.channels), np.uint8)
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        pixels = np.frombuffer(plain_colour(strip, geometry).tobytes(), np.uint8)
        out[top:bottom] = pixels.reshape(bottom - top, width, geometry.channels)
    return out


def fit_array(images: Pixels, geometry: Geometry) -> Pixels:
    """Bring uint8 images [n, h, w, c] to the geometry by the rules for files; images that fit are returned as they are.

    Raises ShapeError if the array is not uint8 with 1 or 3 channels.
    """
    _check_images(images)
    if images.shape[1:] == geometry.shape:
        return images
    out = np.empty((len(images), *geometry.shape), np.uint8)
    for row, image in zip(out, images, strict=True):
        row[...] = fit(_as_image(image), geometry)
    return out


def fit_pictures(images: Pixels, geometry: GridGeometry) -> list[Pixels]:
    """Bring uint8 images [n, h, w, c] to a grid model by the rules for files; images that fit are not copied.

    Returns n pictures uint8 [H, W, channels]. Raises ShapeError if the array is not uint8 with 1 or 3 channels.
    """
    _check_images(images)
    height, width, channels = images.shape[1:]
    size = geometry.fitted(height, width)
    if (size, geometry.channels) == ((height, width), channels):
        return list(images)
    return [fit_picture(_as_image(image), geometry, size) for image in images]


def _check_images(images: Pixels) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ShapeError("images", expected="uint8 [n, height, width, 1 or 3]", found=f"{images.dtype} {images.shape}")


def _as_image(image: Pixels) -> Image.Image:
    return Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
