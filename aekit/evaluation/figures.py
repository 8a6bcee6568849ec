"""Pictures of reconstructions, drawn with Pillow, which a device has."""

from pathlib import Path

import numpy as np
from PIL import Image

from aekit.errors import OptionError
from aekit.images.decode import Pixels
from aekit.images.opening import MAX_PIXELS
from aekit.spec import Geometry

_GAP = 2
"""Width of the gaps between images, in pixels."""
_LEAST_SIDE = 64
"""Least length of an image's longer side in a picture, in pixels. Smaller images are enlarged by a whole factor."""


def grid(rows: list[Pixels]) -> Image.Image:
    """Draw rows of images, each row uint8 [k, H, W, C], with white gaps. No row is longer than the first."""
    count, height, width, channels = rows[0].shape
    scale = _scale(height, width)
    step_y, step_x = height * scale + _GAP, width * scale + _GAP
    canvas = np.full((len(rows) * step_y + _GAP, count * step_x + _GAP, channels), 255, np.uint8)
    for r, images in enumerate(rows):
        for c, image in enumerate(images):
            y, x = _GAP + r * step_y, _GAP + c * step_x
            large = image.repeat(scale, axis=0).repeat(scale, axis=1)
            canvas[y : y + height * scale, x : x + width * scale] = large
    return Image.fromarray(canvas if channels == 3 else canvas[:, :, 0])


def check_grid(rows: int, columns: int, geometry: Geometry) -> None:
    """Raise OptionError if a grid of `rows` × `columns` images would be a larger picture than aekit itself reads."""
    scale = _scale(geometry.height, geometry.width)
    cell = (geometry.height * scale + _GAP) * (geometry.width * scale + _GAP)
    if rows * columns * cell > MAX_PIXELS:
        raise OptionError(
            "--n", expected=f"a picture of at most {MAX_PIXELS // cell:,} images", found=f"{rows} x {columns}"
        )


def _scale(height: int, width: int) -> int:
    return max(1, -(-_LEAST_SIDE // max(height, width)))


def save_reconstructions(path: Path, images: Pixels, reconstructions: Pixels) -> None:
    """Write a PNG of images above their reconstructions; both uint8 [n, H, W, C]."""
    grid([images, reconstructions]).save(path, "PNG")
