"""Codec: a model folder opened to turn images into codes and codes into images, on numpy arrays.

images uint8 [n, H, W, C] ── encoder.onnx ──▶ latents float32 [n, D], or codes uint8 [n, D]
images uint8 [n, H, W, C] ◀── decoder.onnx ── latents or codes

A model of grid codes takes pictures of any height and width, and its codes are [n, h, w, K]. Give pictures of differing
sizes as a list; their codes are a GridCodes.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from aekit.images.decode import Pixels
from aekit.model.arguments import (
    Quality,
    check_batch_size,
    checked_codes,
    checked_dtype,
    checked_grids,
    checked_images,
    checked_pictures,
    checked_qualities,
)
from aekit.model.bundle import Bundle
from aekit.model.grid_runs import Runs, decode_grids, encode_grids
from aekit.model.grids import Array, GridCodes
from aekit.model.sessions import Sessions
from aekit.spec import ModelSpec

Images = Pixels | list[Pixels]
"""Images as an array uint8 [n, H, W, C], or pictures of any sizes as a list."""

Codes = npt.NDArray[Any]
"""Array of codes, [n, code_dim], or [n, h, w, code_dim] for a model of grid codes, with a dtype in DTYPES."""

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
        self, images: Pixels, dtype: npt.DTypeLike = ..., batch_size: int = ..., *, quality: Quality = ...
    ) -> Codes: ...
    @overload
    def encode(
        self, images: list[Pixels], dtype: npt.DTypeLike = ..., batch_size: int = ..., *, quality: Quality = ...
    ) -> GridCodes: ...
    def encode(
        self, images: Images, dtype: npt.DTypeLike = "float32", batch_size: int = BATCH_SIZE, *, quality: Quality = None
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
        dtype, spec = checked_dtype(dtype), self.spec
        check_batch_size(batch_size)
        output = "code" if dtype == "uint8" else "latent"
        if spec.is_grid:
            pictures = checked_pictures(images, spec)
            runs = self._runs("encoder", output, "image", batch_size)
            qualities = checked_qualities(quality, len(pictures), spec)
            codes = encode_grids(pictures, spec.grid, spec.code_dim, dtype, runs, qualities)
            if isinstance(images, list | tuple):
                return codes
            height, width = np.shape(images)[1:3]
            return _stacked(codes.codes, (*spec.grid.code_shape(height, width), spec.code_dim), dtype)
        checked = checked_images(images, spec)
        checked_qualities(quality, len(checked), spec)
        out = np.empty((len(checked), spec.code_dim), dtype)
        self._sessions.run("encoder", output, "image", checked, out, batch_size)
        return out

    @overload
    def decode(self, codes: Codes, batch_size: int = ..., *, quality: Quality = ...) -> Pixels: ...
    @overload
    def decode(self, codes: GridCodes, batch_size: int = ..., *, quality: Quality = ...) -> list[Pixels]: ...
    def decode(self, codes: Codes | GridCodes, batch_size: int = BATCH_SIZE, *, quality: Quality = None) -> Images:
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
        check_batch_size(batch_size)
        spec = self.spec
        if spec.is_grid:
            grids = checked_grids(codes, quality, spec)
            pictures = decode_grids(grids, spec.grid, self._runs("decoder", "image", "latent", batch_size))
            if isinstance(codes, GridCodes):
                return pictures
            height, width = (side * spec.grid.stride for side in np.shape(codes)[1:3])
            return _stacked(pictures, (height, width, spec.grid.channels), "uint8")
        vectors = checked_codes(codes, spec)
        checked_qualities(quality, len(vectors), spec)
        out = np.empty((len(vectors), *spec.fixed.shape), np.uint8)
        self._sessions.run("decoder", "image", "latent", vectors, out, batch_size)
        return out

    @overload
    def reconstruct(
        self, images: Pixels, dtype: npt.DTypeLike = ..., batch_size: int = ..., *, quality: Quality = ...
    ) -> Pixels: ...
    @overload
    def reconstruct(
        self, images: list[Pixels], dtype: npt.DTypeLike = ..., batch_size: int = ..., *, quality: Quality = ...
    ) -> list[Pixels]: ...
    def reconstruct(
        self, images: Images, dtype: npt.DTypeLike = "float32", batch_size: int = BATCH_SIZE, *, quality: Quality = None
    ) -> Images:
        """Encode images to codes of `dtype` and decode these: images of the same sizes, as an array or a list.

        Raises ShapeError, OptionError, BundleError and ProviderError as `encode` and `decode` do.
        """
        if self.spec.is_grid:
            codes = self.encode(checked_pictures(images, self.spec), dtype, batch_size, quality=quality)
            pictures = self.decode(codes, batch_size)
            if isinstance(images, list | tuple):
                return pictures
            return _stacked(pictures, (*np.shape(images)[1:3], self.spec.grid.channels), "uint8")
        vectors: Codes = self.encode(checked_images(images, self.spec), dtype, batch_size, quality=quality)
        return self.decode(vectors, batch_size)

    def _runs(self, role: str, output: str, name: str, batch_size: int) -> Runs:
        sessions = self._sessions
        sessions.session(role)  # an unusable graph is an error even if there is nothing to run
        return Runs(
            partial(sessions.run_batch, role, output, name), sessions.each, sessions.parallel_batches, batch_size
        )


def _stacked(arrays: Sequence[Array], shape: tuple[int, ...], dtype: str) -> Array:
    """Return arrays of one `shape` as one array [n, …], which may be empty."""
    return np.stack(arrays) if arrays else np.empty((0, *shape), dtype)
