"""Open sessions on execution providers by name, and check what a session really runs on.

When a provider fails, onnxruntime only warns and uses the CPU. Here a named provider either runs the whole graph or
raises ProviderError. With `auto`, the session reports the provider that it got.
"""

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from aekit.errors import ProviderError, reason
from aekit.signals import signals_delayed

# onnxruntime reads this at its import; without it, its wheels send usage data. onnxruntime is imported by the first
# session, not here: the import takes as long as thousands of small images, and worker processes must be forked first.
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
"""Names that --provider accepts, with onnxruntime's names."""

_AUTO = ("cuda", "coreml", "directml", "cpu")
"""Providers that `auto` tries, in this order. They run any float graph without compiling it first."""


_ON_GPU = ("cuda", "tensorrt", "directml", "webgpu")
"""Providers with their own memory, to which images are copied."""


def onnxruntime() -> Any:
    """Import onnxruntime and return it.

    SIGINT and SIGTERM wait until the import ends, because its C++ code would turn a KeyboardInterrupt into an
    ImportError.
    """
    with signals_delayed():
        return importlib.import_module("onnxruntime")


@dataclass(frozen=True)
class RunningSession:
    """A session and the provider that it runs on, checked."""

    session: Any
    """onnxruntime.InferenceSession."""
    provider: str
    """A name in PROVIDERS."""


@dataclass(frozen=True)
class _Wanted:
    """Settings of a session; see open_session."""

    threads: int | None
    spinning: bool
    profile: Path | None
    one_shape: bool


def open_session(
    graph: bytes,
    provider: str = "auto",
    *,
    threads: int | None = None,
    spinning: bool = True,
    profile: Path | None = None,
    one_shape: bool = True,
) -> RunningSession:
    """Open a session on the ONNX file `graph`. A named provider runs the whole graph; `auto` tries several.

    Args:
        threads: largest number of CPU threads of one run; None for every core.
        spinning: threads wait for work in a busy loop. That answers sooner, but takes the core from other work.
        profile: start of the name of a file in which onnxruntime records every node that it runs; None for no file.
        one_shape: inputs differ in their first dimension alone. Without it onnxruntime plans no memory by shape: the
            plans of differing shapes took half as much memory again, and saved no time.

    Raises ProviderError if the name is unknown, this onnxruntime lacks the provider, or the provider can't run the
    whole graph.
    """
    wanted = _Wanted(threads, spinning, profile, one_shape)
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
            fix="install the onnxruntime wheel that has it, and no other: two wheels overwrite each other",
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
    # Warnings are checked below, and errors on the CPU arrive as exceptions. Other providers only log why they fail.
    options.log_severity_level = 4 if provider == "cpu" else 3
    if wanted.threads is not None:
        options.intra_op_num_threads = wanted.threads
    if wanted.profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(wanted.profile)
    if not wanted.one_shape:
        options.enable_mem_pattern = False
    if not wanted.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != "cpu":
        # onnxruntime then refuses to make a session that would run any node on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(graph, options, providers=[PROVIDERS[provider]])
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime raises its own classes, without a public base
        if provider == "cpu" and lacks_memory(error):
            raise MemoryError from error
        raise ProviderError(f"provider {provider!r} can't run this graph", found=reason(error, 300)) from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise ProviderError(
            f"provider {provider!r} would not run",
            found=f"the session on {', '.join(session.get_providers())}",
            fix="check its driver and libraries, or give --provider cpu",
        )
    session.disable_fallback()
    return session


def lacks_memory(error: Exception) -> bool:
    """Return whether onnxruntime raised this error because the system gave it no memory. Only its text tells."""
    text = str(error)
    return any(words in text for words in ("bad_alloc", "bad allocation", "Failed to allocate memory"))


def run_session(running: RunningSession, output: str, inputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Run a graph on its inputs by name, and return the output called `output`.

    On a GPU an IO binding is used: it copies each way once, and leaves out the outputs that are not asked for.
    """
    if running.provider not in _ON_GPU:
        return running.session.run([output], inputs)[0]
    binding = running.session.io_binding()
    for name, batch in inputs.items():
        binding.bind_cpu_input(name, batch)
    binding.bind_output(output)
    running.session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]
