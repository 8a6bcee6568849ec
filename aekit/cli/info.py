"""aekit info: say what a model folder or a code file is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from aekit.cli.common import JsonOption, emit


def info(
    path: Annotated[Path, typer.Argument(help="Model folder, code file or archive.", envvar="AEKIT_MODEL")] = Path(
        "model"
    ),
    as_json: JsonOption = False,
) -> None:
    """Say what a model folder, a code file or an archive holds; reads no graph and runs nothing."""
    from aekit.codes.npy import CodeFile
    from aekit.errors import SourceError
    from aekit.images.writing import MARKER
    from aekit.model.bundle import Bundle

    if not path.exists() and path.with_name(f"{path.name}.journal").exists():
        found, fix = "a job that was cut short", "run it again with --resume"
        raise SourceError(str(path), expected="what a job has finished", found=found, fix=fix)
    if path.suffix == ".aek":
        facts, lines = _archive(path)
        emit(facts, lines, as_json)
        return
    if path.suffix == ".npy":
        codes = CodeFile.open(path)
        header = codes.header or {}
        lines = [f"{path}: {len(codes.codes):,} codes of {codes.codes.shape[1]} {codes.codes.dtype}"]
        lines += [f"  {name}: {value}" for name, value in header.items()]
        emit({"path": str(path), **header}, lines, as_json)
        return
    if not path.is_dir():
        expected = "a model folder, codes (NAME.npy) or an archive (NAME.aek)"
        fix = f"the codes are {path.with_suffix('.npy').name}" if path.suffix == ".jsonl" else ""
        found = "another file" if path.exists() else "nothing there"
        raise SourceError(str(path), expected=expected, found=found, fix=fix)
    if (path / MARKER).exists():
        raise SourceError(str(path), expected="a model folder or codes", found="pictures that aekit wrote")
    bundle = Bundle.read(path)
    what = f"{bundle.variant}, {bundle.spec.geometry}, {bundle.spec.code_dim} numbers a code"
    lines = [f"{path}: model {bundle.model_id}, {what}"]
    facts = dict(bundle.manifest)
    if "latent" in facts:  # its arrays, as base64, are of no use to a reader
        facts["latent"] = {"source": facts["latent"].get("source"), "holds": sorted(facts["latent"])}
    from aekit.codes.tables import read_tables

    facts["tables"] = read_tables(bundle).digest if "tables" in facts else None
    lines += [f"  {name}: {value}" for name, value in facts.items() if name not in ("spec", "model_id")]
    emit({"path": str(path), **facts}, lines, as_json)


def _archive(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What an archive holds: every block is read and verified, no code is decoded."""
    from aekit.codes.archive import Archive

    with Archive.open(path) as archive:
        header, size = archive.header, path.stat().st_size
        failed = sum(place.inputs - place.rows for place in archive.places)
        parts = {"codes": 0, "names": 0}
        for place in archive.places:
            block = archive.block(place)
            parts["codes"] += len(block.codes)
            parts["names"] += len(block.names)
        parts["container"] = size - sum(parts.values())
        counts = {"images": len(archive), "failed": failed, "blocks": len(archive.places), "bytes": size}
        facts = {"path": str(path), **asdict(header), **counts, **parts}
    each = {name: count / max(len(archive), 1) for name, count in parts.items()}
    lines = [
        f"{path}: {len(archive):,} codes of {header.spec.code_dim} uint8, {size:,} bytes, "
        f"{size / max(len(archive), 1):.2f} an image: "
        + ", ".join(f"{name} {count:.2f}" for name, count in each.items()),
        f"  model {header.model_id}, {header.variant}, {header.spec.geometry}, tables {header.tables}",
        f"  {facts['blocks']:,} blocks, all whole; {failed:,} more inputs could not be read"
        + ("" if header.named else "; the images have no paths"),
    ]
    return facts, lines
