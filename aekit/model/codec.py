"""Codec: a model folder opened to turn images into codes and codes into images, on numpy arrays.

images uint8 [n, H, W, C] ── encoder.onnx ──▶ latents float32 [n, D], or codes uint8 [n, D]
images uint8 [n, H, W, C] ◀── decoder.onnx ── latents or codes

A model of grid codes takes pictures of any height and width, and its codes are [n, h, w, K]. Give pictures of differing
sizes as a list; their codes are a GridCodes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from aekit.errors import OptionError, ShapeError, unknown_value
from aekit.images.decode import Pixels
from aekit.model.bundle import Bundle
from aekit.model.grid_runs import Runs, decode_grids, encode_grids
from aekit.model.grids import Array, GridCodes
from aekit.model.sessions import Sessions
from aekit.spec import ModelSpec

Codes = npt.NDArray[Any]
"""Array of codes, [n, code_dim], or [n, h, w, code_dim] for a model of grid codes, with a dtype in DTYPES."""

Quality = int | Sequence[int] | npt.NDArray[np.integer[Any]] | None
"""The quality of all pictures, one for each, or None; see `Codec.encode`."""

DTYPES = ("float32", "float16", "uint8")
"""Types of codes: latents in full or half precision, or latents rounded to one byte per number."""

BATCH_SIZE = 256
"""Default number of images in a run of a graph. Results do not depend on it."""

_BLOCK_BYTES = 2**26
"""Largest number of bytes of pixels in a block of several batches."""


class Codec:
    """A model, ready to run. Each graph is loaded on first use, so a device may hold only one of them.

    Safe to share between threads. A process that uses a Codec may be forked, and a Codec may be sent to a spawned
    process; each process loads the graphs again, because onnxruntime's threads do not survive a fork.
    """

    def __init__(
        self, bundle: Bundle, provider: str = "auto", threads: int | None = None, parallel_batches: int = 1
    ) -> None:
        """Make a codec of a bundle that has been read; for the options and errors see `load`."""
        self.bundle = bundle
        self._sessions = Sessions(bundle, provider, threads, parallel_batches)

    def __reduce__(self) -> tuple[Any, ...]:
        sessions = self._sessions
        return type(self), (self.bundle, sessions.provider_asked, sessions.threads, sessions.parallel_batches)

    @classmethod
    def load(
        cls, path: str | Path = "model", provider: str = "auto", threads: int | None = None, parallel_batches: int = 1
    ) -> Self:
        """Open the model folder `path`. The graphs are not read yet.

        Args:
            path: folder with model.json, encoder.onnx and decoder.onnx, or only the graph that will run.
            provider: `auto` or a name in aekit.model.providers.PROVIDERS.
            threads: largest number of CPU threads in total; None for every core.
            parallel_batches: batches computed at the same time, on equal shares of the threads. With 1, all threads
                compute one batch, which answers a single image soonest. As many batches as threads is fastest for many
                images, and leaves idle cores to others.

        Raises BundleError or SpecError if the folder holds no sound model.json; OptionError if `threads` or
        `parallel_batches` is not from 1 to 4,096. An unknown or absent provider is a ProviderError at the first run.
        """
        return cls(Bundle.read(Path(path)), provider, threads, parallel_batches)

    @property
    def spec(self) -> ModelSpec:
        """The model's facts."""
        return self.bundle.spec

    @property
    def model_id(self) -> str:
        """The model's identity. Code files store it."""
        return self.bundle.model_id

    @property
    def threads(self) -> int | None:
        """Largest number of CPU threads in total, as given; None for every core."""
        return self._sessions.threads

    @property
    def parallel_batches(self) -> int:
        """Batches computed at the same time."""
        return self._sessions.parallel_batches

    @property
    def threads_per_batch(self) -> int:
        """CPU threads that compute one batch."""
        return self._sessions.threads_per_batch

    def images_per_block(self, batch_size: int = BATCH_SIZE) -> int:
        """Return how many images a job should keep in memory at a time: as many batches as are computed in parallel.

        If these take more than 64 MB of pixels, the number is lower, but at least one batch. For a model of grid codes
        it is an upper limit, because the sizes of pictures are not known.
        """
        if self.spec.is_grid:
            return batch_size * self.parallel_batches
        return max(batch_size, min(batch_size * self.parallel_batches, _BLOCK_BYTES // self.spec.fixed.pixels))

    def __repr__(self) -> str:
        spec, code = self.spec, f"{self.spec.code_dim} numbers"
        code = f"{code} for each {spec.grid.stride}x{spec.grid.stride} pixels" if spec.is_grid else code
        return f"Codec({str(self.bundle.path)!r}, {spec.geometry}, {code}, model {self.model_id})"

    def open(self) -> None:
        """Open both graphs now instead of on first use. Raises BundleError or ProviderError as `encode` does."""
        self._sessions.session("encoder")
        self._sessions.session("decoder")

    def provider(self, role: str) -> str:
        """Return the provider that runs `encoder` or `decoder`, as its session reports it.

        Raises BundleError or ProviderError as `encode` does.
        """
        return self._sessions.session(role).provider

    @overload
    def encode(
        self, images: Pixels, dtype: npt.DTypeLike = "float32", batch_size: int = BATCH_SIZE, *, quality: Quality = None
    ) -> Codes: ...
    @overload
    def encode(
        self,
        images: list[Pixels],
        dtype: npt.DTypeLike = "float32",
        batch_size: int = BATCH_SIZE,
        *,
        quality: Quality = None,
    ) -> GridCodes: ...
    def encode(
        self,
        images: Pixels | list[Pixels],
        dtype: npt.DTypeLike = "float32",
        batch_size: int = BATCH_SIZE,
        *,
        quality: Quality = None,
    ) -> Codes | GridCodes:
        """Encode images to codes of `dtype`.

        Args:
            images: uint8 [n, height, width, channels] of the model's geometry; a gray model also takes
                [n, height, width]. A model of grid codes takes any height and width, and also a list of pictures of any
                sizes, uint8 [height, width, channels].
                A list of images of one size, and an object with `__array__`, are taken too.
            dtype: float32 or float16 for latents in code units; uint8 for latents rounded and clipped to 0..255. A name
                or numpy's type.
            batch_size: images that the graph is given at a time.
            quality: for a model that has qualities, the quality of all pictures, or one for each: 1, the fewest bits,
                to spec.qualities. None means spec.default_quality.

        Returns codes [n, code_dim]; for a model of grid codes [n, h, w, code_dim], or a GridCodes for a list. Only a
        GridCodes says at which quality each picture was encoded.

        Raises:
            ShapeError: the images do not fit the model.
            OptionError: `dtype` is not one of DTYPES, `batch_size` is below 1, or the model lacks a quality.
            BundleError: encoder.onnx is missing, damaged or from another model, or computes NaN.
            ProviderError: the provider is unknown, absent or can't run the graph.
        """
        dtype = _name_of(dtype)
        _check_batch(batch_size)
        output = "code" if dtype == "uint8" else "latent"
        if self.spec.is_grid:
            pictures = self._checked_pictures(images)
            runs = self._runs("encoder", output, "image", batch_size)
            qualities = self._qualities(quality, len(pictures))
            codes = encode_grids(pictures, self.spec.grid, self.spec.code_dim, dtype, runs, qualities)
            return codes if isinstance(images, list | tuple) else self._stacked(codes, np.shape(images), dtype)
        checked = self._checked_images(images)
        self._qualities(quality, len(checked))
        out = np.empty((len(checked), self.spec.code_dim), dtype)
        self._sessions.run("encoder", output, "image", checked, out, batch_size)
        return out

    @overload
    def decode(self, codes: Codes, batch_size: int = BATCH_SIZE, *, quality: Quality = None) -> Pixels: ...
    @overload
    def decode(self, codes: GridCodes, batch_size: int = BATCH_SIZE, *, quality: Quality = None) -> list[Pixels]: ...
    def decode(
        self, codes: Codes | GridCodes, batch_size: int = BATCH_SIZE, *, quality: Quality = None
    ) -> Pixels | list[Pixels]:
        """Decode codes [n, code_dim], uint8 or floating point, to images uint8 [n, height, width, channels].

        A model of grid codes takes [n, h, w, code_dim] and returns whole blocks, [n, h · stride, w · stride, channels].
        It also takes a GridCodes, and returns a list of pictures of its sizes, uint8 [height, width, channels].

        A model that has qualities needs the `quality` of an array, as given to `encode`. A GridCodes has its own.

        Raises:
            ShapeError: the codes do not fit the model, or hold NaN, infinity or numbers beyond float32.
            OptionError: `batch_size` is below 1, or a quality is missing or not the model's.
            BundleError: decoder.onnx is missing, damaged or from another model.
            ProviderError: the provider is unknown, absent or can't run the graph.
        """
        _check_batch(batch_size)
        if self.spec.is_grid:
            grids = codes if isinstance(codes, GridCodes) else self._whole_blocks(np.asarray(codes))
            for code in grids.codes:
                self._check_code(code)
            if not grids.qualities:
                if self.spec.has_qualities and quality is None and grids.codes:
                    expected = f"the quality of the codes, 1 to {self.spec.qualities}"
                    raise OptionError("quality", expected=expected, found="none")
                grids = replace(grids, qualities=self._qualities(quality, len(grids)))
            self._qualities(grids.qualities, len(grids))
            pictures = decode_grids(grids, self.spec.grid, self._runs("decoder", "image", "latent", batch_size))
            if isinstance(codes, GridCodes):
                return pictures
            size = (side * self.spec.grid.stride for side in codes.shape[1:3])
            return np.stack(pictures) if pictures else np.empty((0, *size, self.spec.grid.channels), np.uint8)
        if isinstance(codes, GridCodes):
            fix = "use the model that made these codes"
            raise ShapeError("codes", expected=f"[n, {self.spec.code_dim}]", found="grid codes", fix=fix)
        codes = np.asarray(codes)
        self._qualities(quality, len(codes))
        if codes.ndim != 2 or codes.shape[1] != self.spec.code_dim or codes.dtype.name not in (*DTYPES, "float64"):
            raise ShapeError(
                "codes",
                expected=f"[n, {self.spec.code_dim}] of {', '.join(DTYPES)}",
                found=f"{list(codes.shape)} of {codes.dtype}",
            )
        _check_finite(codes)
        out = np.empty((len(codes), *self.spec.fixed.shape), np.uint8)
        self._sessions.run("decoder", "image", "latent", codes, out, batch_size)
        return out

    @overload
    def reconstruct(
        self, images: Pixels, dtype: npt.DTypeLike = "float32", batch_size: int = BATCH_SIZE, *, quality: Quality = None
    ) -> Pixels: ...
    @overload
    def reconstruct(
        self,
        images: list[Pixels],
        dtype: npt.DTypeLike = "float32",
        batch_size: int = BATCH_SIZE,
        *,
        quality: Quality = None,
    ) -> list[Pixels]: ...
    def reconstruct(
        self,
        images: Pixels | list[Pixels],
        dtype: npt.DTypeLike = "float32",
        batch_size: int = BATCH_SIZE,
        *,
        quality: Quality = None,
    ) -> Pixels | list[Pixels]:
        """Encode images to codes of `dtype` and decode these: images of the same sizes, as an array or a list.

        Raises ShapeError, OptionError, BundleError and ProviderError as `encode` and `decode` do.
        """
        if self.spec.is_grid:
            codes = self.encode(self._checked_pictures(images), dtype, batch_size, quality=quality)
            pictures = self.decode(codes, batch_size)
            if isinstance(images, list | tuple):
                return pictures
            shape = *np.shape(images)[:3], self.spec.grid.channels
            return np.stack(pictures) if pictures else np.empty(shape, np.uint8)
        vectors: Codes = self.encode(np.asarray(images), dtype, batch_size, quality=quality)
        return self.decode(vectors, batch_size)

    def _runs(self, role: str, output: str, name: str, batch_size: int) -> Runs:
        sessions = self._sessions
        sessions.session(role)  # an unusable graph is an error even if there is nothing to run
        return Runs(
            partial(sessions.run_batch, role, output, name), sessions.each, sessions.parallel_batches, batch_size
        )

    def _qualities(self, quality: Quality, count: int) -> tuple[int, ...]:
        """Return the quality of each of `count` pictures; nothing for a model without qualities.

        Raises OptionError if the model lacks one, or there are more or fewer than pictures.
        """
        most = self.spec.qualities
        if not self.spec.has_qualities:
            if quality is not None and not (isinstance(quality, tuple) and not quality):
                fix = "leave it out, or train a model with `aekit train --qualities`"
                raise OptionError(
                    "quality", expected="none: the model has one quality", found=str(quality)[:80], fix=fix
                )
            return ()
        if quality is None:
            quality = self.spec.default_quality
        several = list(quality) if isinstance(quality, Iterable) else [quality] * count
        if len(several) != count or not all(
            isinstance(each, int | np.integer) and 1 <= each <= most for each in several
        ):
            expected = f"1 to {most}, or as many of these as pictures"
            raise OptionError("quality", expected=expected, found=str(quality)[:80])
        return tuple(map(int, several))

    def _checked_images(self, images: Any) -> Pixels:
        shape = self.spec.fixed.shape
        if isinstance(images, list | tuple) and len({np.shape(image) for image in images}) > 1:
            expected, found = f"images of {self.spec.geometry}", "images of differing sizes"
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

    def _checked_pictures(self, images: Any) -> list[Pixels]:
        if not isinstance(images, list | tuple):
            images = np.asarray(images)
            if images.ndim not in (3, 4):
                expected = f"a list of pictures, or uint8 [n, height, width, {self.spec.grid.channels}]"
                raise ShapeError("pictures", expected=expected, found=f"{images.dtype} {list(images.shape)}")
        return [self._checked_picture(image) for image in images]

    def _checked_picture(self, picture: Pixels) -> Pixels:
        picture, channels = np.asarray(picture), self.spec.grid.channels
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

    def _stacked(self, codes: GridCodes, shape: tuple[int, ...], dtype: str) -> Codes:
        """Return the codes of pictures of one array, whose shape is `shape`, as an array [n, h, w, K]."""
        if codes.codes:
            return np.stack(codes.codes)
        return np.empty((0, *self.spec.grid.code_shape(shape[1], shape[2]), self.spec.code_dim), dtype)

    def _whole_blocks(self, codes: Codes) -> GridCodes:
        stride = self.spec.grid.stride
        if codes.ndim != 4:
            expected = f"[n, h, w, {self.spec.code_dim}], or a GridCodes"
            raise ShapeError("codes", expected=expected, found=str(list(codes.shape)))
        size = codes.shape[1] * stride, codes.shape[2] * stride
        return GridCodes(tuple(codes), (size,) * len(codes))

    def _check_code(self, code: Array) -> None:
        if code.ndim != 3 or code.shape[2] != self.spec.code_dim or code.dtype.name not in (*DTYPES, "float64"):
            raise ShapeError(
                "a grid code",
                expected=f"[h, w, {self.spec.code_dim}] of {', '.join(DTYPES)}",
                found=f"{list(code.shape)} of {code.dtype}",
            )
        _check_finite(code)


_FITTING = " with aekit.images.decode.fit_array(images [n, height, width, channels], codec.spec.geometry)"
"""How images of another size are brought to the model's."""


def _fix_of(images: npt.NDArray[Any], shape: tuple[int, int, int]) -> str:
    """Say how images that do not fit a model of vector codes, whose images have `shape`, can be made to fit."""
    if images.dtype == bool or images.dtype.kind == "f":
        return "for numbers from 0 to 1 give (255 * images).round().astype(np.uint8)"
    if images.dtype != np.uint8:
        return "give uint8, for numbers from 0 to 255 images.astype(np.uint8)"
    if images.shape == shape or (shape[2] == 1 and images.shape == shape[:2]):
        return "give one image as images[None]"
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return "bring them to the model's size and colour" + _FITTING
    return "give an array [n, height, width, channels]; of another size, bring it to the model's" + _FITTING


def _name_of(dtype: Any) -> str:
    """Return the name of a type of codes, given as a name or as numpy's type. Raises OptionError unless in DTYPES."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise unknown_value("dtype", dtype, DTYPES)
    return name


def _check_batch(batch_size: int) -> None:
    if batch_size < 1:
        raise OptionError("batch size", expected="1 or more", found=str(batch_size)[:80])


def _check_finite(codes: Array) -> None:
    # The graph takes float32. NaN and infinity fail this comparison too.
    if codes.dtype.kind == "f" and not (np.abs(codes) <= np.finfo(np.float32).max).all():
        raise ShapeError("codes", expected="finite numbers of float32", found="NaN, infinity or larger ones")
