"""The archive against a second reader, damage to every bit, hostile sizes, and appends that are stopped anywhere."""

import dataclasses
import io
import itertools
import json
import re
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_archive import read_archive
from test_entropy import IntegersOnly, latent_like

from aekit import entropy
from aekit.archive import Archive, ArchiveWriter, container, names, reader, staged_archive, writer
from aekit.archive.container import Block, Header, frame, read_frame
from aekit.bundle import MANIFEST, Bundle, pack_tables
from aekit.entropy import FrequencyTables
from aekit.errors import BundleError, CodesError, ModelMismatch, OutputError, ShapeError, SpecError
from aekit.sources import Record

BUNDLE = Bundle.read(TINY)
PAGE = Path(__file__).parents[1] / "aekit" / "ARCHIVE.md"
RECORDS = (
    Record("a/001.png", 16, 16),
    Record("a/002.png", 20, 10),
    Record("a/003.png", error="empty file"),
    Record("b/\udcff\n.png", 1, 70_000),
    Record("b/ö.png", error="damaged image (ö)"),
    Record("z.png", 3, 2),
)
CODES = latent_like(4, 4, 3.0, seed=1)


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


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of three inputs."""
    monkeypatch.setattr(container, "MAX_INPUTS", 3)


# --- there and back

PATHS = st.lists(
    st.text(st.sampled_from("ab/1.\udcffö"), min_size=1, max_size=8).map(lambda text: f"x{text}".replace("..", ".")),
    max_size=9,
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
        header, plain, plain_records = read_archive(data, bundle.tables.to_dict())
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
        assert read_archive(data, BUNDLE.tables.to_dict())[1] == []
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
    for module in (entropy, names, reader):
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
    blocks = [entropy.encode(codes[start : start + 4096], BUNDLE.tables) for start in (0, 4096, 8192)]
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


def numbered(start: int, stop: int) -> list[Record]:
    return [Record(f"images/{row:07d}.png", 28, 28) for row in range(start, stop)]


MANY = """
import sys, tracemalloc
import numpy as np
from aekit.archive import Archive, staged_archive
from aekit.bundle import Bundle
from aekit.sources import Record
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


# --- damage


@pytest.mark.parametrize("records", [RECORDS, None])
def test_every_bit_counts(tmp_path: Path, small_blocks: None, records: Sequence[Record] | None) -> None:
    data = bytearray(written(CODES, records))
    assert read_whole(bytes(data), tmp_path)[0].tolist() == CODES.tolist()
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CodesError, SpecError)):
            read_whole(bytes(data), tmp_path)
        data[bit // 8] ^= 1 << bit % 8


def test_a_sample_of_bits_of_a_larger_file_counts(tmp_path: Path) -> None:
    data = bytearray(written(latent_like(9000, 4, 3.0, seed=6), numbered(0, 9000)))
    for bit in np.random.default_rng(0).choice(8 * len(data), 150, replace=False).tolist():
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CodesError, SpecError)):
            read_whole(bytes(data), tmp_path)
        data[bit // 8] ^= 1 << bit % 8


def test_a_file_cut_anywhere_gives_up_its_whole_blocks_and_says_what_is_lost(
    tmp_path: Path, small_blocks: None
) -> None:
    data = written(CODES, RECORDS)
    with opened(data, tmp_path) as archive:
        begin, (first, second) = archive.places[0].offset, archive.places
        assert archive.loss is None
    for size in range(len(data)):
        with pytest.raises(CodesError):
            opened(data[:size], tmp_path)
        if size < begin:
            with pytest.raises(CodesError):
                opened(data[:size], tmp_path, salvage=True)
            continue
        with opened(data[:size], tmp_path, salvage=True) as archive:
            whole = [place for place in (first, second) if place.offset + place.size <= size]
            assert list(archive.places) == whole
            assert archive.codes().tolist() == CODES[: sum(place.rows for place in whole)].tolist()
            assert archive.loss is not None
            assert archive.loss.bytes == size - (whole[-1].offset + whole[-1].size if whole else begin)
    said = "1 whole blocks of 2 images, then 11 bytes that are of no use"
    with pytest.raises(CodesError, match=re.escape(said)):
        opened(data[: second.offset + 11], tmp_path)
    with pytest.raises(CodesError):
        opened(data + b"\0", tmp_path)


def test_a_damaged_block_is_left_out_and_counted(tmp_path: Path, small_blocks: None) -> None:
    data = bytearray(written(CODES, RECORDS))
    with opened(bytes(data), tmp_path) as archive:
        first = archive.places[0]
    data[first.offset + 30] ^= 4
    with opened(bytes(data), tmp_path) as archive, pytest.raises(CodesError, match=r"the block at byte .* is damaged"):
        archive.codes()
    with opened(bytes(data), tmp_path, salvage=True) as archive:
        assert archive.codes().tolist() == CODES[2:].tolist()
        assert str(archive.loss) == f"2 images, in 1 damaged blocks and {first.size:,} bytes of no use"


def test_codes_of_another_model_are_refused(tmp_path: Path) -> None:
    data = written(CODES, RECORDS)
    with pytest.raises(ModelMismatch, match="give the model that made them"):
        read_whole(data, tmp_path, dataclasses.replace(BUNDLE, model_id="0123456789abcdef"))
    with pytest.raises(CodesError, match=r"frequency tables .* another export may have other tables"):
        read_whole(data, tmp_path, model(FrequencyTables.fit(CODES)))


def test_a_newer_format_says_update(tmp_path: Path) -> None:
    data = bytearray(written(CODES, None))
    data[8] = 2
    with pytest.raises(CodesError, match=r"expected format 1, found format 2.*; update aekit"):
        opened(bytes(data), tmp_path)


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "an empty file"), (b"PK\3\4 and more", "another kind"), (None, "No such")]
)
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes | None, said: str) -> None:
    path = tmp_path / "x.aek"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CodesError, match=rf"x\.aek: expected an archive.*{said}"):
        Archive.open(path)


