"""Say what this install can run a model on, and what a session on the real model truly gets.

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
from aekit.errors import ProviderError
from aekit.model.bundle import Bundle
from aekit.model.providers import PROVIDERS, onnxruntime, open_session
from aekit.workers import cores


@dataclass(frozen=True)
class Trial:
    """What a session on one of the model's graphs got from a provider."""

    graph: str
    """`encoder` or `decoder`."""
    provider: str
    """The one that was asked for, a name of PROVIDERS."""
    problem: str
    """Why it can't carry the graph whole; empty if it does."""
    nodes: dict[str, int]
    """Nodes each of onnxruntime's providers ran, after its optimiser merged them; empty if nothing ran."""


@dataclass(frozen=True)
class Report:
    """What there is to know of this install."""

    aekit: str
    python: str
    system: str
    cores: int
    versions: dict[str, str]
    """Of the packages the runtime stands on."""
    wheels: tuple[str, ...]
    """Installed distributions that bring an `onnxruntime` package: one is right."""
    offered: tuple[str, ...]
    """Names of PROVIDERS that this onnxruntime was built with."""
    telemetry: bool
    """Whether onnxruntime may send usage data."""
    trials: tuple[Trial, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the install, a sentence each; providers that don't carry the graph are none of it."""
        found = []
        if len(self.wheels) != 1:
            found.append(
                f"{len(self.wheels)} onnxruntime wheels ({', '.join(self.wheels) or 'none'}) where one is right: they "
                "write over each other; uninstall all, then install the one that is wanted"
            )
        if self.telemetry:
            found.append("onnxruntime may send usage data: leave ORT_DISABLE_TELEMETRY at 1")
        cpu = [f"{trial.graph}: {trial.problem}" for trial in self.trials if trial.provider == "cpu" and trial.problem]
        return (*found, *cpu)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "problems": list(self.problems)}


def examine(bundle: Bundle | None) -> Report:
    """Look at the install and, if there is a model, run each graph of it that is there on each provider on offer."""
    ort = onnxruntime()
    names = {"onnxruntime", "numpy", "pillow", "typer"}
    installed = dict[str, str]()
    for found in distributions():  # in the order of sys.path: the first is the one that is imported
        installed.setdefault(str(found.name).lower().replace("_", "-"), found.version)
    full = ort.get_available_providers()
    offered = tuple(name for name, theirs in PROVIDERS.items() if theirs in full)
    roles = [role for role in ("encoder", "decoder") if bundle and (bundle.path / f"{role}.onnx").exists()]
    return Report(
        aekit=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cores=cores(),
        versions={"onnxruntime": ort.__version__, **{name: installed[name] for name in sorted(names & set(installed))}},
        wheels=tuple(sorted(name for name in installed if _brings_onnxruntime(name))),
        offered=offered,
        telemetry=os.environ.get("ORT_DISABLE_TELEMETRY") != "1",
        trials=tuple(_try(bundle, role, name) for role in roles for name in offered) if bundle else (),
    )


def _brings_onnxruntime(name: str) -> bool:
    others = ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools")  # packages of other import names
    return (name == "onnxruntime" or name.startswith(("onnxruntime-", "ort-"))) and not name.startswith(others)


def _try(bundle: Bundle, role: str, provider: str) -> Trial:
    graph = bundle.graph(role)
    try:
        with tempfile.TemporaryDirectory() as folder:
            running = open_session(graph, provider, profile=Path(folder) / "run")
            session = running.session
            rows = (
                np.zeros((2, *bundle.spec.geometry.shape), np.uint8)
                if role == "encoder"
                else np.zeros((2, bundle.spec.code_dim), np.float32)
            )
            session.run(None, {session.get_inputs()[0].name: rows})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    except ProviderError as error:
        return Trial(role, provider, error.found or error.what, {})
    except Exception as error:  # onnxruntime raises its own classes, without a public base
        return Trial(role, provider, str(error).split("\n")[0][:200], {})
    ran = {
        event["args"]["node_index"]: event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and "provider" in event.get("args", {}) and "node_index" in event["args"]
    }
    return Trial(role, provider, "", dict(Counter(ran.values())))
