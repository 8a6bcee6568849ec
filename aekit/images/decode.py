"""Find image files and decode them to uint8 arrays: the one decoder that the trainer and the device share.

The rules, the same wherever an image is read:

- PNG, JPEG, WebP, BMP and TIFF, known by their content (a JPEG called .png is read); of an animation the first frame.
  GIF and others are refused, whatever they are called, and a damaged or truncated file gives no image at all.
- Found in a folder are regular files with such a suffix, of any other name that the file system holds: spaces, line
  ends, bytes that are not UTF-8, 255 of them. Folders (x.png/ is one), pipes, sockets and devices are never opened; a
  linked folder is entered once, so that a loop of links ends.
- Sides from 1 pixel up, MAX_PIXELS in all: more is refused by the header, before a pixel is decoded.
- EXIF orientation is applied; ICC profiles are not.
- Transparent pixels are laid over the geometry's background (white unless the spec says otherwise).
- 16-bit gray becomes 8-bit by v / 257, rounded; 32-bit and floating-point pixels are refused.
- Colour becomes gray by ITU-R 601 luma; gray becomes RGB by repetition.
- A JPEG over twice the model's size is decoded at 1/2, 1/4 or 1/8 scale, never below twice the model's size.
- Another size is brought to height × width by Pillow's bilinear filter, which averages when it shrinks and works in
  integers, so that its result does not depend on the machine.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from aekit.errors import ImageError, ShapeError, SourceError
from aekit.images.png import Packed, read_packed, unfiltered
from aekit.spec import Geometry

Pixels = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
MAX_PIXELS = 89_478_485
"""Largest image decoded, width × height: Pillow's own warning level. Decoding takes 8 to 24 bytes a pixel (2 GB),
most for a transparent WebP."""

_EXIF_ORIENTATION = 0x0112
_STACK_BYTES = 2**20
"""Pixels unpacked together, about."""
_PIECE = 2**20
"""Pixels converted at a time."""
_PLAIN = {1: "L", 3: "RGB"}


def find_images(folder: Path) -> list[str]:
    """Paths of the image files below `folder`, relative to it, with forward slashes, in sorted order.

    A file counts by its suffix and by being a regular file: sockets, pipes and devices are never opened. A link to a
    file counts as the file; a linked folder is followed once, so that a loop of links ends.

    Raises SourceError if the folder is missing or holds no image.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise SourceError(str(folder), expected="a folder of images", found=found)
    paths = sorted(_walk(str(folder), "", set()))
    if not paths:
        kinds = " ".join(sorted(SUFFIXES))
        raise SourceError(str(folder), expected=f"images ({kinds}) in it or below", found="none")
    return paths


