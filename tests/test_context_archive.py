"""Archives of grid codes that a context model codes."""

import base64
import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import BUNDLE, opened
from context_models import random_model
from grid_archives import CODES, GRID, RECORDS, assert_same, made_codes, small_parts, written
from plain_archive import read_archive

from aekit.codes.grid_coders import CONTEXT
from aekit.codes.tables import pack_tables, read_tables
from aekit.errors import BundleError, CodesError, ModelMismatch
from aekit.model.bundle import Bundle

MODEL = random_model((1, 4), seed=3)


def with_context(packed: Any, bundle: Bundle = GRID) -> Bundle:
    return dataclasses.replace(bundle, manifest={**bundle.manifest, "context": packed})


IN_CONTEXT = with_context(pack_tables(MODEL))


@pytest.mark.parametrize("named", [True, False])
def test_codes_come_back(tmp_path: Path, named: bool) -> None:
    data = written(CODES, RECORDS if named else None, IN_CONTEXT)
    assert data != written(CODES, RECORDS if named else None, GRID)
    with opened(data, tmp_path, IN_CONTEXT) as archive:
        place = archive.places[0]
        assert archive.block(place).mode == CONTEXT  # type: ignore[union-attr]
        assert_same(archive.codes(), CODES)
        assert_same(next(archive.batches(10, [1, 3])), CODES[1:4:2])


def test_pictures_in_several_parts_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    codes = made_codes(GRID, [(60, 90), (9, 9), (33, 40)])
    with opened(written(codes, None, IN_CONTEXT), tmp_path, IN_CONTEXT) as archive:
        assert_same(archive.codes(), codes)


def test_the_plain_reader_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch, part=60, block=400)
    data, tables = written(CODES, RECORDS, IN_CONTEXT), read_tables(GRID).tables.to_dict()
    _, codes, _ = read_archive(data, tables, part_numbers=60, context=MODEL.to_dict())
    assert [size for size, _ in codes] == [(width, height) for height, width in CODES.sizes]
    assert [places for _, places in codes] == [code.reshape(-1, code.shape[2]).tolist() for code in CODES.codes]


def test_a_model_without_the_context_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodesError, match="expected frequency tables"):
        opened(written(CODES, None, IN_CONTEXT), tmp_path, GRID).codes()
    with pytest.raises(CodesError, match="expected frequency tables"):
        opened(written(CODES, None, GRID), tmp_path, IN_CONTEXT).codes()
    assert read_tables(IN_CONTEXT).digest != read_tables(GRID).digest


def test_every_altered_byte_is_found(tmp_path: Path) -> None:
    codes = CODES[1:3]
    data = written(codes, None, IN_CONTEXT)
    rng = np.random.default_rng(0)
    for at in rng.permutation(len(data))[:150]:
        altered = bytearray(data)
        altered[at] ^= 1 << int(rng.integers(8))
        with pytest.raises((CodesError, ModelMismatch)):
            opened(bytes(altered), tmp_path, IN_CONTEXT).codes()


def packed(values: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(values).encode())).decode()


@pytest.mark.parametrize(
    "context",
    [
        None,
        3,
        "",
        "no base64",
        base64.b64encode(b"no zlib").decode(),
        base64.b64encode(zlib.compress(b"[")).decode(),
        packed([]),
        packed({}),
        packed({**MODEL.to_dict(), "format": 2}),
        packed({**MODEL.to_dict(), "worst_case": 1}),
        packed({**MODEL.to_dict(), "order": [0, 0, 1, 2, 3]}),
        base64.b64encode(zlib.compress(bytes(2**25))).decode(),
    ],
)
def test_a_damaged_context_model_is_refused_in_a_line(context: Any) -> None:
    with pytest.raises(BundleError, match=r"model.json: context: expected a packed context model"):
        read_tables(with_context(context))


def test_a_context_model_of_another_kind_is_refused() -> None:
    with pytest.raises(BundleError, match="expected a model of 5 channels, found 3"):
        read_tables(with_context(pack_tables(random_model((3,)))))
    with pytest.raises(BundleError, match="expected a model that looks at one place, for vector codes, found neigh"):
        read_tables(with_context(pack_tables(random_model((1, 3))), BUNDLE))
