"""Models of grid codes without graphs, made codes, and archives of them, for the tests of code files."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from archives import BUNDLE, rows_of
from test_entropy import latent_like

from aekit.codes.archive import ArchiveWriter, grid_blocks, parts, writer
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.grids import GridCodes
from aekit.spec import GridGeometry

SIZES = ((20, 33), (8, 8), (64, 25), (1, 70), (7, 3), (17, 16))
"""(height, width) of pictures, over and over."""
RECORDS = (
    Record("a/001.png", 33, 20),
    Record("a/002.png", 80_000, 80_000),  # encoded at a smaller size
    Record("a/003.png", error="empty file"),
    Record("b/\udcff\n.png", 25, 64),
    Record("b/ö.png", error="damaged image (ö)"),
    Record("z.png", 70, 1),
)


def grid_bundle(channels: int = 5, stride: int = 8, spread: float = 3.0) -> Bundle:
    """The facts of a model of grid codes, with fitted tables."""
    spec = dataclasses.replace(BUNDLE.spec, geometry=GridGeometry(stride, 3, 1, 1), code_dim=channels)
    tables = pack_tables(FrequencyTables.fit(latent_like(3000, channels, spread, seed=7)))
    return dataclasses.replace(BUNDLE, spec=spec, manifest={**BUNDLE.manifest, "tables": tables})


def made_codes(bundle: Bundle, sizes: Sequence[tuple[int, int]], seed: int = 0, spread: float = 3.0) -> GridCodes:
    """Codes of pictures of these sizes (height, width), as a trained encoder's."""
    codes = []
    for row, size in enumerate(sizes):
        h, w = bundle.spec.grid.code_shape(*size)
        codes.append(latent_like(h * w, bundle.spec.code_dim, spread, seed=seed + row).reshape(h, w, -1))
    return GridCodes(tuple(codes), tuple(sizes))


GRID = grid_bundle()
CODES = made_codes(GRID, SIZES[:4])


def written(codes: GridCodes, records: Sequence[Record] | None, bundle: Bundle = GRID, step: int = 1000) -> bytes:
    """The archive of these, added `step` inputs at a time."""
    file = io.BytesIO()
    made, row = ArchiveWriter(file, bundle, named=records is not None), 0
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


def small_parts(patch: pytest.MonkeyPatch, part: int = 60, block: int = 150) -> None:
    """Parts and blocks of few numbers."""
    patch.setattr(parts, "PART_NUMBERS", part)
    patch.setattr(grid_blocks, "BLOCK_NUMBERS", block)


def assert_same(found: Any, wanted: GridCodes) -> None:
    assert isinstance(found, GridCodes)
    assert found.sizes == wanted.sizes
    for one, other in zip(found.codes, wanted.codes, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
