"""The lower envelope of codecs and scales: the peer that a model is held against.

    picture ─ shrink by a factor (Lanczos) ─ write ─▶ file ─ read ─ enlarge (bicubic or Lanczos) ─▶ picture

Whoever has few bytes shrinks a picture before coding it. So each codec is tried at several factors. A setting is a
codec, a factor, a quality and a resolution of colour. It has a mean file size and a mean squared error over pictures.
The envelope holds the settings that no other setting beats in both.
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from aekit.evaluation.codecs import BY_NAME, ImageCodec, as_image, as_pixels, header_bytes, read, write
from aekit.evaluation.metrics import mse
from aekit.images.decode import Pixels

FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
"""Factors that both sides of a picture are divided by before it is written."""
LEAST_SIDE = 2
"""Shortest side, in pixels, that a picture is shrunk to."""
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}
"""Filters that enlarge."""


@dataclass(frozen=True)
class Setting:
    """What pictures needed with one codec, factor, quality and resolution of colour."""

    codec: str
    factor: float
    """Both sides were divided by this."""
    enlarged: str
    """Filter that enlarged the pictures again, the better of two; empty at the factor 1."""
    quality: int | None
    """Pillow's setting `quality`; None for a lossless codec."""
    chroma: str
    """Resolution of the colour planes, such as `4:2:0`; empty where the codec has no such setting."""
    bytes: float
    """Mean size of a file."""
    payload: float
    """Mean size without the header, see `header_bytes`."""
    mse: float
    """Mean over the pictures of their mean squared error, pixels in [0, 1]; small pictures count as large ones do."""

    def __str__(self) -> str:
        size = "native size" if self.factor == 1 else f"1/{self.factor:g} of each side, enlarged by {self.enlarged}"
        quality = "lossless" if self.quality is None else f"quality {self.quality}"
        return f"{self.codec} at {size}, {quality}" + (f", {self.chroma}" if self.chroma else "")


@dataclass(frozen=True)
class Scaled:
    """Pictures and their copies, shrunk by one factor."""

    pictures: Sequence[Pixels]
    """Each uint8 [H, W, C] with C = 1 or 3."""
    factor: float
    copies: Sequence[Image.Image]

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB."""
        return self.pictures[0].shape[2]


def scaled(pictures: Sequence[Pixels], factor: float) -> Scaled:
    """Shrink pictures by a factor."""
    return Scaled(pictures, factor, [shrunk(picture, factor) for picture in pictures])


def usable_factors(pictures: Sequence[Pixels]) -> list[float]:
    """Return the FACTORS that leave every side at least LEAST_SIDE pixels; 1 is always among them."""
    smallest = min(min(picture.shape[:2]) for picture in pictures)
    return [factor for factor in FACTORS if factor == 1 or smallest / factor >= LEAST_SIDE]


def shrunk(picture: Pixels, factor: float) -> Image.Image:
    """Return a picture with both sides divided by the factor, by Lanczos' filter."""
    image = as_image(picture)
    if factor == 1:
        return image
    width, height = (max(1, round(side / factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def enlarged(image: Image.Image, picture: Pixels, factor: float) -> Iterator[tuple[str, Pixels]]:
    """Yield the name of each filter, and the image enlarged by it to the size of `picture`."""
    if factor == 1:
        yield "", as_pixels(image)
        return
    for name, kind in _FILTERS.items():
        yield name, as_pixels(image.resize((picture.shape[1], picture.shape[0]), kind))


def coded(codec: ImageCodec, picture: Pixels, setting: Setting) -> tuple[bytes, Pixels]:
    """Return the file of one picture at a setting, and the picture that comes back from it."""
    image = shrunk(picture, setting.factor)
    data = write(codec, image, setting.quality, setting.chroma)
    back = dict(enlarged(read(codec, data, image.mode), picture, setting.factor))
    return data, back[setting.enlarged]


def tried(codec: ImageCodec, given: Scaled, quality: int | None, chroma: str) -> Setting:
    """Write all pictures at a setting, read them again, and measure size and error."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None) as pool:
        work = partial(_size_and_errors, codec, given.factor, quality, chroma)
        found = list(pool.map(work, given.copies, given.pictures))
    size = float(np.mean([length for length, _ in found]))
    errors = {name: float(np.mean([each[name] for _, each in found])) for name in found[0][1]}
    best = min(errors, key=errors.__getitem__)
    header = header_bytes(codec.name, given.channels, quality, chroma)
    return Setting(codec.name, given.factor, best, quality, chroma, size, max(size - header, 0.0), errors[best])


def _size_and_errors(
    codec: ImageCodec, factor: float, quality: int | None, chroma: str, copy: Image.Image, picture: Pixels
) -> tuple[int, dict[str, float]]:
    data = write(codec, copy, quality, chroma)
    back = read(codec, data, copy.mode)
    return len(data), {name: mse(picture, large) for name, large in enlarged(back, picture, factor)}


def scaling_error(given: Scaled) -> float:
    """Return the mean squared error of shrinking and enlarging alone, by the better filter."""
    pairs = zip(given.copies, given.pictures, strict=True)
    errors = [[mse(p, large) for _, large in enlarged(copy, p, given.factor)] for copy, p in pairs]
    return float(np.mean(errors, axis=0).min())


def envelope(settings: Sequence[Setting], size: str = "bytes") -> list[Setting]:
    """Return the settings that no other one beats in both size and error, in ascending order of size.

    `size` is the size that counts: `bytes` or `payload`.
    """
    best: list[Setting] = []
    for setting in sorted(settings, key=lambda setting: (getattr(setting, size), setting.mse)):
        if not best or setting.mse < best[-1].mse:
            best.append(setting)
    return best


def bytes_at(settings: Sequence[Setting], mse: float, size: str = "bytes") -> float | None:
    """Return the fewest bytes for an error, or None if the error lies outside the settings measured.

    It is the lowest of the curves of all settings and of each codec at one factor. Along a curve the logarithm of the
    bytes is interpolated over the logarithm of the error.
    """
    curves: dict[tuple[str, float, str], list[Setting]] = {}
    for setting in settings:
        curves.setdefault((setting.codec, setting.factor, setting.chroma), []).append(setting)
    found = [_interpolated(curve, mse, size) for curve in (settings, *curves.values())]
    return min((value for value in found if value is not None), default=None)


def _interpolated(settings: Sequence[Setting], mse: float, size: str) -> float | None:
    points = [point for point in envelope(settings, size)[::-1] if point.mse > 0]
    errors = [math.log(point.mse) for point in points]
    if not errors or not errors[0] <= math.log(mse) <= errors[-1]:
        return None
    sizes = [math.log(max(getattr(point, size), 1.0)) for point in points]
    return math.exp(float(np.interp(math.log(mse), errors, sizes)))


def codec_of(setting: Setting) -> ImageCodec:
    """Return the codec of a setting."""
    return BY_NAME[setting.codec]
