"""The example of version 2 in ARCHIVE.md, read by the plain reader and written again."""

import dataclasses
import json
from typing import Any

import numpy as np
from grid_archives import GRID, written
from plain_archive import read_archive
from test_archive import PAGE

from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables
from aekit.images.records import Record
from aekit.model.grids import GridCodes
from aekit.spec import ModelSpec


def page_example() -> dict[str, Any]:
    """The example of version 2 in ARCHIVE.md."""
    example: dict[str, Any] = json.loads(PAGE.read_text(encoding="utf-8").split("```json")[2].split("```")[0])
    return example


def written_as_on_the_page(example: dict[str, Any]) -> bytes:
    header = example["header"]
    tables = json.loads(PAGE.with_name("ENTROPY.md").read_text(encoding="utf-8").split("```json")[1].split("```")[0])
    packed = pack_tables(FrequencyTables.from_dict(tables["tables"]))
    spec = ModelSpec.from_dict(header["spec"], "the page")
    bundle = dataclasses.replace(
        GRID, model_id=header["model_id"], spec=spec, manifest={**GRID.manifest, "tables": packed}
    )
    sizes = tuple((height, width) for (width, height), _ in example["codes"])
    codes = tuple(
        np.array(numbers, np.uint8).reshape(*spec.grid.code_shape(*size), -1)
        for size, (_, numbers) in zip(sizes, example["codes"], strict=True)
    )
    return written(GridCodes(codes, sizes), [Record(*record) for record in example["records"]], bundle)


def test_the_file_on_the_page() -> None:
    example = page_example()
    tables = json.loads(PAGE.with_name("ENTROPY.md").read_text(encoding="utf-8").split("```json")[1].split("```")[0])
    data = bytes.fromhex(example["bytes"])
    header, codes, records = read_archive(data, tables["tables"])
    assert header == example["header"]
    assert [[list(size), numbers] for size, numbers in codes] == example["codes"]
    assert [[path.decode(), *rest] for path, *rest in records] == example["records"]
    assert written_as_on_the_page(example) == data
