"""The examples of versions 2 and 3 in ARCHIVE.md, read by the plain reader and written again."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from grid_archives import GRID, written
from plain_archive import read_archive
from test_archive import PAGE

from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables
from aekit.images.records import Record
from aekit.model.grids import GridCodes
from aekit.spec import ModelSpec


def page_example(version: int = 2) -> dict[str, Any]:
    """The example of this version in ARCHIVE.md."""
    example: dict[str, Any] = json.loads(PAGE.read_text(encoding="utf-8").split("```json")[version].split("```")[0])
    return example


def page_tables(qualities: int) -> dict[str, Any]:
    """The tables of the example in ENTROPY.md, once for each quality."""
    page = PAGE.with_name("ENTROPY.md").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(page.split("```json")[1].split("```")[0])["tables"]
    return {**tables, "dimensions": tables["dimensions"] * qualities}


def written_as_on_the_page(example: dict[str, Any]) -> bytes:
    header = example["header"]
    spec = ModelSpec.from_dict(header["spec"], "the page")
    packed = pack_tables(FrequencyTables.from_dict(page_tables(spec.qualities)))
    bundle = dataclasses.replace(
        GRID, model_id=header["model_id"], spec=spec, manifest={**GRID.manifest, "tables": packed}
    )
    sizes = tuple((height, width) for (width, height), *_ in example["codes"])
    qualities = tuple(code[1] for code in example["codes"]) if spec.has_qualities else ()
    codes = tuple(
        np.array(numbers, np.uint8).reshape(*spec.grid.code_shape(*size), -1)
        for size, (*_, numbers) in zip(sizes, example["codes"], strict=True)
    )
    return written(GridCodes(codes, sizes, qualities), [Record(*record) for record in example["records"]], bundle)


@pytest.mark.parametrize("version", [2, 3])
def test_the_file_on_the_page(version: int) -> None:
    example = page_example(version)
    data = bytes.fromhex(example["bytes"])
    assert data[8] == version
    header, codes, records = read_archive(data, page_tables(version - 1))
    assert header == example["header"]
    assert [[list(size), *rest] for size, *rest in codes] == example["codes"]
    assert [[path.decode(), *rest] for path, *rest in records] == example["records"]
    assert written_as_on_the_page(example) == data
