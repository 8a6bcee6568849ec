"""The archive against a second reader: there and back, and what it costs."""

import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import BUNDLE, CODES, RECORDS, model, opened, read_whole, rows_of, written
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_archive import read_archive
from test_entropy import IntegersOnly, latent_like

from aekit.codes import entropy, lanes, rans
from aekit.codes.archive import Archive, columns, container, reader, staged_archive
from aekit.codes.archive import records as packed_records
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import read_tables
from aekit.errors import BundleError, CodesError
from aekit.images.records import Record
from aekit.model.bundle import Bundle

PAGE = Path(__file__).parents[1] / "aekit" / "codes" / "ARCHIVE.md"


# --- there and back

PATHS = st.lists(
    st.text(st.sampled_from("ab/1.\udcffö"), min_size=1, max_size=8).map(lambda text: "x" + re.sub(r"\.+", ".", text)),
    max_size=9,
    unique=True,  # as the paths of a source are
)


@st.composite
def contents(draw: st.DrawFn) -> tuple[Any, list[Record] | None, Bundle]:
    """Codes of any bytes, records of any kind or none, and a model whose tables may fit them or not."""
    dimensions = draw(st.sampled_from([1, 3, 40]))
    tables = FrequencyTables.fit(latent_like(50, dimensions, draw(st.sampled_from([0.3, 5.0, 200.0])), seed=2))
    records = None
    count = draw(st.integers(0, 9))
    if draw(st.booleans()):
        sizes, reason = st.integers(1, 2**31), st.text(min_size=1).filter(lambda text: text.isprintable())
        records = [
            Record(path, error=draw(reason)) if draw(st.booleans()) else Record(path, draw(sizes), draw(sizes))
            for path in draw(PATHS)
        ]
        count = rows_of(records)
    raw = draw(st.binary(min_size=count * dimensions, max_size=count * dimensions))
    return np.frombuffer(raw, np.uint8).reshape(count, dimensions), records, model(tables)


@settings(max_examples=80)
@given(contents(), st.integers(1, 10), st.integers(0, 10))
def test_any_codes_and_records_survive_and_a_plain_reader_agrees(
    case: tuple[Any, list[Record] | None, Bundle], step: int, cut: int
) -> None:
    codes, records, bundle = case
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setattr(container, "MAX_INPUTS", 3)
        data = written(codes, records, bundle)
        assert written(codes, records, bundle, step) == data
        got, inputs = read_whole(data, folder, bundle)
        np.testing.assert_array_equal(got, codes)
        assert inputs == (records or [])
        header, plain, plain_records = read_archive(data, read_tables(bundle).tables.to_dict())
        assert plain == codes.tolist()
        assert plain_records == [
            (record.path.encode("utf-8", "surrogateescape"), record.width, record.height, record.error)
            for record in records or ()
        ]
        assert header["named"] == (records is not None)
        # An archive that grew is the one made at once, to the byte.
        first = records[:cut] if records is not None else None
        split = rows_of(first) if first is not None else min(cut, len(codes))
        path = folder / "codes.aek"
        path.write_bytes(written(codes[:split], first, bundle))
        with staged_archive(path, bundle, named=records is not None, append=True) as more:
            assert more.count == split
            more.add(codes[split:], records[cut:] if records is not None else ())
            assert more.count == len(codes)
        assert path.read_bytes() == data


def test_it_is_a_sequence_of_entries(tmp_path: Path, small_blocks: None) -> None:
    with opened(written(CODES, RECORDS), tmp_path) as archive:
        read = [record for record in RECORDS if not record.error]
        assert len(archive) == 4
        assert archive.paths == tuple(record.path for record in read)
        assert [entry.record for entry in archive] == read
        np.testing.assert_array_equal([entry.code for entry in archive], CODES)
        assert archive[-1].record == archive[3].record == read[3]
        np.testing.assert_array_equal(archive[2].code, CODES[2])
        assert [entry.record for entry in archive[1:3]] == read[1:3]
        for row in (4, -5):
            with pytest.raises(IndexError):
                archive[row]
        for rows in (None, [0, 3], [1], [2, 3], []):
            found = [row for batch in archive.batches(1, rows) for row in batch.tolist()]
            assert found == CODES[slice(None) if rows is None else rows].tolist()
    with opened(written(CODES, None), tmp_path) as archive:
        assert (archive.paths, list(archive.records()), archive[0].record) == (None, [], None)


def test_one_image_is_read_from_its_block_alone(tmp_path: Path, small_blocks: None) -> None:
    data = bytearray(written(CODES, RECORDS))
    with opened(bytes(data), tmp_path) as archive:
        first, second = archive.places
    for place, rows, whole in ((second, (0, 1), 2), (first, (2, 3), 2)):
        damaged = data.copy()
        damaged[place.offset + 20 : place.offset + place.size] = bytes(place.size - 20)
        with opened(bytes(damaged), tmp_path) as archive:
            assert [archive[row].code.tolist() for row in rows] == CODES[list(rows)].tolist()
            assert next(archive.batches(5, rows)).tolist() == CODES[list(rows)].tolist()
            with pytest.raises(CodesError, match="is damaged"):
                archive[whole if whole not in rows else 0]


