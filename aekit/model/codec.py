"""Codec: a model folder opened to turn images into codes and codes into images, on numpy arrays.

images uint8 [n, H, W, C] ── encoder.onnx ──▶ latents float32 [n, D], or codes uint8 [n, D]
images uint8 [n, H, W, C] ◀── decoder.onnx ── latents or codes
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aekit.errors import OptionError, ShapeError
from aekit.images.decode import Pixels
from aekit.model.bundle import Bundle
from aekit.model.sessions import Sessions
from aekit.spec import ModelSpec

Codes = npt.NDArray[Any]
"""Array of codes, [n, code_dim], with a dtype in DTYPES."""

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

        If these take more than 64 MB of pixels, the number is lower, but at least one batch.
        """
        return max(batch_size, min(batch_size * self.parallel_batches, _BLOCK_BYTES // self.spec.geometry.pixels))

    def open(self) -> None:
        """Open both graphs now instead of on first use. Raises BundleError or ProviderError as `encode` does."""
        self._sessions.session("encoder")
        self._sessions.session("decoder")

    def provider(self, role: str) -> str:
        """Return the provider that runs `encoder` or `decoder`, as its session reports it.

        Raises BundleError or ProviderError as `encode` does.
        """
        return self._sessions.session(role).provider

    def encode(self, images: Pixels, dtype: str = "float32", batch_size: int = BATCH_SIZE) -> Codes:
        """Encode images to codes [n, code_dim] of `dtype`.

        Args:
            images: uint8 [n, height, width, channels] of the model's geometry; a gray model also takes
                [n, height, width].
            dtype: float32 or float16 for latents in code units; uint8 for latents rounded and clipped to 0..255.
            batch_size: images that the graph is given at a time.

        Raises:
            ShapeError: the images do not fit the model.
            OptionError: `dtype` is not one of DTYPES, or `batch_size` is below 1.
            BundleError: encoder.onnx is missing, damaged or from another model, or computes NaN.
            ProviderError: the provider is unknown, absent or can't run the graph.
        """
        if dtype not in DTYPES:
            raise OptionError("dtype", expected=" or ".join(DTYPES), found=repr(dtype))
        images = self._checked_images(images)
        output = "code" if dtype == "uint8" else "latent"
        out = np.empty((len(images), self.spec.code_dim), dtype)
        self._sessions.run("encoder", output, "image", images, out, batch_size)
        return out

    def decode(self, codes: Codes, batch_size: int = BATCH_SIZE) -> Pixels:
        """Decode codes [n, code_dim], uint8 or floating point, to images uint8 [n, height, width, channels].

        Raises:
            ShapeError: the codes do not fit the model, or hold NaN, infinity or numbers beyond float32.
            OptionError: `batch_size` is below 1.
            BundleError: decoder.onnx is missing, damaged or from another model.
            ProviderError: the provider is unknown, absent or can't run the graph.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.spec.code_dim or codes.dtype.name not in (*DTYPES, "float64"):
            raise ShapeError(
                "codes",
                expected=f"[n, {self.spec.code_dim}] of {', '.join(DTYPES)}",
                found=f"{list(codes.shape)} of {codes.dtype}",
            )
        # The graph takes float32. NaN and infinity fail this comparison too.
        if codes.dtype.kind == "f" and not (np.abs(codes) <= np.finfo(np.float32).max).all():
            raise ShapeError("codes", expected="finite numbers of float32", found="NaN, infinity or larger ones")
        out = np.empty((len(codes), *self.spec.geometry.shape), np.uint8)
        self._sessions.run("decoder", "image", "latent", codes, out, batch_size)
        return out

    def reconstruct(self, images: Pixels, dtype: str = "float32", batch_size: int = BATCH_SIZE) -> Pixels:
        """Encode images to codes of `dtype` and decode these: uint8 [n, height, width, channels].

        Raises ShapeError, OptionError, BundleError and ProviderError as `encode` and `decode` do.
        """
        return self.decode(self.encode(images, dtype, batch_size), batch_size)

    def _checked_images(self, images: Pixels) -> Pixels:
        images = np.asarray(images)
        shape = self.spec.geometry.shape
        if images.ndim == 3 and shape[2] == 1 and images.shape[1:] == shape[:2]:
            images = images[..., None]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            raise ShapeError(
                "images",
                expected=f"uint8 [n, {', '.join(map(str, shape))}]",
                found=f"{images.dtype} {list(images.shape)}",
                fix="convert uint8 images with aekit.images.decode.fit_array",
            )
        return images
