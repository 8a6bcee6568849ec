"""Image codecs: pictures written to files in memory, with Pillow, and read again.

Pillow brings PNG, JPEG, WebP and AVIF; pillow-jxl-plugin, where it is installed, brings JPEG XL. PNG is lossless.
"""

import contextlib
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from aekit.errors import AekitError, reason
from aekit.images.decode import Pixels


@dataclass(frozen=True)
class ImageCodec:
    """A codec and the settings that Pillow is given for it."""

    name: str
    format: str
    """Pillow's name of the format."""
    qualities: tuple[int, ...]
    """Values of Pillow's setting `quality` in ascending order; empty for a lossless codec."""
    options: tuple[tuple[str, Any], ...]
    """Further settings for Pillow: (name, value)."""
    chroma: tuple[str, ...] = ()
    """Values of `subsampling` to try for colour images: full and half resolution."""

    def chromas(self, channels: int) -> tuple[str, ...]:
        """Return the values of `subsampling` to try for pictures of 1 or 3 channels; an empty text sets nothing."""
        return self.chroma if self.chroma and channels == 3 else ("",)


# libavif divides large pictures into tiles if it may use several threads. Tiles cost bytes.
CODECS = (
    ImageCodec("PNG", "PNG", (), (("optimize", True),)),
    ImageCodec("JPEG", "JPEG", tuple(range(1, 96)), (("optimize", True),), ("4:4:4", "4:2:0")),
    ImageCodec("WebP", "WEBP", tuple(range(101)), (("method", 6),)),
    ImageCodec("AVIF", "AVIF", tuple(range(100)), (("speed", 6), ("max_threads", 1)), ("4:4:4", "4:2:0")),
    ImageCodec("JPEG XL", "JXL", tuple(range(1, 100)), (("effort", 7),)),
)
BY_NAME = {codec.name: codec for codec in CODECS}


def available() -> list[ImageCodec]:
    """Return the codecs that this install can write."""
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401 -- registers itself with Pillow
    Image.init()
    return [codec for codec in CODECS if codec.format in Image.SAVE]


def as_image(picture: Pixels) -> Image.Image:
    """Return a picture uint8 [H, W, 1 or 3] as a Pillow image."""
    return Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)


def as_pixels(image: Image.Image) -> Pixels:
    """Return a Pillow image of the mode L or RGB as uint8 [H, W, 1 or 3]."""
    return np.asarray(image, np.uint8).reshape(image.height, image.width, -1)


def write(codec: ImageCodec, image: Image.Image, quality: int | None, chroma: str = "") -> bytes:
    """Return the bytes of a file that shows the image. `quality` is None for a lossless codec.

    Raises AekitError if the codec fails, as libavif does where memory is short.
    """
    options = dict(codec.options)
    if quality is not None:
        options["quality"] = quality
    if chroma:
        options["subsampling"] = chroma
    file = io.BytesIO()
    try:
        image.save(file, codec.format, **options)
    except RuntimeError as error:
        what = f"{codec.name} could not write an image of {image.width}x{image.height}"
        raise AekitError(what, found=reason(error), fix="free some memory, if there is little") from error
    return file.getvalue()


def read(codec: ImageCodec, data: bytes, mode: str) -> Image.Image:
    """Return the image in a file that `write` made, in the mode L or RGB."""
    with Image.open(io.BytesIO(data), formats=[codec.format]) as image:
        return image.convert(mode)


@lru_cache(maxsize=4096)
def header_bytes(name: str, channels: int, quality: int | None, chroma: str = "") -> int:
    """Return the size of a file of one gray pixel at the same setting: what counts as the header of a file.

    `name` is the codec's; `channels` is 1 or 3. The size includes the tables that the codec writes into every file, and
    the few bytes of the pixel.
    """
    pixel = Image.new("L" if channels == 1 else "RGB", (1, 1), "gray")
    return len(write(BY_NAME[name], pixel, quality, chroma))
