"""An archive's facts, and ways to write and read one, for the tests of archives."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from test_entropy import latent_like

from aekit.codes.archive import Archive, ArchiveWriter, writer
from aekit.codes.archive.container import Header
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables
from aekit.images.records import Record
from aekit.model.bundle import Bundle

BUNDLE = Bundle.read(TINY)
RECORDS = (
    Record("a/001.png", 16, 16),
    Record("a/002.png", 20, 10),
    Record("a/003.png", error="empty file"),
    Record("b/\udcff\n.png", 1, 70_000),
    Record("b/ö.png", error="damaged image (ö)"),
    Record("z.png", 3, 2),
)
CODES = latent_like(4, 4, 3.0, seed=1)
HEAD = Header.of(BUNDLE, named=True).to_bytes()


def model(tables: FrequencyTables) -> Bundle:
    """The tiny model's facts, with other tables and the code size they are for."""
    spec = dataclasses.replace(BUNDLE.spec, code_dim=len(tables.frequencies))
    return dataclasses.replace(BUNDLE, spec=spec, manifest={**BUNDLE.manifest, "tables": pack_tables(tables)})


def rows_of(records: Sequence[Record]) -> int:
    return sum(not record.error for record in records)


def written(codes: Any, records: Sequence[Record] | None, bundle: Bundle = BUNDLE, step: int = 1000) -> bytes:
    """The archive of these, added `step` inputs at a time."""
    file = io.BytesIO()
    file.fileno = lambda: (_ for _ in ()).throw(OSError)  # type: ignore[method-assign]
    made = ArchiveWriter(file, bundle, named=records is not None)
    row = 0
    for start in range(0, len(codes) if records is None else len(records), step):
        batch = () if records is None else records[start : start + step]
        count = rows_of(batch) if records is not None else min(step, len(codes) - start)
        made.add(codes[row : row + count], batch)
        row += count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer.os, "fsync", lambda _: None)
        file.fileno = lambda: 0  # type: ignore[method-assign]
        made.finish()
    return file.getvalue()


def opened(data: bytes, folder: Path, bundle: Bundle = BUNDLE, **options: Any) -> Archive:
    path = folder / "codes.aek"
    path.write_bytes(data)
    return Archive.open(path, bundle, **options)


def read_whole(data: bytes, folder: Path, bundle: Bundle = BUNDLE) -> tuple[Any, list[Record]]:
    with opened(data, folder, bundle) as archive:
        return archive.codes(), list(archive.inputs())


def numbered(start: int, stop: int) -> list[Record]:
    return [Record(f"images/{row:07d}.png", 28, 28) for row in range(start, stop)]