def test_a_model_without_tables_says_export_again() -> None:
    old = dataclasses.replace(
        BUNDLE, manifest={key: BUNDLE.manifest[key] for key in BUNDLE.manifest if key != "tables"}
    )
    with pytest.raises(BundleError, match="frequency tables, which an archive needs, found none; export the run again"):
        written(CODES, None, old)
    long = dataclasses.replace(old, spec=dataclasses.replace(BUNDLE.spec, code_dim=8193))
    with pytest.raises(BundleError, match=r"can be kept as \.npy alone"):
        written(np.zeros((1, 8193), np.uint8), None, long)


GOOD = BUNDLE.manifest["tables"]
BOMB = zlib.compress(bytes(80 << 20), 9)


@pytest.mark.parametrize(
    "packed",
    [
        None,
        3,
        "",
        "no base64!",
        GOOD[:-8],
        GOOD[:40],
        "eJyrrgUAAXUA+Q==",
        pack_tables(FrequencyTables.fit(CODES[:, :3])),
    ],
)
def test_tables_of_a_model_are_not_believed(packed: object) -> None:
    with pytest.raises(BundleError, match=re.escape(f"{MANIFEST}: tables")):
        _ = dataclasses.replace(BUNDLE, manifest={**BUNDLE.manifest, "tables": packed}).tables


def sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def header_of(body: bytes, size: int | None = None) -> bytes:
    return sealed(container.MAGIC + struct.pack("<HI", 1, len(body) if size is None else size) + body)


def header_json(**changes: Any) -> bytes:
    head = Header.of(BUNDLE, named=True)
    facts = {"model_id": head.model_id, "variant": "fp32", "spec": head.spec.to_dict(), "tables": head.tables}
    return zlib.compress(json.dumps({**facts, "named": True, **changes}).encode())


