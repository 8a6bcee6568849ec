"""Image codecs on the same images: the bytes that each needs for the same MSE, in files and in one mosaic.

Pillow brings JPEG, WebP and AVIF; pillow-jxl-plugin, where it is installed, brings JPEG XL. PNG is lossless. The mosaic
is one picture of many images: there the fixed cost of a file, such as its header, hardly counts.
"""

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from aekit.evaluation.metrics import mse
from aekit.images.decode import Pixels

MOSAIC_IMAGES = 400
"""Largest number of images in the mosaic."""
MOSAIC_PIXELS = 500_000
"""Largest number of pixels in the mosaic. It limits the number of large images in it."""
FILES = 32
"""Largest number of images tried as files. AVIF takes 10 ms for each, and files of similar images differ little in
size."""


@dataclass(frozen=True)
class ImageCodec:
    """A codec and the settings that Pillow is given for it."""

    name: str
    format: str
    """Pillow's name of the format."""
    qualities: tuple[int, ...]
    """Values of Pillow's setting `quality` in ascending order; empty for a lossless codec."""
    options: dict[str, Any]
    """Further settings for Pillow, by name."""
    chroma: tuple[Any, ...] = ()
    """Values of `subsampling` to try for colour images: full and half resolution."""


CODECS = (
    ImageCodec("PNG", "PNG", (), {"optimize": True}),
    ImageCodec("JPEG", "JPEG", tuple(range(1, 96)), {"optimize": True}, (0, 2)),
    ImageCodec("WebP", "WEBP", tuple(range(101)), {"method": 6}),
    ImageCodec("AVIF", "AVIF", tuple(range(100)), {"speed": 6}, ("4:4:4", "4:2:0")),
    ImageCodec("JPEG XL", "JXL", tuple(range(1, 100)), {"effort": 7}),
)


@dataclass(frozen=True)
class Coded:
    """Error and size of images that a codec wrote at one setting."""

    quality: int | None
    """Pillow's setting `quality`; None for a lossless codec."""
    mse: float
    """Mean squared error for pixels in [0, 1]."""
    bytes_per_image: float
    """Mean size of an image, in bytes."""


def available() -> list[ImageCodec]:
    """Return the codecs that this install can write."""
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401 -- registers itself with Pillow
    Image.init()
    return [codec for codec in CODECS if codec.format in Image.SAVE]


def codecs_at(images: Pixels, most_mse: float) -> dict[str, Any]:
    """Measure how many bytes each codec needs for images uint8 [n, H, W, C] at an MSE of at most `most_mse`.

    Evenly spaced images are tried, in two ways: each as a file, and all in one mosaic. Returns JSON-ready values:
    `mosaic_images` and `file_images`, the numbers of images tried; `mse`, the limit; and for each codec by its name
    `{"files": …, "mosaic": …}`: the cheapest setting within the limit, or null if no setting is within it. If even the
    coarsest setting of a codec is better than the limit, that setting is given, with its own MSE.
    """
    whole = mosaic(images)
    mosaic_images = whole.size // images[0].size
    files = _spaced(images, min(FILES, len(images)))
    sizes = {
        codec.name: {
            "files": _json_ready(cheapest(codec, files, len(files), most_mse)),
            "mosaic": _json_ready(cheapest(codec, whole[None], mosaic_images, most_mse)),
        }
        for codec in available()
    }
    return {"mosaic_images": mosaic_images, "file_images": len(files), "mse": most_mse, **sizes}


def _json_ready(coded: Coded | None) -> dict[str, Any] | None:
    return asdict(coded) if coded else None


def cheapest(codec: ImageCodec, pictures: Pixels, count: int, most_mse: float) -> Coded | None:
    """Find the setting with the fewest bytes whose MSE is at most `most_mse`; None if no setting is good enough.

    `pictures` is uint8 [n, H, W, C]. `count` is the number of images that they show, by which the bytes are divided.
    """
    if not codec.qualities:
        return write_and_read(codec, pictures, count, None)
    fits = []
    for chroma in codec.chroma if pictures.shape[3] == 3 and codec.chroma else (None,):

        def at(quality: int, chroma: Any = chroma) -> Coded:
            return write_and_read(codec, pictures, count, quality, chroma)

        coarsest = _lowest(at, codec.qualities, most_mse)
        if coarsest:
            fits.append(coarsest)
    return min(fits, key=lambda coded: coded.bytes_per_image, default=None)


def write_and_read(codec: ImageCodec, pictures: Pixels, count: int, quality: int | None, chroma: Any = None) -> Coded:
    """Write pictures uint8 [n, H, W, C] to files in memory, read them back, and measure error and size.

    `count` is the number of images that the pictures show, by which the bytes are divided.
    """
    options = dict(codec.options)
    if quality is not None:
        options["quality"] = quality
    if chroma is not None:
        options["subsampling"] = chroma
    size, decoded = 0, np.empty_like(pictures)
    for picture, back in zip(pictures, decoded, strict=True):
        file, gray = io.BytesIO(), picture.shape[2] == 1
        Image.fromarray(picture[:, :, 0] if gray else picture).save(file, codec.format, **options)
        size += file.tell()
        with Image.open(file, formats=[codec.format]) as image:
            back[...] = np.asarray(image.convert("L" if gray else "RGB")).reshape(picture.shape)
    return Coded(quality, mse(pictures, decoded), size / count)


def mosaic(images: Pixels, most: int = MOSAIC_IMAGES, most_pixels: int = MOSAIC_PIXELS) -> Pixels:
    """Arrange k·k evenly spaced images in one picture, uint8 [k·H, k·W, C], for the largest k within the limits."""
    count, height, width, channels = images.shape
    side = max(1, math.isqrt(min(count, most, most_pixels // (height * width))))
    tiles = _spaced(images, side * side).reshape(side, side, height, width, channels)
    return tiles.swapaxes(1, 2).reshape(side * height, side * width, channels)


def _lowest(at: Callable[[int], Coded], qualities: Sequence[int], most_mse: float) -> Coded | None:
    """Find the coarsest quality whose MSE is at most `most_mse`. Bisection: a finer quality has a smaller error."""
    low, high, best = 0, len(qualities) - 1, None
    while low <= high:
        middle = (low + high) // 2
        coded = at(qualities[middle])
        if coded.mse <= most_mse:
            best, high = coded, middle - 1
        else:
            low = middle + 1
    return best


def _spaced(images: Pixels, count: int) -> Pixels:
    return images[np.linspace(0, len(images) - 1, count).astype(int)]
