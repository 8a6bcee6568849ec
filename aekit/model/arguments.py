"""Checks of what the methods of a Codec are given, by the model's spec. A bad argument raises one clear error.

A function `checked_…` returns its argument in the form that the codec works with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from aekit.errors import OptionError, ShapeError, unknown_value
from aekit.images.decode import Pixels
from aekit.model.grids import Array, GridCodes
from aekit.spec import ModelSpec

DTYPES = ("float32", "float16", "uint8")
"""Types of codes: latents in full or half precision, or latents rounded to one byte per number."""

Quality = int | Sequence[int] | npt.NDArray[np.integer[Any]] | None
"""One quality for all pictures, a quality for each, or None; see `Codec.encode`."""

_FITTING = " with aekit.images.decode.fit_array(images [n, height, width, channels], codec.spec.geometry)"
"""Advice on how to bring images of another size to the size of the model."""


def checked_dtype(dtype: Any) -> str:
    """Return the name of a type of codes, given as a name or as numpy's type. Raises OptionError unless in DTYPES."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise unknown_value("dtype", dtype, DTYPES)
    return name


def check_batch_size(batch_size: int) -> None:
    """Raise OptionError if `batch_size` is below 1."""
    if batch_size < 1:
        raise OptionError("batch size", expected="1 or more", found=str(batch_size)[:80])


def checked_qualities(quality: Quality, count: int, spec: ModelSpec) -> tuple[int, ...]:
    """Return the quality of each of `count` pictures, or an empty sequence for a model without qualities.

    Raises OptionError if the model lacks one of them, or if their number is not the number of pictures.
    """
    if not spec.has_qualities:
        if quality is not None and not (isinstance(quality, tuple) and not quality):
            fix = "leave it out, or train a model with `aekit train --qualities`"
            raise OptionError("quality", expected="none: the model has one quality", found=str(quality)[:80], fix=fix)
        return ()
    if quality is None:
        quality = spec.default_quality
    several = list(quality) if isinstance(quality, Iterable) else [quality] * count
    if len(several) != count or not all(
        isinstance(each, int | np.integer) and 1 <= each <= spec.qualities for each in several
    ):
        expected = f"1 to {spec.qualities}, or as many of these as pictures"
        raise OptionError("quality", expected=expected, found=str(quality)[:80])
    return tuple(map(int, several))


def checked_images(images: Any, spec: ModelSpec) -> Pixels:
    """Return the images for a model of vector codes, uint8 [n, height, width, channels]. Raises ShapeError."""
    shape = spec.fixed.shape
    if isinstance(images, list | tuple) and len({np.shape(image) for image in images}) > 1:
        expected, found = f"images of {spec.geometry}", "images of differing sizes"
        raise ShapeError("images", expected=expected, found=found, fix="bring each to this size" + _FITTING)
    images = np.asarray(images)
    if images.ndim == 3 and shape[2] == 1 and images.shape[1:] == shape[:2]:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
        raise ShapeError(
            "images",
            expected=f"uint8 [n, {', '.join(map(str, shape))}]",
            found=f"{images.dtype} {list(images.shape)}",
            fix=_fix_of(images, shape),
        )
    return images


def _fix_of(images: npt.NDArray[Any], shape: tuple[int, int, int]) -> str:
    """Return advice for images that do not fit a model of vector codes. Its images have `shape`."""
    if images.dtype == bool or images.dtype.kind == "f":
        return "for numbers from 0 to 1 give (255 * images).round().astype(np.uint8)"
    if images.dtype != np.uint8:
        return "for numbers from 0 to 255 give images.astype(np.uint8)"
    if images.shape == shape or (shape[2] == 1 and images.shape == shape[:2]):
        return "give one image as images[None]"
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return "bring them to the model's size and colour" + _FITTING
    return "give an array [n, height, width, channels]; bring images of another size to the model's" + _FITTING


def checked_pictures(images: Any, spec: ModelSpec) -> list[Pixels]:
    """Return the pictures for a model of grid codes, each uint8 [height, width, channels]. Raises ShapeError."""
    if not isinstance(images, list | tuple):
        images = np.asarray(images)
        if images.ndim not in (3, 4):
            expected = f"a list of pictures, or uint8 [n, height, width, {spec.grid.channels}]"
            raise ShapeError("pictures", expected=expected, found=f"{images.dtype} {list(images.shape)}")
    return [_checked_picture(image, spec.grid.channels) for image in images]


def _checked_picture(picture: Pixels, channels: int) -> Pixels:
    picture = np.asarray(picture)
    if picture.ndim == 2 and channels == 1:
        picture = picture[..., None]
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != channels or 0 in picture.shape:
        raise ShapeError(
            "a picture",
            expected=f"uint8 [height, width, {channels}]",
            found=f"{picture.dtype} {list(picture.shape)}",
            fix="give one picture as [picture], several of one size as an array [n, height, width, channels]",
        )
    return picture


def checked_codes(codes: Any, spec: ModelSpec) -> Array:
    """Return the codes for a model of vector codes, [n, code_dim].

    Raises ShapeError if they do not fit the model, or hold NaN, infinity or numbers beyond float32.
    """
    if isinstance(codes, GridCodes):
        fix = "use the model that made these codes"
        raise ShapeError("codes", expected=f"[n, {spec.code_dim}]", found="grid codes", fix=fix)
    codes = np.asarray(codes)
    _check_numbers("codes", codes, ("n",), spec)
    return codes


def checked_grids(codes: Any, quality: Quality, spec: ModelSpec) -> GridCodes:
    """Return the codes for a model of grid codes, an array [n, h, w, code_dim] or a GridCodes, with their qualities.

    The codes of an array are codes of whole blocks, at `quality`.

    Raises ShapeError as `checked_codes` does; OptionError if a quality is missing or not the model's.
    """
    grids = codes if isinstance(codes, GridCodes) else _whole_blocks(np.asarray(codes), spec)
    for code in grids.codes:
        _check_numbers("a grid code", code, ("h", "w"), spec)
    if not grids.qualities and spec.has_qualities and quality is None and grids.codes:
        raise OptionError("quality", expected=f"the quality of the codes, 1 to {spec.qualities}", found="none")
    return replace(grids, qualities=checked_qualities(grids.qualities or quality, len(grids), spec))


def _whole_blocks(codes: Array, spec: ModelSpec) -> GridCodes:
    if codes.ndim != 4:
        expected = f"[n, h, w, {spec.code_dim}], or a GridCodes"
        raise ShapeError("codes", expected=expected, found=str(list(codes.shape)))
    size = codes.shape[1] * spec.grid.stride, codes.shape[2] * spec.grid.stride
    return GridCodes(tuple(codes), (size,) * len(codes))


def _check_numbers(what: str, codes: Array, sides: tuple[str, ...], spec: ModelSpec) -> None:
    """Raise ShapeError unless codes are numbers that float32 can hold, in the shape [*sides, code_dim]."""
    if codes.ndim != len(sides) + 1 or codes.shape[-1] != spec.code_dim or codes.dtype.name not in (*DTYPES, "float64"):
        raise ShapeError(
            what,
            expected=f"[{', '.join(sides)}, {spec.code_dim}] of {', '.join(DTYPES)}",
            found=f"{list(codes.shape)} of {codes.dtype}",
        )
    # The graph takes float32. NaN and infinity fail this comparison too.
    if codes.dtype.kind == "f" and not (np.abs(codes) <= np.finfo(np.float32).max).all():
        raise ShapeError("codes", expected="finite numbers of float32", found="NaN, infinity or larger ones")
