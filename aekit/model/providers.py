"""Pick execution providers by name and prove what a session really runs on.

onnxruntime falls back to the CPU with a mere warning. Here a named provider either carries the whole graph or is an
error, and `auto` says what it took.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from aekit.errors import ProviderError

# onnxruntime reads this when it is imported; its wheels send usage data otherwise. The first session
# imports it: that takes as long as thousands of small images, and processes that read are forked before it has threads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""The names --provider takes, and onnxruntime's names for them."""

_AUTO = ("cuda", "coreml", "directml", "cpu")
"""What `auto` tries, in order: providers that run any float graph without compiling it first."""


_ON_GPU = ("cuda", "tensorrt", "directml", "webgpu")
"""Providers with memory of their own."""


def onnxruntime() -> Any:
    """The module, imported. INT and TERM wait meanwhile: its C++ would make an ImportError of the KeyboardInterrupt."""
    import signal
    import threading

    if "onnxruntime" in sys.modules or threading.current_thread() is not threading.main_thread():
        return importlib.import_module("onnxruntime")
    came = list[int]()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    held = {number: handler for number, handler in handlers.items() if callable(handler)}  # not those that are ignored
    for number in held:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        return importlib.import_module("onnxruntime")
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@dataclass(frozen=True)
class RunningSession:
    """A session and the provider it runs on, proved."""

    session: Any
    """onnxruntime.InferenceSession."""
    provider: str
    """A name of PROVIDERS."""


@dataclass(frozen=True)
class _Wanted:
    """The settings of a session; see open_session."""

    threads: int | None
    spinning: bool
    profile: Path | None


def open_session(
    graph: bytes,
    provider: str = "auto",
    *,
    threads: int | None = None,
    spinning: bool = True,
    profile: Path | None = None,
) -> RunningSession:
    """A session on `graph` that runs on `provider`, and on nothing else if it was named.

    `threads` bounds the CPU threads inside an operator; None leaves it to onnxruntime, which takes every core.
    `spinning` lets them wait in a busy loop, which answers sooner and takes the core from whatever else has work.
    `profile` is how the name of a file begins in which onnxruntime notes every node it ran.

    Raises ProviderError if the name is unknown, this onnxruntime lacks the provider, or the provider does not carry the
    whole graph.
    """
    wanted = _Wanted(threads, spinning, profile)
    if provider == "auto":
        return _open_best(graph, wanted)
    if provider not in PROVIDERS:
        raise ProviderError(f"provider {provider!r}", expected=f"auto or one of {', '.join(PROVIDERS)}")
    ort = onnxruntime()

    offered = ort.get_available_providers()
    if PROVIDERS[provider] not in offered:
        here = [name for name, full in PROVIDERS.items() if full in offered]
        raise ProviderError(
            f"provider {provider!r} is not in this onnxruntime {ort.__version__}",
            found=", ".join(here),
            fix="install the onnxruntime wheel that has it, alone: two of them in one environment collide",
        )
    return RunningSession(_session(graph, provider, wanted), provider)


def _open_best(graph: bytes, wanted: _Wanted) -> RunningSession:
    ort = onnxruntime()

    offered = ort.get_available_providers()
    problem: ProviderError | None = None
    for name in _AUTO:
        if PROVIDERS[name] in offered:
            try:
                return RunningSession(_session(graph, name, wanted), name)
            except ProviderError as error:
                problem = error
    raise problem or ProviderError("no usable provider", found=", ".join(offered))


def _session(graph: bytes, provider: str, wanted: _Wanted) -> Any:
    ort = onnxruntime()

    options = ort.SessionOptions()
    options.log_severity_level = 3  # its warnings repeat what is checked below; errors still raise
    if wanted.threads is not None:
        options.intra_op_num_threads = wanted.threads
    if wanted.profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(wanted.profile)
    if not wanted.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != "cpu":
        # Proof that no node was quietly given to the CPU: onnxruntime then refuses to make the session.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(graph, options, providers=[PROVIDERS[provider]])
    except Exception as error:  # onnxruntime raises its own classes, without a public base
        reason = str(error).split("\n")[0][:300]
        raise ProviderError(f"provider {provider!r} does not carry this graph", found=reason) from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise ProviderError(
            f"provider {provider!r} would not run",
            found=f"the session on {', '.join(session.get_providers())}",
            fix="check its driver and libraries, or give --provider cpu",
        )
    session.disable_fallback()
    return session


def run_session(running: RunningSession, output: str, name: str, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One output of a run on `batch`, the input called `name`; on a GPU through an IO binding, which copies each way
    once and leaves out what is not asked for."""
    if running.provider not in _ON_GPU:
        return running.session.run([output], {name: batch})[0]
    binding = running.session.io_binding()
    binding.bind_cpu_input(name, batch)
    binding.bind_output(output)
    running.session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]
