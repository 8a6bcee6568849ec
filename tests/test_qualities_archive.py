"""Archives of a model of several qualities: each picture's quality, both coders, and what a reader refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import opened
from context_models import random_model
from grid_archives import CODES, GRID, RECORDS, assert_same, small_parts, written
from plain_archive import read_archive
from test_entropy import latent_like

from aekit.codes.archive.container import Header
from aekit.codes.entropy import FrequencyTables
from aekit.codes.grid_coders import GridCoders
from aekit.codes.tables import pack_tables, read_tables
from aekit.errors import BundleError, CodesError, ShapeError, SpecError
from aekit.model.bundle import Bundle
from aekit.model.grids import GridCodes
from aekit.spec import ModelSpec

SPREADS = (0.5, 3.0, 20.0)
"""Widths of the latents at each quality, in code units."""
TABLES = FrequencyTables.joined([FrequencyTables.fit(latent_like(3000, 5, spread, seed=7)) for spread in SPREADS])
MODEL = random_model((1, 4), seed=3, qualities=3)
STATIC = dataclasses.replace(
    GRID,
    spec=dataclasses.replace(GRID.spec, qualities=3),
    manifest={**GRID.manifest, "tables": pack_tables(TABLES)},
)
CONTEXT = dataclasses.replace(STATIC, manifest={**STATIC.manifest, "context": pack_tables(MODEL)})
QUALITIES = (3, 1, 2, 3)


def codes_of(qualities: tuple[int, ...] = QUALITIES) -> GridCodes:
    """Codes of pictures of these qualities: the higher, the wider."""
    made = []
    for row, (code, quality) in enumerate(zip(CODES.codes, qualities, strict=True)):
        h, w, channels = code.shape
        made.append(latent_like(h * w, channels, SPREADS[quality - 1], seed=row).reshape(h, w, channels))
    return GridCodes(tuple(made), CODES.sizes, qualities)


@pytest.mark.parametrize("bundle", [STATIC, CONTEXT], ids=["static", "context"])
@pytest.mark.parametrize("named", [True, False])
def test_codes_come_back_with_their_qualities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle, named: bool
) -> None:
    small_parts(monkeypatch, part=60, block=400)
    codes = codes_of()
    data = written(codes, RECORDS if named else None, bundle)
    assert data[8] == 3  # the version, which an aekit without qualities refuses
    with opened(data, tmp_path, bundle) as archive:
        assert_same(archive.codes(), codes)
        assert archive.codes().qualities == QUALITIES  # type: ignore[union-attr]
        assert tuple(archive.qualities()) == QUALITIES
        assert [entry.quality for entry in archive] == list(QUALITIES)
        chosen = next(archive.batches(10, [1, 3]))
        assert isinstance(chosen, GridCodes) and chosen.qualities == (1, 3)
    tables, context = TABLES.to_dict(), MODEL.to_dict() if bundle is CONTEXT else None
    _, plain, _ = read_archive(data, tables, part_numbers=60, context=context)
    assert [quality for _, quality, _ in plain] == list(QUALITIES)
    assert [places for *_, places in plain] == [code.reshape(-1, code.shape[2]).tolist() for code in codes.codes]


@pytest.mark.parametrize("bundle", [STATIC, CONTEXT], ids=["static", "context"])
def test_a_picture_decodes_alike_alone_and_among_others(bundle: Bundle) -> None:
    coder, codes = GridCoders(read_tables(bundle)).best, codes_of()
    shapes = [(code.shape[0], code.shape[1]) for code in codes.codes]
    together = coder.decode(coder.encode(codes.codes, codes.qualities), shapes, codes.qualities)
    for code, again, shape, quality in zip(codes.codes, together, shapes, codes.qualities, strict=True):
        np.testing.assert_array_equal(again, code)
        np.testing.assert_array_equal(coder.decode(coder.encode([code], [quality]), [shape], [quality])[0], code)


def test_each_quality_has_its_own_tables() -> None:
    coder, codes = GridCoders(read_tables(STATIC)).best, codes_of()
    right = len(coder.encode(codes.codes, codes.qualities))
    assert right < 0.9 * len(coder.encode(codes.codes, (1, 3, 3, 1)))


@pytest.mark.parametrize("qualities", [(), (1, 2, 3, 4), (0, 1, 1, 1)])
def test_qualities_that_the_model_lacks_are_not_written(qualities: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="qualities of codes: expected 4 from 1 to 3"):
        written(dataclasses.replace(CODES, qualities=qualities), None, STATIC)
    with pytest.raises(ShapeError, match="expected none: the model has one quality"):
        written(codes_of(), None, GRID)


def test_a_quality_that_the_model_lacks_is_not_read(tmp_path: Path) -> None:
    header = Header.of(STATIC, named=False)
    fewer = dataclasses.replace(header, spec=dataclasses.replace(STATIC.spec, qualities=2))
    data = fewer.to_bytes() + written(codes_of(), None, STATIC)[len(header.to_bytes()) :]
    with opened(data, tmp_path, STATIC) as archive, pytest.raises(CodesError, match="a quality that is not 1 to 2"):
        list(archive.qualities())


def test_tables_for_other_qualities_are_refused() -> None:
    with pytest.raises(BundleError, match="tables of 10 dimensions"):
        read_tables(dataclasses.replace(STATIC, spec=dataclasses.replace(STATIC.spec, qualities=2)))
    other = {**STATIC.manifest, "context": pack_tables(random_model((1, 4)))}
    with pytest.raises(BundleError, match="a packed context model"):
        read_tables(dataclasses.replace(STATIC, manifest=other))


def test_specs_of_one_quality_are_as_before() -> None:
    assert "qualities" not in GRID.spec.to_dict() and GRID.spec.format_version == 2
    several: dict[str, Any] = STATIC.spec.to_dict()
    assert several["qualities"] == 3 and STATIC.spec.format_version == 3
    assert ModelSpec.from_dict(several, "model.json") == STATIC.spec
    for wrong in (0, 65, True, "2"):
        with pytest.raises(SpecError, match="qualities"):
            ModelSpec.from_dict({**several, "qualities": wrong}, "model.json")
