"""Bring the pixels of an opened image to 8-bit gray or RGB, whatever mode Pillow gives them."""

import numpy as np
from PIL import Image

from aekit.errors import ImageError
from aekit.images.layouts import gray_scale
from aekit.spec import Geometry, GridGeometry

PLAIN = {1: "L", 3: "RGB"}
"""Pillow's mode of an image, by its number of channels."""
_PIECE = 2**20
"""Pixels of 16-bit images converted at a time. All at once would take eight times the image's size."""


def plain_colour(image: Image.Image, geometry: Geometry | GridGeometry) -> Image.Image:
    """Return the image in mode L or RGB, as the geometry asks.

    Raises ImageError for 32-bit and floating-point pixels.
    """
    if image.mode.startswith("I;16"):
        image = _eight_bit(image)
    if image.mode == "I":
        raise ImageError("32-bit pixels; save it as 8 or 16 bits")
    if image.mode == "F":
        raise ImageError("floating-point pixels; save it as 8 or 16 bits")
    if image.mode == "La":  # Pillow converts it to LA alone
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (geometry.background,) * 3 + (255,)), image)
    mode = PLAIN[geometry.channels]
    return image if image.mode == mode else image.convert(mode)


def is_gray(image: Image.Image) -> bool:
    """Whether an opened image is of a gray kind. A gray picture stored as RGB counts as RGB."""
    if image.mode == "P":
        palette = image.getpalette() or []
        return all(palette[i] == palette[i + 1] == palette[i + 2] for i in range(0, len(palette) - 2, 3))
    return image.mode in ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray so that white becomes 255: by 1/257 for 16 bits, by 255/4095 for 12 bits, rounded."""
    levels = np.asarray(image)
    white, inverted = gray_scale(image)
    gray = np.empty(levels.shape, np.uint8)
    flat, out = levels.reshape(-1), gray.reshape(-1)
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE].astype(np.uint32)
        out[start : start + _PIECE] = (255 * piece + white // 2) // white
    if inverted:
        np.subtract(255, gray, out=gray)
    clear = image.info.get("transparency")
    if clear is None:
        return Image.fromarray(gray)
    # A PNG names one of 65,536 levels as transparent. After scaling it can't be told from its neighbours.
    alpha = np.where(levels == clear, np.uint8(0), np.uint8(255))
    return Image.merge("LA", (Image.fromarray(gray), Image.fromarray(alpha)))