def test_names_need_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "codes.aek").write_bytes(written(CODES, RECORDS))
    monkeypatch.setenv("AEKIT_MODEL", str(tmp_path / "none"))
    with Archive.open(tmp_path / "codes.aek") as archive:
        assert archive.paths
        with pytest.raises(BundleError):
            archive.codes()
    monkeypatch.setenv("AEKIT_MODEL", str(TINY))
    with Archive.open(tmp_path / "codes.aek") as archive:
        np.testing.assert_array_equal(archive.codes(), CODES)


@pytest.mark.parametrize("code_dim", [1, 1024, 1025, 3000])
def test_codes_of_any_length_fit_into_blocks(tmp_path: Path, code_dim: int) -> None:
    bundle = model(FrequencyTables.fit(np.tile(latent_like(60, 1, 2.0, seed=3), code_dim)))
    count = min(4096, entropy.MAX_SYMBOLS // code_dim) + 1
    codes = np.tile(latent_like(count, 1, 2.0, seed=4), code_dim)
    with opened(written(codes, None, bundle), tmp_path, bundle) as archive:
        np.testing.assert_array_equal(archive.codes(), codes)
        assert max(place.inputs for place in archive.places) == min(4096, entropy.MAX_SYMBOLS // code_dim)


def test_an_empty_archive_is_one(tmp_path: Path) -> None:
    for records in ((), None):
        data = written(CODES[:0], records)
        assert read_archive(data, read_tables(BUNDLE).tables.to_dict())[1] == []
        with opened(data, tmp_path) as archive:
            assert (len(archive), list(archive), archive.codes().shape) == (0, [], (0, 4))


def test_the_file_on_the_page() -> None:
    example = json.loads(PAGE.read_text(encoding="utf-8").split("```json")[1].split("```")[0])
    tables = json.loads((PAGE.with_name("ENTROPY.md")).read_text(encoding="utf-8").split("```json")[1].split("```")[0])
    data = bytes.fromhex(example["bytes"])
    header, codes, records = read_archive(data, tables["tables"])
    assert header == example["header"]
    assert codes == example["codes"]
    assert [[path.decode(), *rest] for path, *rest in records] == example["records"]
    made = [Record(*record) for record in example["records"]]
    bundle = model(FrequencyTables.from_dict(tables["tables"]))
    assert written(np.array(codes, np.uint8), made, dataclasses.replace(bundle, model_id=header["model_id"])) == data


def test_decoding_meets_no_float(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None) -> None:
    data = written(CODES, RECORDS)
    bundle = Bundle.read(TINY)  # whose tables are not read yet
    for module in (entropy, rans, lanes, columns, packed_records, reader):
        monkeypatch.setattr(module, "np", IntegersOnly())
    with np.errstate(all="raise"):
        codes, inputs = read_whole(data, tmp_path, bundle)
        with opened(data, tmp_path, bundle) as archive:
            assert archive[3].record == RECORDS[-1]
            assert next(archive.batches(2, [3])).tolist() == CODES[3:].tolist()
    assert codes.tolist() == CODES.tolist()
    assert inputs == list(RECORDS)


# --- what it costs


def test_the_container_costs_less_than_a_tenth_of_a_byte_an_image() -> None:
    codes = latent_like(10_000, 4, 3.0, seed=5)
    data = written(codes, None)
    blocks = [entropy.encode(codes[start : start + 4096], read_tables(BUNDLE).tables) for start in (0, 4096, 8192)]
    assert 0 < len(data) - sum(map(len, blocks)) < 0.05 * 10_000


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("images/{0:06d}.png", 0.1),
        ("{1:02d}/{2:05d}_{3:05d}.png", 0.1),  # class, track, frame
        ("cam{1}/2026-11-24T{2:02d}-{3:02d}-00.jpg", 0.2),
    ],
)
def test_names_that_count_cost_next_to_nothing(name: str, most: float) -> None:
    paths = sorted(name.format(row, row // 5000, row // 30, row % 30) for row in range(10_000))
    records = [Record(path, 28, 28) for path in dict.fromkeys(paths)]
    codes = np.zeros((len(records), 4), np.uint8)
    assert len(written(codes, records)) - len(written(codes, None)) < most * len(records)


MANY = """
import sys, tracemalloc
import numpy as np
from aekit.codes.archive import Archive, staged_archive
from aekit.model.bundle import Bundle
from aekit.images.records import Record
from pathlib import Path

model, path, count = Bundle.read(Path(sys.argv[1])), Path(sys.argv[2]), 60_000

def numbered(start, stop):
    return [Record(f"images/{row:07d}.png", 28, 28) for row in range(start, stop)]

tracemalloc.start()
records = numbered(0, count)
whole = tracemalloc.get_traced_memory()[0]
del records
tracemalloc.reset_peak()
with staged_archive(path, model, named=True) as made:
    for start in range(0, count, 1000):
        made.add(np.zeros((1000, 4), np.uint8), numbered(start, start + 1000))
with Archive.open(path, model) as archive:
    for row, record in enumerate(archive.records()):
        assert record.path == f"images/{row:07d}.png"
    assert row == count - 1
    assert archive[row].record == record
print(tracemalloc.get_traced_memory()[1] / whole)
"""


def test_many_paths_are_never_in_memory_at_once(tmp_path: Path) -> None:
    """In a process of its own, as what else is loaded takes memory too."""
    command = [sys.executable, "-c", MANY, str(TINY), str(tmp_path / "codes.aek")]
    assert float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) < 0.6