def ending(*entries: tuple[int, int, int]) -> bytes:
    whole = frame(container.FOOTER, b"".join(struct.pack("<IHH", *entry) for entry in entries))
    return whole + struct.pack("<I", len(whole))


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    "head",
    [
        header_of(header_json(), 2**32 - 1),
        header_of(b""),
        header_of(b"{}"),
        header_of(BOMB[:60_000]),
        header_of(zlib.compress(bytes(2**20))),
        header_of(zlib.compress(b"[" * 60_000)),
        header_of(zlib.compress(b"[]")),
        header_of(header_json(model_id=3)),
        header_of(header_json(variant="x" * 65)),
        header_of(header_json(named=1)),
        header_of(header_json(tables=None)),
        header_of(header_json(spec={})),
        header_of(header_json() + b"\0"),
    ],
)
def test_a_header_is_not_believed(tmp_path: Path, head: bytes) -> None:
    with pytest.raises((CodesError, SpecError)):
        opened(head + ending(), tmp_path)


HEAD = Header.of(BUNDLE, named=True).to_bytes()
WHOLE = Block(6, 4, (1, 1, 4), entropy.encode(CODES, BUNDLE.tables), names.pack(RECORDS))


def of_block(**changes: Any) -> bytes:
    block = dataclasses.replace(WHOLE, **changes).to_bytes()
    counts = changes.get("inputs", 6), changes.get("rows", 4)
    return HEAD + block + ending((len(block), *counts))


def columns(paths: bytes = b"", starts: bytes = bytes(6), ends: bytes = bytes(6), **changes: bytes) -> bytes:
    """Records of six inputs, four of them rows, a byte a path unless said otherwise."""
    parts = {
        "starts": starts,
        "ends": ends,
        "lengths": b"\1" * 6 + bytes(6),
        "paths": paths or b"abcdef",
        "count": b"\2\0",
        "places": b"\2\4\0\0",
        "sizes": b"\1\1\0\0",
        "reasons": b"xy",
        "width": b"\5\0\0\0" + bytes(12),
        "height": bytes(16),
        **changes,
    }
    return deflated(b"".join(parts.values()))


def test_the_made_block_is_one(tmp_path: Path) -> None:
    assert read_whole(of_block(), tmp_path)[1] == list(RECORDS)
    inputs = read_whole(of_block(names=columns()), tmp_path)[1]
    assert [record.path for record in inputs] == list("abcdef")
    assert (inputs[2], inputs[5]) == (Record("c", error="x"), Record("f", 5, 5))


