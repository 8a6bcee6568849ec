"""Open image files safely, by their headers: what is not an image, damaged or too large becomes an ImageError.

Only regular files are opened, and only the formats of aekit.images.formats, which are known by their content.
"""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from aekit.errors import ImageError, reason
from aekit.images.colour import is_gray
from aekit.images.formats import BY_NAME, NAMES
from aekit.images.paths import system_reason

MAX_PIXELS = 89_478_485
"""Largest image decoded, width × height: Pillow's own warning level. Decoding takes 8 to 24 bytes a pixel (2 GB),
most for a transparent WebP."""

_EXIF_ORIENTATION = 0x0112
_MOST_LOADED = 2**30
"""Bytes of the largest file read into memory before it is decoded."""
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
"""How files are opened. With O_NONBLOCK nobody waits, should the file have become a pipe just now."""
_NO_MEMORY = "not enough memory to decode it"


def native_form(path: Path) -> tuple[tuple[int, int], bool]:
    """Return an image file's own (width, height) after EXIF orientation, in pixels, and whether it is of a gray kind.

    Raises ImageError if its header does not tell.
    """
    with opened(path) as image:
        return upright(image, image.size), is_gray(image)


@contextlib.contextmanager
def opened(path: str | Path, *, load: bool = False) -> Iterator[ImageFile.ImageFile]:
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


def upright(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Turn a (width, height) by the image's EXIF orientation. The turn is its own inverse."""
    openedupright = BY_NAME[str(image.format)].opens_upright
    turned = not openedupright and image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (size[1], size[0]) if turned else (size[0], size[1])


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
