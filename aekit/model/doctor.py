"""Find out what this install can run a model on, and where the nodes of the real graphs run.

wheels of onnxruntime, versions ─▶ offered providers ─▶ a session on each, its nodes by provider ─▶ Report
"""

import json
import os
import platform
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np

from aekit._version import __version__
from aekit.cores import cores
from aekit.errors import ProviderError, reason
from aekit.model.bundle import Bundle
from aekit.model.providers import PROVIDERS, onnxruntime, open_session
from aekit.spec import ModelSpec


@dataclass(frozen=True)
class Trial:
    """Result of running one of the model's graphs on one provider."""

    graph: str
    """`encoder` or `decoder`."""
    provider: str
    """The provider that was asked for: a name in PROVIDERS."""
    problem: str
    """Why the provider can't run the whole graph; empty if it can."""
    nodes: dict[str, int]
    """Nodes that each provider ran, after onnxruntime's optimiser, by onnxruntime's names; empty if none ran."""


@dataclass(frozen=True)
class Report:
    """Facts about this install."""

    aekit: str
    """Version of aekit."""
    python: str
    """Version of Python."""
    system: str
    """Operating system and processor architecture."""
    cores: int
    """Number of processor cores that this process may use."""
    versions: dict[str, str]
    """Versions of the packages that the runtime needs."""
    wheels: tuple[str, ...]
    """Installed distributions that hold the package `onnxruntime`. There must be exactly one."""
    plugins: tuple[str, ...]
    """Installed plugin providers, which work beside a wheel."""
    offered: tuple[str, ...]
    """Providers that this onnxruntime was built with, by their names in PROVIDERS."""
    telemetry: bool
    """Whether onnxruntime may send usage data."""
    trials: tuple[Trial, ...]
    """One trial for each graph and each offered provider; empty without a model."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Everything that is wrong with the install, one sentence each.

        A provider that can't run the graph is not a problem as long as the CPU can.
        """
        problems = []
        if len(self.wheels) != 1:
            problems.append(
                f"{len(self.wheels)} onnxruntime wheels ({', '.join(self.wheels) or 'none'}), expected one: they "
                "overwrite each other; uninstall all of them, then install the one you want"
            )
        if self.telemetry:
            problems.append("onnxruntime may send usage data: leave ORT_DISABLE_TELEMETRY at 1")
        cpu = [f"{trial.graph}: {trial.problem}" for trial in self.trials if trial.provider == "cpu" and trial.problem]
        return (*problems, *cpu)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "problems": list(self.problems)}


def examine(bundle: Bundle | None) -> Report:
    """Examine the install. With a model, also run each of its graphs that is present on each provider.

    Raises BundleError if a graph is damaged.
    """
    ort = onnxruntime()
    names = {"onnxruntime", "numpy", "pillow", "typer"}
    installed = dict[str, str]()
    for package in distributions():  # in the order of sys.path: Python imports the first of two with one name
        installed.setdefault(str(package.name).lower().replace("_", "-"), package.version)
    full = ort.get_available_providers()
    offered = tuple(name for name, theirs in PROVIDERS.items() if theirs in full)
    roles = [role for role in ("encoder", "decoder") if bundle and (bundle.path / f"{role}.onnx").exists()]
    return Report(
        aekit=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=cores(),
        versions={"onnxruntime": ort.__version__, **{name: installed[name] for name in sorted(names & set(installed))}},
        wheels=tuple(sorted(name for name, version in installed.items() if wheel_kind(name, version) == "wheel")),
        plugins=tuple(sorted(name for name, version in installed.items() if wheel_kind(name, version) == "plugin")),
        offered=offered,
        telemetry=os.environ.get("ORT_DISABLE_TELEMETRY") != "1",
        trials=tuple(_try(bundle, role, name) for role in roles for name in offered) if bundle else (),
    )


def wheel_kind(name: str, version: str) -> str:
    """What an installed distribution is to onnxruntime: `wheel`, `plugin` or nothing (empty).

    A wheel holds the package `onnxruntime`, and two wheels overwrite each other. A plugin provider is installed beside
    a wheel and registered with `onnxruntime.register_execution_provider_library`: onnxruntime-ep-NAME, and
    onnxruntime-qnn from version 2 (its versions 1 were wheels).
    """
    if name.startswith(("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools")):
        return ""  # packages with import names of their own
    if name.startswith("onnxruntime-ep-"):
        return "plugin"
    if name == "onnxruntime-qnn" and not version.startswith(("0.", "1.")):
        return "plugin"
    return "wheel" if name == "onnxruntime" or name.startswith(("onnxruntime-", "ort-")) else ""


def _example_shapes(spec: ModelSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of two images and of their codes. For grid codes the sides are no multiples of the stride."""
    if not spec.is_grid:
        return (2, *spec.fixed.shape), (2, spec.code_dim)
    height, width = 2 * spec.grid.stride + 1, 3 * spec.grid.stride - 1
    return (2, height, width, spec.grid.channels), (2, *spec.grid.code_shape(height, width), spec.code_dim)


def _try(bundle: Bundle, role: str, provider: str) -> Trial:
    graph = bundle.graph(role)
    try:
        with tempfile.TemporaryDirectory() as folder:  # for the profile, from which the nodes are counted
            running = open_session(graph, provider, profile=Path(folder) / "run")
            session = running.session
            pixels, numbers = _example_shapes(bundle.spec)
            rows = np.zeros(pixels, np.uint8) if role == "encoder" else np.zeros(numbers, np.float32)
            session.run(None, {session.get_inputs()[0].name: rows})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    except ProviderError as error:
        return Trial(role, provider, error.found or error.what, {})
    except FileNotFoundError:  # raised by tempfile
        return Trial(role, provider, "no folder for temporary files can be written; set TMPDIR to one that can", {})
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime raises its own classes, without a public base
        return Trial(role, provider, reason(error, 200), {})
    ran = {
        event["args"]["node_index"]: event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and "provider" in event.get("args", {}) and "node_index" in event["args"]
    }
    return Trial(role, provider, "", dict(Counter(ran.values())))
