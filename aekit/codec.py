"""Codec: a model folder opened to turn images into codes and codes into images, on numpy arrays.

images uint8 [n, H, W, C] ── encoder.onnx ──▶ latents float32 [n, D], or codes uint8 [n, D]
images uint8 [n, H, W, C] ◀── decoder.onnx ── either of them
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from aekit.bundle import Bundle
from aekit.errors import BundleError, OptionError, ShapeError
from aekit.images import Pixels
from aekit.providers import RunningSession, open_session, run_session
from aekit.spec import ModelSpec
from aekit.workers import cores

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Codes = npt.NDArray[Any]
"""Codes [n, code_dim] of one of DTYPES."""

DTYPES = ("float32", "float16", "uint8")
"""What codes can be kept as: latents in full or half precision, or rounded to one byte a number."""

BATCH_SIZE = 256
"""Images a run of the graph; results do not depend on it."""


class Codec:
    """A model, ready to run; each graph is loaded on first use, so a device may hold one of them alone.

    Safe to share between threads.
    """

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None, runs: int = 1) -> None:
        self.bundle = bundle
        self.runs = runs
        """Batches run at a time."""
        self._provider, self._threads = provider, threads
        self._runners: ThreadPoolExecutor | None = None
        self._sessions: dict[str, RunningSession] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls, path: str | Path = "model", provider: str = "auto", threads: int | None = None, runs: int = 1
    ) -> Self:
        """Open the model folder `path`.

        `provider` is `auto` or a name of `aekit.providers.PROVIDERS`; `threads` bounds the CPU threads. With 1 for
        `runs` they share each run, which answers one image soonest; with more, that many runs go on at a time, each on
        its share of the threads, which takes many images through fastest and leaves idle cores to others.

        Raises BundleError or SpecError if the folder is not a whole model; ProviderError, at the first run, if the
        provider can't run it.
        """
        return cls(Bundle.read(Path(path)), provider, threads, runs)

    @property
    def spec(self) -> ModelSpec:
        """The model's facts."""
        return self.bundle.spec

    @property
    def model_id(self) -> str:
        """The model's identity, which codes carry."""
        return self.bundle.model_id

    def provider(self, role: str) -> str:
        """The provider that runs `encoder` or `decoder`, proved by its session."""
        return self._session(role).provider

    def encode(self, images: Pixels, dtype: str = "float32", batch_size: int = BATCH_SIZE) -> Codes:
        """Codes of images.

        `images` is uint8 [n, height, width, channels] of the model's geometry; a gray model also takes
        [n, height, width]. `dtype` float32 or float16 gives latents in code units, uint8 gives them rounded and
        clipped to 0..255. Returns [n, code_dim].

        Raises ShapeError if the images do not fit.
        """
        if dtype not in DTYPES:
            raise OptionError("dtype", expected=" or ".join(DTYPES), found=repr(dtype))
        images = self._checked_images(images)
        output = "code" if dtype == "uint8" else "latent"
        out = np.empty((len(images), self.spec.code_dim), dtype)
        self._run("encoder", output, "image", images, out, batch_size)
        return out

    def decode(self, codes: Codes, batch_size: int = BATCH_SIZE) -> Pixels:
        """Images of codes [n, code_dim], uint8 or floating point; returns uint8 [n, height, width, channels].

        Raises ShapeError if the codes do not fit or hold NaN or infinity.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.spec.code_dim or codes.dtype.name not in (*DTYPES, "float64"):
            raise ShapeError(
                "codes",
                expected=f"[n, {self.spec.code_dim}] of {', '.join(DTYPES)}",
                found=f"{list(codes.shape)} of {codes.dtype}",
            )
        # Compared with the largest float32, which is what the graph takes: NaN and infinity are not below it either.
        if codes.dtype.kind == "f" and not (np.abs(codes) <= np.finfo(np.float32).max).all():
            raise ShapeError("codes", expected="finite numbers of float32", found="NaN, infinity or larger ones")
        out = np.empty((len(codes), *self.spec.geometry.shape), np.uint8)
        self._run("decoder", "image", "latent", codes, out, batch_size)
        return out

    def reconstruct(self, images: Pixels, dtype: str = "float32", batch_size: int = BATCH_SIZE) -> Pixels:
        """Images after a trip through their codes, kept as `dtype` in between."""
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
                fix="aekit.images.fit_array brings uint8 images to a model's geometry",
            )
        return images

    def _run(self, role: str, output: str, name: str, rows: npt.NDArray[Any], out: Any, batch_size: int) -> None:
        if batch_size < 1:
            raise OptionError("batch size", expected="1 or more", found=str(batch_size))
        running = self._session(role)
        dtype = np.uint8 if role == "encoder" else np.float32
        size = min(batch_size, -(-len(rows) // self.runs) or 1)

        def run(start: int) -> None:
            batch = np.ascontiguousarray(rows[start : start + size], dtype)
            out[start : start + size] = run_session(running, output, name, batch)

        starts = range(0, len(rows), size)
        for _ in map(run, starts) if len(starts) == 1 or self.runs == 1 else self._executor().map(run, starts):
            pass

    def _executor(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            self._runners = self._runners or ThreadPoolExecutor(self.runs)
            return self._runners

    def _session(self, role: str) -> RunningSession:
        with self._lock:
            if role not in self._sessions:
                threads = self._threads
                if self.runs > 1:
                    threads = max((threads or cores()) // self.runs, 1)
                running = open_session(
                    self.bundle.graph(role), self._provider, threads=threads, spinning=self.runs == 1
                )
                self._check_graph(role, running.session)
                self._sessions[role] = running
            return self._sessions[role]

    def _check_graph(self, role: str, session: Any) -> None:
        """The graph itself must say it is this model's: model.json and a graph may have been put together by hand."""
        found = session.get_modelmeta().custom_metadata_map
        for key, value in self.bundle.description.items():
            if found.get(key) != value:
                raise BundleError(
                    f"{self.bundle.path}/{role}.onnx: {key}",
                    expected=value,
                    found=str(found.get(key))[:200],
                    fix="copy the whole model folder again, or export it again",
                )
        wanted = [("image", "tensor(uint8)", 4)] if role == "encoder" else [("latent", "tensor(float)", 2)]
        if [(i.name, i.type, len(i.shape)) for i in session.get_inputs()] != wanted:
            raise BundleError(f"{self.bundle.path}/{role}.onnx", expected=f"the input {wanted}", found="another")
