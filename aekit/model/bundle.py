"""The model on disk: encoder.onnx, decoder.onnx and model.json, with the checksums and the identity that bind them.

A device needs model.json and the one graph it runs: a missing graph is an error only when it is asked for.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aekit.errors import BundleError
from aekit.json_files import finite
from aekit.model.graph_check import check_self_contained
from aekit.spec import FORMAT_VERSION, ModelSpec

MANIFEST = "model.json"
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_GRAPH_BYTES = 2 * 2**30  # protobuf's own limit


@dataclass(frozen=True)
class Bundle:
    """A model folder whose model.json has been read and checked; graphs are read, and verified, when asked for."""

    path: Path
    spec: ModelSpec
    model_id: str
    """Hash over spec and weights, 16 hexadecimal digits; codes carry it."""
    variant: str
    """`fp32`, or the reduced precision the graphs run in."""
    manifest: dict[str, Any]
    """model.json whole: adds the files' checksums, the measured parity, facts of the training and of the latents (see
    aekit.model.sampling)."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check model.json of the folder `path`.

        Raises BundleError if it is missing, malformed or of a newer format, SpecError if its spec is.
        """
        file = path / MANIFEST
        try:
            if file.stat().st_size > MAX_MANIFEST_BYTES:
                raise BundleError(str(file), expected="a model description", found=f"{file.stat().st_size:,} bytes")
            manifest = json.loads(file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            is_run = (path / "config.json").exists()
            fix = (
                f"that is a run: `aekit export {path}` makes a model of it"
                if is_run
                else "make one with `aekit export`, or name another"
            )
            raise BundleError(str(path), expected=f"a model folder with {MANIFEST}", found="none", fix=fix) from None
        except (OSError, ValueError, RecursionError) as error:
            reason = str(error).split("\n")[0][:160]
            raise BundleError(str(file), expected="JSON", found=reason, fix="export the model again") from error
        version = manifest.get("format_version") if isinstance(manifest, dict) else None
        if not isinstance(version, int) or version < 1:
            raise BundleError(str(file), expected="a model description with format_version", found=repr(version)[:80])
        if version > FORMAT_VERSION:
            raise BundleError(
                str(file), expected=f"format {FORMAT_VERSION} or older", found=f"{version}", fix="update aekit"
            )
        spec = ModelSpec.from_dict(manifest.get("spec"), str(file))
        for name in ("model_id", "variant"):
            if not isinstance(manifest.get(name), str) or not 0 < len(manifest[name]) <= 64:
                raise BundleError(f"{file}: {name}", expected="a short text", found=repr(manifest.get(name))[:80])
        for name in ("files", "training", "latent"):  # the parts of the rest that a device or an evaluation reads
            if not isinstance(manifest.get(name, {}), dict):
                raise BundleError(f"{file}: {name}", expected="a table", found=repr(manifest[name])[:80])
        return cls(path, spec, manifest["model_id"], manifest["variant"], manifest)

    def graph(self, role: str) -> bytes:
        """The bytes of `encoder` or `decoder`, verified against the checksum in model.json.

        Raises BundleError if the file is missing, is not the one that was exported, or would open other files.
        """
        file = self.path / f"{role}.onnx"
        entry = self.manifest.get("files", {}).get(file.name)
        expected = entry.get("sha256") if isinstance(entry, dict) else None
        try:
            if file.stat().st_size > MAX_GRAPH_BYTES:
                raise BundleError(str(file), expected="a graph below 2 GiB", found=f"{file.stat().st_size:,} bytes")
            data = file.read_bytes()
        except FileNotFoundError:
            raise BundleError(
                str(file), expected="the graph", found="nothing there", fix=f"copy {file.name} here, or export again"
            ) from None
        except OSError as error:
            raise BundleError(str(file), expected="a readable file", found=error.strerror or str(error)) from error
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise BundleError(
                f"{file} was altered",
                expected=f"SHA-256 {str(expected)[:16]}…",
                found=f"{found[:16]}…",
                fix="copy the model again, or export it again",
            )
        check_self_contained(data, str(file))
        return data

    @property
    def description(self) -> dict[str, str]:
        """The metadata each graph must carry: what a graph is checked against when it is loaded."""
        return graph_metadata(self.spec, self.model_id, self.variant)


def graph_metadata(spec: ModelSpec, model_id: str, variant: str) -> dict[str, str]:
    """The metadata_props of a graph, so that it can be known without model.json."""
    return {
        "aekit.format_version": str(FORMAT_VERSION),
        "aekit.model_id": model_id,
        "aekit.variant": variant,
        "aekit.spec": spec.canonical(),
    }


def write_bundle(
    folder: Path, graphs: dict[str, bytes], spec: ModelSpec, model_id: str, variant: str, facts: dict[str, Any]
) -> None:
    """Write the graphs and model.json into `folder`, with `facts` beside what identifies the model."""
    files = {}
    for role, data in graphs.items():
        (folder / f"{role}.onnx").write_bytes(data)
        files[f"{role}.onnx"] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    identity = {"format_version": FORMAT_VERSION, "model_id": model_id, "variant": variant}
    manifest = {**identity, "spec": spec.to_dict(), "files": files, **facts}
    (folder / MANIFEST).write_text(json.dumps(finite(manifest), indent=1) + "\n", encoding="utf-8")
