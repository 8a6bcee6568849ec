"""The sessions of one model: each graph is opened on first use, checked, and run on batches, several at a time."""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aekit.cores import cores
from aekit.errors import BundleError, OptionError, ProviderError, reason
from aekit.model.bundle import Bundle
from aekit.model.providers import RunningSession, lacks_memory, open_session, run_session

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MAX_THREADS = 4096
"""Largest number of CPU threads, and of parallel batches, that a model accepts."""

QUALITY = "quality"
"""Name of the second input of the graphs of a model that has qualities."""
ANY = "any"
"""Stands for a dimension of any size, in descriptions of a graph's inputs and outputs."""

_opening = threading.Lock()
"""Lock around the making of a session or an executor, so that threads that share a codec make only one."""


def _new_lock() -> None:
    """Give a forked child a new lock: a thread of the parent, which is not in the child, may hold the old one."""
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class Sessions:
    """The graphs `encoder` and `decoder` of one bundle in onnxruntime.

    Safe to share between threads. A forked process opens sessions of its own, because onnxruntime's threads do not
    survive a fork.
    """

    def __init__(self, bundle: Bundle, provider: str, threads: int | None, parallel_batches: int) -> None:
        """Check the options; open nothing.

        Raises OptionError if `threads` or `parallel_batches` is not from 1 to MAX_THREADS.
        """
        for name, value in (("threads", threads), ("parallel batches", parallel_batches)):
            if value is not None and not 1 <= value <= MAX_THREADS:
                raise OptionError(name, expected=f"1 to {MAX_THREADS:,}", found=f"{value:,}"[:80])
        self.bundle, self.provider_asked, self.threads = bundle, provider, threads
        self.parallel_batches = parallel_batches
        # By process id: a child must not close the parent's sessions, because that waits for the parent's threads.
        self._sessions: dict[tuple[int, str], RunningSession] = {}
        self._executors: dict[int, ThreadPoolExecutor] = {}

    @property
    def threads_per_batch(self) -> int:
        """CPU threads that compute one batch: the threads divided among the parallel batches, at least 1."""
        return max((self.threads or cores()) // self.parallel_batches, 1)

    def session(self, role: str) -> RunningSession:
        """Return the session on `encoder` or `decoder`, opened and checked on first use.

        Raises BundleError if the graph is missing, damaged or from another model; ProviderError if the provider can't
        run it.
        """
        key = os.getpid(), role
        with _opening:
            if key not in self._sessions:
                alone = self.parallel_batches == 1
                running = open_session(
                    self.bundle.graph(role),
                    self.provider_asked,
                    # If nobody gave a number, a batch that runs alone uses as many threads as onnxruntime chooses.
                    threads=self.threads if alone else self.threads_per_batch,
                    spinning=alone,
                    one_shape=not self.bundle.spec.is_grid,
                )
                self._check_graph(role, running.session)
                self._sessions[key] = running
            return self._sessions[key]

    def run(self, role: str, output: str, name: str, rows: npt.NDArray[Any], out: Any, batch_size: int) -> None:
        """Run the graph of `role` on `rows` [n, …], its input called `name`, and write its `output` into `out` [n, …].

        `batch_size` is 1 or more. Raises the errors of `run_batch`.
        """
        size = min(batch_size, -(-len(rows) // self.parallel_batches) or 1)
        starts = range(0, len(rows), size)
        self.session(role)  # an unusable graph is an error even if there is no row
        self.each(
            [
                partial(self.run_batch, role, output, name, rows[start : start + size], out[start : start + size])
                for start in starts
            ]
        )

    def run_batch(
        self, role: str, output: str, name: str, rows: npt.NDArray[Any], out: Any, quality: Sequence[int] = ()
    ) -> None:
        """Run the graph of `role` once on `rows` [n, …], its input called `name`; write its `output` into `out` [n, …].

        `quality` holds the quality of each row, for a model that has qualities.

        Raises BundleError or ProviderError as `session` does, ProviderError if the run fails, and BundleError if the
        graph computes another shape or NaN.
        """
        running = self.session(role)
        batch = np.ascontiguousarray(rows, np.uint8 if role == "encoder" else np.float32)
        try:
            inputs = {name: batch, **({QUALITY: np.array(quality, np.int64)} if quality else {})}
            values = run_session(running, output, inputs)
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime raises its own classes, without a public base
            if running.provider == "cpu" and lacks_memory(error):
                raise MemoryError from error
            what = f"{self._file(role)} could not be run on {len(batch)} rows"
            raise ProviderError(what, found=reason(error, 300)) from error
        if values.shape != out.shape:  # numpy would repeat one row to fill the places of the others
            raise BundleError(f"{self._file(role)}: {output}", expected=f"shape {out.shape}", found=str(values.shape))
        if values.dtype.kind == "f":
            if np.isnan(values).any():
                raise BundleError(f"{self._file(role)}: {output}", expected="numbers", found="NaN")
            # Half precision would turn large values into infinity, which can't be decoded.
            values = values.clip(np.finfo(out.dtype).min, np.finfo(out.dtype).max)
        out[...] = values

    def each(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Do all tasks, `parallel_batches` at a time. Raises the error of the first task that fails."""
        alone = len(tasks) <= 1 or self.parallel_batches == 1
        for _ in map(_call, tasks) if alone else self._executor().map(_call, tasks):
            pass

    def _executor(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        with _opening:
            if (process := os.getpid()) not in self._executors:
                self._executors[process] = ThreadPoolExecutor(self.parallel_batches)
            return self._executors[process]

    def _file(self, role: str) -> Path:
        return self.bundle.path / f"{role}.onnx"

    def _check_graph(self, role: str, session: Any) -> None:
        """Raise BundleError unless the graph itself says that it is this model's and has the right inputs and outputs.

        The checksums in model.json do not prove it: the folder may have been put together by hand.
        """
        metadata = session.get_modelmeta().custom_metadata_map
        for key, value in self.bundle.description.items():
            if metadata.get(key) != value:
                raise BundleError(
                    f"{self._file(role)}: {key}",
                    expected=value,
                    found=str(metadata.get(key))[:200],
                    fix="copy the whole model folder again, or export it again",
                )
        spec = self.bundle.spec
        places = [ANY, ANY] if spec.is_grid else []
        pixels = [ANY, ANY, spec.grid.channels] if spec.is_grid else list(spec.fixed.shape)
        image, numbers = ("image", "tensor(uint8)", pixels), [*places, spec.code_dim]
        latent, code = ("latent", "tensor(float)", numbers), ("code", "tensor(uint8)", numbers)
        more: list[Any] = [(QUALITY, "tensor(int64)", [])] if spec.has_qualities else []
        expected = ([image, *more], [latent, code]) if role == "encoder" else ([latent, *more], [image])
        given = tuple(_described(values) for values in (session.get_inputs(), session.get_outputs()))
        if given != expected:
            raise BundleError(
                str(self._file(role)),
                expected=f"(inputs, outputs) {expected}, for any number of images",
                found=str(given)[:300],
                fix="export the model again",
            )


def _call(task: Callable[[], None]) -> None:
    task()


def _described(values: Any) -> list[tuple[str, str, Any]]:
    """Return name, type and shape of a graph's inputs or outputs; a first dimension of any size is left out."""
    shapes = [[size if isinstance(size, int) else ANY for size in value.shape] for value in values]
    return [
        (value.name, value.type, shape[1:] if shape[:1] == [ANY] else shape)
        for value, shape in zip(values, shapes, strict=True)
    ]
