"""aekit info: say what a model folder or a code file is."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.common import JsonOption, emit


def info(
    path: Annotated[Path, typer.Argument(help="Model folder or code file.", envvar="AEKIT_MODEL")] = Path("model"),
    as_json: JsonOption = False,
) -> None:
    """Say what a model folder or a code file holds; reads no graph and runs nothing."""
    from aekit.bundle import Bundle
    from aekit.codes import CodeFile

    if path.suffix == ".npy":
        codes = CodeFile.open(path)
        header = codes.header or {}
        lines = [f"{path}: {len(codes.codes):,} codes of {codes.codes.shape[1]} {codes.codes.dtype}"]
        lines += [f"  {name}: {value}" for name, value in header.items()]
        emit({"path": str(path), **header}, lines, as_json)
        return
    bundle = Bundle.read(path)
    what = f"{bundle.variant}, {bundle.spec.geometry}, {bundle.spec.code_dim} numbers a code"
    lines = [f"{path}: model {bundle.model_id}, {what}"]
    facts = dict(bundle.manifest)
    if "latent" in facts:  # its arrays, as base64, are of no use to a reader
        facts["latent"] = {"source": facts["latent"].get("source"), "holds": sorted(facts["latent"])}
    lines += [f"  {name}: {value}" for name, value in facts.items() if name not in ("spec", "model_id")]
    emit({"path": str(path), **facts}, lines, as_json)
