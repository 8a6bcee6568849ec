"""Codec: a model folder opened to turn images into codes and codes into images, on numpy arrays.

images uint8 [n, H, W, C] ── encoder.onnx ──▶ latents float32 [n, D], or codes uint8 [n, D]
images uint8 [n, H, W, C] ◀── decoder.onnx ── either of them
"""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from aekit.errors import BundleError, OptionError, ProviderError, ShapeError
from aekit.images.decode import Pixels
from aekit.model.bundle import Bundle
from aekit.model.providers import RunningSession, open_session, run_session
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

_BLOCK_BYTES = 2**26
"""Pixels of a job's block that is larger than a batch."""

_opening = threading.Lock()


def _new_lock() -> None:
    """In a forked child: the lock that another thread of the parent may have held would never be let go."""
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class Codec:
    """A model, ready to run; each graph is loaded on first use, so a device may hold one of them alone.

    Safe to share between threads. Processes may be forked from one that uses it, and it can be sent to those that are
    spawned: each loads the graphs again, because onnxruntime's threads do not survive a fork.
    """

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None, runs: int = 1) -> None:
        self.bundle = bundle
        self.runs = runs
        """Batches run at a time."""
        self._provider, self._threads = provider, threads
        # By process: the parent's sessions stay where they are in a child, since closing them would wait for threads
        # that it does not have.
        self._sessions: dict[tuple[int, str], RunningSession] = {}
        self._runners: dict[int, ThreadPoolExecutor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.bundle, self._provider, self._threads, self.runs)

    @classmethod
    def load(
        cls, path: str | Path = "model", provider: str = "auto", threads: int | None = None, runs: int = 1
    ) -> Self:
        """Open the model folder `path`.

        `provider` is `auto` or a name in `aekit.model.providers`; `threads` bounds the CPU threads. With 1 for
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

    @property
    def threads(self) -> int:
        """CPU threads of a run."""
        return max((self._threads or cores()) // self.runs, 1)

    def block(self, batch_size: int = BATCH_SIZE) -> int:
        """Images that a job takes at a time: a batch for each run, or less where there are so many cores or pixels that
        it would take much memory."""
        return max(batch_size, min(batch_size * self.runs, _BLOCK_BYTES // self.spec.geometry.pixels))

    def open(self) -> None:
        """Open both graphs, which else happens at the first use of each."""
        self._session("encoder")
        self._session("decoder")

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
                fix="aekit.images.decode.fit_array brings uint8 images to a model's geometry",
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
            try:
                values = run_session(running, output, name, batch)
            except Exception as error:  # onnxruntime raises its own classes, without a public base
                reason = str(error).split("\n")[0][:300]
                raise ProviderError(
                    f"{self._file(role)} could not be run on {len(batch)} rows", found=reason
                ) from error
            place = out[start : start + size]
            if values.shape != place.shape:  # numpy would repeat one row to fill the others' places
                raise BundleError(
                    f"{self._file(role)}: {output}", expected=f"shape {place.shape}", found=str(values.shape)
                )
            if values.dtype.kind == "f":
                if np.isnan(values).any():
                    raise BundleError(f"{self._file(role)}: {output}", expected="numbers", found="NaN")
                # As uint8 codes are clipped to their range, so are those of half precision: infinity can't be decoded.
                values = values.clip(np.finfo(out.dtype).min, np.finfo(out.dtype).max)
            place[...] = values

        starts = range(0, len(rows), size)
        for _ in map(run, starts) if len(starts) == 1 or self.runs == 1 else self._executor().map(run, starts):
            pass

    def _executor(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        with _opening:
            if (process := os.getpid()) not in self._runners:
                self._runners[process] = ThreadPoolExecutor(self.runs)
            return self._runners[process]

    def _session(self, role: str) -> RunningSession:
        key = os.getpid(), role
        with _opening:
            if key not in self._sessions:
                # One run at a time leaves the number to onnxruntime, if nobody said.
                threads = self.threads if self.runs > 1 else self._threads
                running = open_session(
                    self.bundle.graph(role), self._provider, threads=threads, spinning=self.runs == 1
                )
                self._check_graph(role, running.session)
                self._sessions[key] = running
            return self._sessions[key]

    def _file(self, role: str) -> Path:
        return self.bundle.path / f"{role}.onnx"

    def _check_graph(self, role: str, session: Any) -> None:
        """The graph itself must say it is this model's: model.json and a graph may have been put together by hand."""
        found = session.get_modelmeta().custom_metadata_map
        for key, value in self.bundle.description.items():
            if found.get(key) != value:
                raise BundleError(
                    f"{self._file(role)}: {key}",
                    expected=value,
                    found=str(found.get(key))[:200],
                    fix="copy the whole model folder again, or export it again",
                )
        image = "image", "tensor(uint8)", list(self.spec.geometry.shape)
        latent, code = (
            ("latent", "tensor(float)", [self.spec.code_dim]),
            ("code", "tensor(uint8)", [self.spec.code_dim]),
        )
        wanted = ([image], [latent, code]) if role == "encoder" else ([latent], [image])
        given = tuple(_facts(values) for values in (session.get_inputs(), session.get_outputs()))
        if given != wanted:
            raise BundleError(
                str(self._file(role)),
                expected=f"(inputs, outputs) {wanted}, of any number of images",
                found=str(given)[:300],
                fix="export the model again",
            )


def _facts(values: Any) -> list[tuple[str, str, Any]]:
    """A graph's inputs or outputs: name, type, and the sizes after a free first one; what has no such shape, whole."""
    return [
        (
            value.name,
            value.type,
            value.shape[1:] if value.shape and not isinstance(value.shape[0], int) else value.shape,
        )
        for value in values
    ]
