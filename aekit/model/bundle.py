"""The model on disk: encoder.onnx, decoder.onnx and model.json, which holds their checksums and the model's identity.

A device needs model.json and only the graph that it runs. A missing graph is an error when it is asked for, not before.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aekit.errors import BundleError, reason
from aekit.files import read_regular
from aekit.json_files import read_json, write_json
from aekit.model.graph_check import check_self_contained
from aekit.spec import FORMAT_VERSION, ModelSpec

MANIFEST = "model.json"
ROLES = ("encoder", "decoder")
"""The graphs of a model."""
MAX_GRAPH_BYTES = 2 * 2**30
"""Largest graph accepted, in bytes: the limit of protocol buffers."""


@dataclass(frozen=True)
class Bundle:
    """A model folder whose model.json has been read and checked. Graphs are read and verified on request."""

    path: Path
    """The model folder."""
    spec: ModelSpec
    """The facts of the model that a device needs."""
    model_id: str
    """Hash over spec and weights, 16 hexadecimal digits. Code files store it."""
    variant: str
    """Precision that the graphs compute in: `fp32`, `fp16` or `int8`."""
    manifest: dict[str, Any]
    """All of model.json. In addition to the fields above, it has the checksums of the files, the measured parity, facts
    about training, and the distribution of the latents (see aekit.model.sampling)."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check model.json in the folder `path`. No graph is read.

        Raises BundleError if model.json is missing, unreadable, malformed or of a newer format; SpecError if its spec
        is malformed.
        """
        file = path / MANIFEST
        try:
            manifest = read_json(
                file, BundleError, "a model description", newest=FORMAT_VERSION, fix="export the model again"
            )
        except (FileNotFoundError, NotADirectoryError):
            is_run = (path / "config.json").exists()
            fix = (
                f"this is a run: make a model of it with `aekit export {path}`"
                if is_run
                else "make one with `aekit export`, or name another"
            )
            raise BundleError(str(path), expected=f"a model folder with {MANIFEST}", found="none", fix=fix) from None
        spec = ModelSpec.from_dict(manifest.get("spec"), str(file))
        for name in ("model_id", "variant"):
            if not isinstance(manifest.get(name), str) or not 0 < len(manifest[name]) <= 64:
                raise BundleError(f"{file}: {name}", expected="a short text", found=repr(manifest.get(name))[:80])
        for name in ("files", "training", "latent"):  # read by a device or by `aekit evaluate`
            if not isinstance(manifest.get(name, {}), dict):
                raise BundleError(f"{file}: {name}", expected="a JSON object", found=repr(manifest[name])[:80])
        return cls(path, spec, manifest["model_id"], manifest["variant"], manifest)

    def graph(self, role: str) -> bytes:
        """Read the graph of `role`, `encoder` or `decoder`, and verify it against the checksum in model.json.

        Raises BundleError if the file is missing or unreadable, is not the one that was exported, or would make
        onnxruntime open other files.
        """
        file = self.path / f"{role}.onnx"
        entry = self.manifest.get("files", {}).get(file.name)
        expected = entry.get("sha256") if isinstance(entry, dict) else None
        try:
            data = read_regular(file, MAX_GRAPH_BYTES)
        except FileNotFoundError:
            raise BundleError(
                str(file), expected="the graph", found="nothing there", fix=f"copy {file.name} here, or export again"
            ) from None
        except OSError as error:
            raise BundleError(str(file), expected="a graph", found=error.strerror or reason(error)) from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != expected:
            raise BundleError(
                f"{file} was altered",
                expected=f"SHA-256 {str(expected)[:16]}…",
                found=f"{digest[:16]}…",
                fix="copy the model again, or export it again",
            )
        check_self_contained(data, str(file))
        return data

    @property
    def description(self) -> dict[str, str]:
        """The metadata that each graph must carry. It is checked when the graph is loaded."""
        return graph_metadata(self.spec, self.model_id, self.variant)


def graph_file(folder: Path, role: str) -> Path:
    """Return the path of the graph of `role` in a model folder."""
    return folder / f"{role}.onnx"


def graph_metadata(spec: ModelSpec, model_id: str, variant: str) -> dict[str, str]:
    """Return the metadata_props of a graph, which identify it without model.json."""
    return {
        "aekit.format_version": str(spec.format_version),
        "aekit.model_id": model_id,
        "aekit.variant": variant,
        "aekit.spec": spec.canonical(),
    }


def write_bundle(
    folder: Path, graphs: dict[str, bytes], spec: ModelSpec, model_id: str, variant: str, facts: dict[str, Any]
) -> None:
    """Write the graphs and model.json into the existing folder `folder`. `facts` are further entries of model.json.

    `graphs` maps `encoder` and `decoder` to the bytes of their ONNX files. Raises OutputError or OSError if a file
    can't be written.

    A model of vector codes with a context model is written as FORMAT_VERSION, because older versions of aekit would
    write archives that its own readers refuse.
    """
    for role, data in graphs.items():
        graph_file(folder, role).write_bytes(data)
    write_manifest(folder, tuple(graphs), spec, model_id, variant, facts)


def write_manifest(
    folder: Path, roles: Sequence[str], spec: ModelSpec, model_id: str, variant: str, facts: dict[str, Any]
) -> None:
    """Write model.json for the graphs of `roles`, which lie in the folder. See write_bundle."""
    files = {}
    for role in roles:
        file = graph_file(folder, role)
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        files[file.name] = {"sha256": digest, "bytes": file.stat().st_size}
    version = FORMAT_VERSION if "context" in facts and not spec.is_grid else spec.format_version
    identity = {"format_version": version, "model_id": model_id, "variant": variant}
    manifest = {**identity, "spec": spec.to_dict(), "files": files, **facts}
    write_json(folder / MANIFEST, manifest)
