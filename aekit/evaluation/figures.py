"""Pictures of reconstructions, drawn with Pillow, which a device has."""

from collections.abc import Sequence
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
_MOST_SIDE = 512
"""Longest side, in pixels, of a picture of any size that is shown. Of a larger one the middle is shown, not shrunk, so
that errors stay visible."""


def grid(rows: Sequence[Pixels | Sequence[Pixels]]) -> Image.Image:
    """Draw rows of images of one size, uint8 [k, H, W, C] each, with white gaps. No row is longer than the first."""
    count, (height, width, channels) = len(rows[0]), rows[0][0].shape
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


def on_canvas(images: Sequence[Pixels]) -> list[Pixels]:
    """Bring pictures uint8 [H, W, C] of any sizes to one size: each in the middle of a white canvas.

    Of a picture with a side over 512 pixels the middle is taken.
    """
    parts = [_middle(image, _MOST_SIDE, _MOST_SIDE) for image in images]
    height, width = (max(part.shape[axis] for part in parts) for axis in (0, 1))
    out = []
    for part in parts:
        canvas = np.full((height, width, part.shape[2]), 255, np.uint8)
        top, left = (height - part.shape[0]) // 2, (width - part.shape[1]) // 2
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        out.append(canvas)
    return out


def _middle(image: Pixels, height: int, width: int) -> Pixels:
    top, left = max(0, (image.shape[0] - height) // 2), max(0, (image.shape[1] - width) // 2)
    return image[top : top + height, left : left + width]


def save_reconstructions(path: Path, images: Sequence[Pixels], reconstructions: Sequence[Pixels]) -> None:
    """Write a PNG of images above their reconstructions; both uint8 [H, W, C] each, of equal sizes in pairs."""
    grid([on_canvas(images), on_canvas(reconstructions)]).save(path, "PNG")
