"""General codecs on the same images: the bytes each needs for the same MSE, one file an image and all in one mosaic.

JPEG, WebP and AVIF come with Pillow, JPEG XL with pillow-jxl-plugin where that is installed; PNG is lossless. The
mosaic is one picture of many images, so that what a file costs in itself does not count.
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
"""Images of the mosaic, at most; fewer where they come to more than MOSAIC_PIXELS."""
MOSAIC_PIXELS = 500_000
FILES = 32
"""Images tried as one file each: enough, as files of a kind differ little in size, and AVIF takes 10 ms for one."""


@dataclass(frozen=True)
class ImageCodec:
    """A codec as Pillow writes it."""

    name: str
    format: str
    """Pillow's name."""
    qualities: tuple[int, ...]
    """Settings of `quality` in ascending order; none for a lossless one."""
    options: dict[str, Any]
    """Others of Pillow's settings."""
    chroma: tuple[Any, ...] = ()
    """Settings of `subsampling` worth trying for colour images: full and half resolution."""


CODECS = (
    ImageCodec("PNG", "PNG", (), {"optimize": True}),
    ImageCodec("JPEG", "JPEG", tuple(range(1, 96)), {"optimize": True}, (0, 2)),
    ImageCodec("WebP", "WEBP", tuple(range(101)), {"method": 6}),
    ImageCodec("AVIF", "AVIF", tuple(range(100)), {"speed": 6}, ("4:4:4", "4:2:0")),
    ImageCodec("JPEG XL", "JXL", tuple(range(1, 100)), {"effort": 7}),
)


@dataclass(frozen=True)
class Coded:
    """What images came to under a codec at one setting."""

    quality: int | None
    """None for a lossless codec."""
    mse: float
    """Pixels in [0, 1]."""
    bytes_per_image: float


def available() -> list[ImageCodec]:
    """The codecs that this install can write."""
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401 -- registers itself with Pillow
    Image.init()
    return [codec for codec in CODECS if codec.format in Image.SAVE]


def codecs_at(images: Pixels, most_mse: float) -> dict[str, Any]:
    """What each codec needs for images uint8 [n, H, W, C] at an MSE of at most `most_mse`; JSON-ready.

    It is tried on evenly spaced ones of them, as many as `mosaic_images` and `file_images` say. For each codec, `files`
    and `mosaic` hold the cheapest setting that is good enough, or else null. Where the coarsest setting is still better
    than asked for, that is what stands there, with its own MSE.
    """
    square = mosaic(images)
    files = _spaced(images, min(FILES, len(images)))
    tried: dict[str, Any] = {"mosaic_images": square.size // images[0].size, "file_images": len(files), "mse": most_mse}
    for codec in available():
        ways = {"files": files, "mosaic": square[None]}
        found = {
            way: cheapest(codec, pictures, tried[f"{way.removesuffix('s')}_images"], most_mse)
            for way, pictures in ways.items()
        }
        tried[codec.name] = {way: asdict(coded) if coded else None for way, coded in found.items()}
    return tried


def cheapest(codec: ImageCodec, pictures: Pixels, count: int, most_mse: float) -> Coded | None:
    """The smallest that `pictures` uint8 [n, H, W, C], of `count` images in all, come to at an MSE of at most
    `most_mse`; None if no setting is good enough."""
    if not codec.qualities:
        return code(codec, pictures, count, None)
    fits = []
    for chroma in codec.chroma if pictures.shape[3] == 3 and codec.chroma else (None,):

        def at(quality: int, chroma: Any = chroma) -> Coded:
            return code(codec, pictures, count, quality, chroma)

        found = _lowest(at, codec.qualities, most_mse)
        if found:
            fits.append(found)
    return min(fits, key=lambda coded: coded.bytes_per_image, default=None)


def code(codec: ImageCodec, pictures: Pixels, count: int, quality: int | None, chroma: Any = None) -> Coded:
    """Write pictures uint8 [n, H, W, C], each to a file in memory, and read them again."""
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
    """One picture uint8 [k·H, k·W, C] of k·k evenly spaced images, as many as fit `most` and `most_pixels`."""
    count, height, width, channels = images.shape
    side = max(1, math.isqrt(min(count, most, most_pixels // (height * width))))
    tiles = _spaced(images, side * side).reshape(side, side, height, width, channels)
    return tiles.swapaxes(1, 2).reshape(side * height, side * width, channels)


def _lowest(at: Callable[[int], Coded], qualities: Sequence[int], most_mse: float) -> Coded | None:
    """The coarsest quality whose MSE is at most `most_mse`, by bisection: finer settings have less error."""
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