@pytest.mark.parametrize(
    "data",
    [
        of_block(inputs=4097),
        of_block(inputs=3),
        of_block(rows=5),
        of_block(inputs=65535, rows=65535),
        of_block(shape=(0, 1, 4)),
        of_block(shape=(1, 1, 5)),
        of_block(shape=(1, 4, 1)),
        of_block(shape=(65535, 65535, 2**32 - 1)),
        of_block(codes=b""),
        of_block(codes=WHOLE.codes[:-1]),
        of_block(names=b""),
        of_block(names=names.pack(RECORDS)[:-1]),
        of_block(names=names.pack(RECORDS) + b"\0"),
        of_block(names=deflated(bytes(80 << 20))),
        of_block(names=columns(starts=b"\0\2\0\0\0\0")),
        of_block(names=columns(ends=b"\0\xff\0\0\0\0")),
        of_block(names=columns(lengths=b"\xff" * 12, paths=bytes(6 * 65535))),
        of_block(names=columns(count=b"\1\0")),
        of_block(names=columns(places=b"\4\2\0\0")),
        of_block(names=columns(places=b"\2\2\0\0")),
        of_block(names=columns(places=b"\2\6\0\0")),
        of_block(names=columns(sizes=b"\2\0\0\0")),
        of_block(names=columns(reasons=b"\xff\xff")),
        of_block(names=columns(height=bytes(15))),
        of_block(names=columns(height=bytes(17))),
        of_block(names=columns(b"\0bcdef")),
        of_block(names=columns(b"/bcdef")),
        of_block(names=columns(b"..bcde", lengths=b"\2\1\1\1\1\0" + bytes(6))),
        HEAD + WHOLE.to_bytes() + ending((len(WHOLE.to_bytes()), 5, 4)),
        HEAD + WHOLE.to_bytes() + ending((len(WHOLE.to_bytes()) - 1, 6, 4), (1, 0, 0)),
        HEAD + WHOLE.to_bytes() + ending(),
        HEAD + WHOLE.to_bytes() + ending((2**32 - 1, 65535, 65535)),
        HEAD + ending(*[(0, 4096, 4096)] * 1000),
        HEAD + frame(container.BLOCK, b"\0" * 15) + ending((24, 0, 0)),
        HEAD + frame(container.FOOTER, b"\0" * 7) + struct.pack("<I", 16),
        HEAD + struct.pack("<I", 2**32 - 1),
    ],
)
def test_sizes_and_paths_in_a_file_are_not_believed(tmp_path: Path, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodesError):
            read_whole(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_paths_cannot_grow_without_end(tmp_path: Path) -> None:
    """Each path shares 255 bytes at either end with the one before: text that is small as it is stored."""
    count = 4096
    long = np.frombuffer(b"x" * 4000, np.uint8).tobytes()
    lengths = [4000] + [3490] * (count - 1)
    packed = b"".join(
        [
            b"\0" + b"\xff" * (count - 1),
            b"\0" + b"\xff" * (count - 1),
            bytes(n & 255 for n in lengths) + bytes(n >> 8 for n in lengths),
            long * count,
        ]
    )
    block = Block(
        count, count, (1, 1, 4), entropy.encode(np.zeros((count, 4), np.uint8), BUNDLE.tables), deflated(packed)
    )
    data = block.to_bytes()
    with pytest.raises(CodesError, match="records of 4096 images"):
        read_whole(HEAD + data + ending((len(data), count, count)), tmp_path)


@settings(max_examples=300)
@given(st.binary(max_size=300), st.integers(0, 6))
@example(b"", 0)
def test_noise_for_records_is_named(noise: bytes, rows: int) -> None:
    for data in (noise, deflated(noise)):
        try:
            found = names.unpack(data, 6, rows, "here")
        except CodesError:
            continue
        assert len(found) == 6


def test_a_writer_takes_what_fits_alone(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        made = ArchiveWriter(file, BUNDLE, named=True)
        for codes, records in (
            (CODES, ()),
            (CODES.astype(np.float32), RECORDS),
            (CODES[:, :3], RECORDS),
            (CODES[:3], RECORDS),
        ):
            with pytest.raises(ShapeError, match="codes for an archive"):
                made.add(codes, records)
        for path in ("", "x" * 4097, "\ud800"):
            with pytest.raises(CodesError, match="a file's path"):
                made.add(CODES[:1], [Record(path, 1, 1)])


def test_long_paths_close_a_block_early(tmp_path: Path) -> None:
    records = [Record(f"{row:04d}{'x' * 4000}", 1, 1, "" if row % 2 else "y" * 9000) for row in range(1500)]
    codes = np.arange(750 * 4, dtype=np.uint32).astype(np.uint8).reshape(-1, 4)
    data = written(codes, records)
    assert written(codes, records, step=7) == data
    got, inputs = read_whole(data, tmp_path)
    np.testing.assert_array_equal(got, codes)
    assert inputs == [
        dataclasses.replace(record, error=record.error[:4096], width=0, height=0) if record.error else record
        for record in records
    ]
    with opened(data, tmp_path) as archive:
        assert len(archive.places) == 3


# --- appends


def test_of_two_jobs_at_once_the_second_gets_an_error(tmp_path: Path) -> None:
    path = tmp_path / "codes.aek"
    for append in (False, True):
        with staged_archive(path, BUNDLE, named=True, append=append) as made:
            for second in (False, True):
                with (
                    pytest.raises(OutputError, match=r"codes\.aek: expected one job that writes it, found another"),
                    staged_archive(path, BUNDLE, named=True, append=second),
                ):
                    raise AssertionError
            made.add(CODES, RECORDS)
        with Archive.open(path, BUNDLE) as archive:
            assert len(archive) == (8 if append else 4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["codes.aek"]


def test_a_lock_that_came_too_late_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other job ends, and removes its journal, just before we lock what we opened."""
    from aekit import journal

    path = tmp_path / "codes.aek"
    path.write_bytes(written(CODES, RECORDS))
    real, steps = journal.fcntl.flock, iter([lambda: path.with_name("codes.aek.journal").unlink()])

    def flock(*arguments: Any) -> None:
        next(steps, lambda: None)()
        real(*arguments)

    monkeypatch.setattr(journal.fcntl, "flock", flock)
    with staged_archive(path, BUNDLE, named=True, append=True) as made:
        assert made.count == 4
        made.add(CODES, RECORDS)
        assert path.with_name("codes.aek.journal").exists()
    with Archive.open(path, BUNDLE) as archive:
        assert len(archive) == 8


class Stop(Exception):
    pass


def steps_of(path: Path, patch: pytest.MonkeyPatch, stop_at: int) -> int:
    """Append, failing at the stop_at-th write, flush to the disk or renaming; returns how many there were."""
    from aekit import outputs

    counter = itertools.count()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(counter) == stop_at:
                raise Stop
            return real(*arguments, **options)

        return call

    patch.setattr(outputs.os, "replace", counted(outputs.os.replace))
    patch.setattr(writer.os, "fsync", counted(writer.os.fsync))
    patch.setattr(ArchiveWriter, "_write", counted(ArchiveWriter._write))
    patch.setattr(writer, "footer", counted(container.footer))
    with staged_archive(path, BUNDLE, named=True, append=True) as made:
        made.add(CODES, [dataclasses.replace(record, path=f"zz/{record.path}") for record in RECORDS])
    return next(counter)


def test_an_append_that_fails_anywhere_leaves_the_old_archive(tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / "codes.aek"
    before = written(CODES, RECORDS)
    for stop_at in range(100):
        path.write_bytes(before)
        with pytest.MonkeyPatch.context() as patch:
            try:
                steps = steps_of(path, patch, stop_at)
            except Stop:
                assert path.read_bytes() == before
                assert [entry.name for entry in tmp_path.iterdir()] == ["codes.aek"]
                continue
        break
    assert steps == stop_at == 8  # four blocks, the footer, the disk twice, the name
    assert len(path.read_bytes()) > len(before)


@pytest.mark.parametrize("damage", [-1, -20, 12, 300])
def test_a_damaged_archive_is_not_appended_to(tmp_path: Path, damage: int, small_blocks: None) -> None:
    data = bytearray(written(CODES, RECORDS))
    data[damage] ^= 1
    path = tmp_path / "codes.aek"
    path.write_bytes(data)
    with pytest.raises((CodesError, SpecError)), staged_archive(path, BUNDLE, named=True, append=True):
        raise AssertionError
    assert path.read_bytes() == data


def test_an_append_must_be_of_the_same_kind(tmp_path: Path) -> None:
    path = tmp_path / "codes.aek"
    path.write_bytes(written(CODES, RECORDS))
    for bundle, named, error, said in (
        (BUNDLE, False, CodesError, "without paths, found .* with paths"),
        (dataclasses.replace(BUNDLE, variant="int8"), True, CodesError, "variant int8, .* variant fp32"),
        (dataclasses.replace(BUNDLE, model_id="0"), True, ModelMismatch, "expected codes of model 0"),
        (model(FrequencyTables.fit(CODES)), True, CodesError, "frequency tables"),
    ):
        with pytest.raises(error, match=said), staged_archive(path, bundle, named=named, append=True):
            raise AssertionError
    assert path.read_bytes() == written(CODES, RECORDS)


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real.aek", tmp_path / "codes.aek"
    real.write_bytes(written(CODES, RECORDS))
    real.chmod(0o640)
    link.symlink_to(real)
    with staged_archive(link, BUNDLE, named=True, append=True) as made:
        made.add(CODES, RECORDS)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    with Archive.open(real, BUNDLE) as archive:
        assert len(archive) == 8


def test_whole_blocks_of_an_unfinished_file_are_found(tmp_path: Path, small_blocks: None) -> None:
    with (tmp_path / "x.part").open("w+b") as file:
        made = ArchiveWriter(file, BUNDLE, named=True)
        made.add(CODES, RECORDS)
        made.add(CODES[:1], RECORDS[:1])
        begin = len(HEAD)
        places = container.scan(file, begin, file.seek(0, 2))
        assert [(place.inputs, place.rows) for place in places] == [(3, 2), (3, 2)]
        assert read_frame(file, places[1].offset, begin) is None
