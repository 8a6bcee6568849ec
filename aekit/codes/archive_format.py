"""The code format .aek: what the registry of formats needs of archives."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aekit.codes.archive import Archive, ArchiveWriter, staged_archive
from aekit.codes.formats import Description
from aekit.errors import CodesError
from aekit.model.bundle import Bundle
from aekit.outputs.journal import Journal


@contextlib.contextmanager
def open_stored(path: Path, *, index: bool, salvage: bool) -> Iterator[Archive]:
    """Yield the archive at `path`, as Archive.open; the index is a part of it.

    Raises CodesError if it is damaged, and with `salvage` if nothing can be salvaged.
    """
    with Archive.open(path, salvage=salvage) as archive:
        if archive.loss and not len(archive):
            fault, fix = f"{path} is cut short or damaged", "use another copy: no image of this one is whole"
            raise CodesError(fault, expected="at least one whole block", found=f"none; lost: {archive.loss}", fix=fix)
        yield archive


@contextlib.contextmanager
def staged(
    out: Path, bundle: Bundle, dtype: str, journal: Journal, *, named: bool, append: bool
) -> Iterator[ArchiveWriter]:
    """Yield the writer of the archive `out`, as `staged_archive`; archives store uint8 only."""
    with staged_archive(out, bundle, named=named, append=append, journal=journal) as writer:
        yield writer


def describe(path: Path) -> Description:
    """Describe an archive. Every block is read and verified, but no code is decoded.

    The bits of a pixel count the whole file. Raises CodesError if the archive is missing or damaged.
    """
    with Archive.open(path) as archive:
        header, size, images = archive.header, path.stat().st_size, len(archive)
        failed = sum(place.inputs - place.rows for place in archive.places)
        parts = {"codes": 0, "names": 0}
        for place in archive.places:
            block = archive.block(place)
            parts["codes"] += len(block.codes)
            parts["names"] += len(block.names)
        parts["container"] = size - sum(parts.values())
        blocks, spec = len(archive.places), header.spec
        sizes = Counter(archive.sizes()) if spec.is_grid else Counter[tuple[int, int]]()
        qualities = sorted(Counter(archive.qualities()).items())
    shares = ", ".join(f"{name} {count / max(images, 1):.2f}" for name, count in parts.items())
    lines = [
        f"{path}: {images:,} {'code' if images == 1 else 'codes'} of {spec.code_dim:,} uint8 numbers"
        f"{f' for each {spec.grid.stride}x{spec.grid.stride} pixels' if spec.is_grid else ''}, "
        f"{size:,} bytes, {size / max(images, 1):.2f} per image ({shares})",
        f"  model {header.model_id}, {header.variant}, {header.spec.geometry}, tables {header.tables}",
        f"  {blocks:,} {'block' if blocks == 1 else 'blocks'}, all whole; "
        f"{failed:,} more {'input' if failed == 1 else 'inputs'} could not be read"
        + ("" if header.named else "; the images have no paths"),
    ]
    counts: dict[str, Any] = {"images": images, "failed": failed, "blocks": blocks, "bytes": size}
    if sizes:
        pixels = sum(height * width * count for (height, width), count in sizes.items())
        counts |= {"pixels": pixels}
        lines.append(f"  {_in_words(sizes)}; {pixels:,} pixels, {8 * size / pixels:.4f} bits a pixel")
    if qualities:
        counts |= {"qualities": dict(qualities)}
        several = ", ".join(f"{count:,} at {quality}" for quality, count in qualities)
        lines.append(f"  qualities (1 to {spec.qualities}): {several}")
    return Description({"path": str(path), **asdict(header), **counts, **parts}, tuple(lines))


def _in_words(sizes: Counter[tuple[int, int]]) -> str:
    """Return the sizes (height, width) of pictures as text."""
    if len(sizes) == 1:
        ((height, width),) = sizes
        return f"pictures of {width}x{height} pixels"
    small, large = (f"{width}x{height}" for height, width in (f(sizes, key=math.prod) for f in (min, max)))
    return f"pictures of {len(sizes):,} sizes, from {small} to {large} pixels"