def _walk(folder: str, prefix: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    here = os.stat(folder)
    if (here.st_dev, here.st_ino) in seen:
        return
    seen.add((here.st_dev, here.st_ino))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(folder, expected="a readable folder", found=error.strerror or str(error)) from error
    for entry in entries:
        # What the folder itself says is asked first: a call to the system for each of 100,000 files takes long.
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:
            is_folder = is_file = False
        if is_folder:
            yield from _walk(entry.path, f"{prefix}{entry.name}/", seen)
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and (is_file or _is_lost(entry)):
            yield prefix + entry.name


def _is_lost(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a link that leads nowhere: it is listed, so that reading it reports the failure."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def decode_file(path: str | Path, geometry: Geometry) -> tuple[Pixels, tuple[int, int]]:
    """One image file as uint8 [height, width, channels], and its own (width, height) after EXIF orientation, pixels.

    Raises ImageError, which names the file, for anything that is not a whole image of a known kind.
    """
    return decode_read(path, geometry, read_packed(path, MAX_PIXELS))


def decode_read(path: str | Path, geometry: Geometry, packed: Packed | None) -> tuple[Pixels, tuple[int, int]]:
    """The same for a file of which `packed` is what read_packed gave."""
    if packed and (plain := packed.image()) is not None:
        return fit(plain, geometry), plain.size
    from PIL import ImageOps  # with much that plain PNG files need nothing of

    with _reading(path) as image:
        size = _upright(image, image.size)
        if image.format == "JPEG":
            wanted = 2 * geometry.width, 2 * geometry.height
            # A gray model needs luma alone; a CMYK file must not be told to become RGB by the JPEG library.
            mode = _PLAIN[geometry.channels] if image.mode in ("L", "RGB") else image.mode
            image.draft(mode, _upright(image, wanted))
        ImageOps.exif_transpose(image, in_place=True)  # which spares a copy
        return fit(image, geometry), size


class PngStack:
    """Plain PNG files of just the geometry, whose pixels are unpacked together: `take` them, then `empty` the stack.

    What they come to is what decode_file makes of each.
    """

    def __init__(self, geometry: Geometry, images: Pixels) -> None:
        self._mode, self._size = _PLAIN[geometry.channels], (geometry.width, geometry.height)
        self._images = images
        self._rows, self._places, self._bytes = list[bytes](), list[int](), 0

    def take(self, packed: Packed, place: int) -> bool:
        """Whether the file is such a one; its pixels will be those of the image at `place`."""
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
    """An image file's own (width, height) after EXIF orientation, pixels, and whether it is of a gray kind.

    Raises ImageError if its header does not tell.
    """
    with _reading(path) as image:
        return _upright(image, image.size), is_gray(image)


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[Image.Image]:
    """An opened image, whatever goes wrong with which is an ImageError that names the file."""
    with open_image(path) as image:
        try:
            yield image
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from None
        except Exception as error:  # Pillow's decoders raise every kind of error on damaged bytes
            raise ImageError(f"{path}: {_reason(error)}") from error


def _upright(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """A (width, height) turned by the image's EXIF orientation, either way: the turn is its own inverse."""
    # Pillow turns a TIFF's size itself, when it opens it.
    turned = image.format != "TIFF" and image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (size[1], size[0]) if turned else (size[0], size[1])


def open_image(path: str | Path) -> Image.Image:
    """Open an image file by its header, without decoding its pixels.

    Raises ImageError if it is unreadable, no regular file, empty, of an unknown kind or larger than MAX_PIXELS.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise ImageError(f"{path}: not a regular file")
        image = Image.open(path, formats=FORMATS)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: over {MAX_PIXELS:,} pixels, the most that is decoded") from None
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: {_other_kind(path)}") from error
    except Exception as error:  # as above: a damaged header raises anything
        reason = error.strerror if isinstance(error, OSError) and error.errno is not None else None
        raise ImageError(f"{path}: {reason or _reason(error)}") from error
    if image.size[0] * image.size[1] > MAX_PIXELS:
        image.close()
        raise ImageError(f"{path}: {image.size[0]}x{image.size[1]}, over {MAX_PIXELS:,} pixels, the most decoded")
    return image


def fit(image: Image.Image, geometry: Geometry) -> Pixels:
    """Bring a Pillow image to the geometry: colour first, then size; uint8 [height, width, channels]."""
    image = _plain_colour(image, geometry)
    if image.size != (geometry.width, geometry.height):
        image = image.resize((geometry.width, geometry.height), Image.Resampling.BILINEAR)
    return np.frombuffer(image.tobytes(), np.uint8).reshape(geometry.shape)


def fit_array(images: Pixels, geometry: Geometry) -> Pixels:
    """Bring uint8 images [n, h, w, c] to the geometry by the rules for files; returned as it is where it fits already.

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


def is_gray(image: Image.Image) -> bool:
    """Whether an opened image is of a gray kind (a gray picture stored as RGB counts as RGB)."""
    if image.mode == "P":
        palette = image.getpalette() or []
        return all(palette[i] == palette[i + 1] == palette[i + 2] for i in range(0, len(palette) - 2, 3))
    return image.mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")


def _plain_colour(image: Image.Image, geometry: Geometry) -> Image.Image:
    """Mode L or RGB, as the geometry asks, from any mode that holds a picture."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = _eight_bit(image)
    if image.mode == "F":
        raise ImageError("floating-point pixels; save it as 8 or 16 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (geometry.background,) * 3 + (255,)), image)
    mode = _PLAIN[geometry.channels]
    return image if image.mode == mode else image.convert(mode)


def _eight_bit(image: Image.Image) -> Image.Image:
    levels = np.asarray(image)
    if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) <= 65535:
        raise ImageError("32-bit pixels; save it as 8 or 16 bits")
    gray = np.empty(levels.shape, np.uint8)
    flat, out = levels.reshape(-1), gray.reshape(-1)
    for start in range(0, flat.size, _PIECE):  # whole, the sums of a large image would take eight times its size
        out[start : start + _PIECE] = (flat[start : start + _PIECE].astype(np.uint32) + 128) // 257
    clear = image.info.get("transparency")
    if clear is None:
        return Image.fromarray(gray)
    # The level that a PNG names as transparent is one of the 65,536: afterwards it can't be told from its neighbours.
    alpha = np.where(levels == clear, np.uint8(0), np.uint8(255))
    return Image.merge("LA", (Image.fromarray(gray), Image.fromarray(alpha)))


def _other_kind(path: str | Path) -> str:
    """What a file is that none of the formats takes, as far as its first bytes tell."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        return error.strerror or str(error)
    if not head:
        return "empty file"
    kinds = {"a GIF": head[:4] == b"GIF8", "a HEIF or AVIF": head[4:8] == b"ftyp", "a PDF": head[:4] == b"%PDF"}
    found = [kind for kind, is_it in kinds.items() if is_it]
    return ", ".join([*found, f"not a {', '.join(FORMATS)} image"])


def _reason(error: BaseException) -> str:
    text = str(error).split("\n")[0][:200]
    return f"damaged image ({text or type(error).__name__})"
