"""Archives that are damaged, cut short or made to harm: every bit counts, and nothing in a file is believed."""

import dataclasses
import json
import re
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import BUNDLE, CODES, HEAD, RECORDS, model, numbered, opened, read_whole, written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_entropy import latent_like

from aekit.codes import entropy
from aekit.codes.archive import Archive, ArchiveWriter, container
from aekit.codes.archive.container import Header, frame
from aekit.codes.archive.records import pack, unpack
from aekit.codes.archive.salvage import Loss
from aekit.codes.archive.vector_blocks import CodeBlock
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables, read_tables
from aekit.errors import BundleError, CodesError, ModelMismatch, ShapeError, SpecError
from aekit.images.records import Record
from aekit.model.bundle import MANIFEST


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
            assert archive.loss.images is None
            assert archive.loss.bytes == size - (whole[-1].offset + whole[-1].size if whole else begin)
    said = "1 whole block of 2 images, and 11 bytes that are of no use; use another copy, or get what is left with"
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
        assert str(archive.loss) == "2 images with paths (counted from 0: 0 to 1), in 1 damaged block"
        assert (archive.loss.images, archive.loss.bytes) == (2, first.size)


def test_a_damaged_block_costs_only_itself_even_if_the_index_is_lost_too(tmp_path: Path, small_blocks: None) -> None:
    data = bytearray(written(CODES, RECORDS))
    with opened(bytes(data), tmp_path) as archive:
        first, second = archive.places
    data[first.offset + 30] ^= 4
    del data[second.offset + second.size :]
    with opened(bytes(data), tmp_path, salvage=True) as archive:
        assert archive.codes().tolist() == CODES[2:].tolist()
        assert (
            str(archive.loss) == f"an unknown number of images, if any, in {first.size:,} bytes that are no whole block"
        )
    with pytest.raises(CodesError, match=r"1 whole block of 2 images.*get what is left with"):
        opened(bytes(data), tmp_path)
    data[first.offset + 1] ^= 1  # its length: where the next block begins is not known any more
    with opened(bytes(data), tmp_path, salvage=True) as archive:
        assert len(archive) == 0


def test_lost_images_are_told_in_runs() -> None:
    assert str(Loss(3, ((0, 0), (4, 7)), 90)) == "5 images (counted from 0: 0, 4 to 7), in 3 damaged blocks"
    assert str(Loss(1, ((5, 5),), 30)) == "1 image (counted from 0: 5), in 1 damaged block"
    many = tuple((row, row) for row in range(0, 4000, 2))
    said = "2,000 images (counted from 0: 0, 2, 4, 6, 8, 1,995 more ranges), in 2,000 damaged blocks"
    assert str(Loss(2000, many, 90)) == said


def test_adjacent_lost_blocks_are_one_run(tmp_path: Path, small_blocks: None) -> None:
    data = bytearray(written(np.concatenate([CODES] * 5), None))
    with opened(bytes(data), tmp_path) as archive:
        places = archive.places
    for place in (places[1], places[2], places[4]):
        data[place.offset + 30] ^= 4
    with opened(bytes(data), tmp_path, salvage=True) as archive:
        loss = archive.loss
    starts = np.cumsum([0, *(place.rows for place in places)]).tolist()
    assert loss is not None and loss.ranges == ((starts[1], starts[3] - 1), (starts[4], starts[5] - 1))


def test_codes_of_another_model_are_refused(tmp_path: Path) -> None:
    data = written(CODES, RECORDS)
    with pytest.raises(ModelMismatch, match="give the model that made them"):
        read_whole(data, tmp_path, dataclasses.replace(BUNDLE, model_id="0123456789abcdef"))
    with pytest.raises(CodesError, match=r"frequency tables .* another export may have other tables"):
        read_whole(data, tmp_path, model(FrequencyTables.fit(CODES)))


def test_a_newer_format_says_update(tmp_path: Path) -> None:
    data = bytearray(written(CODES, None))
    data[8] = 4
    with pytest.raises(CodesError, match=r"expected format 3 or older, found format 4.*; update aekit"):
        opened(bytes(data), tmp_path)


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "an empty file"), (b"PK\3\4 and more", "another kind"), (None, "nothing there")]
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
    with pytest.raises(BundleError, match=r"can only be kept as \.npy"):
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
        read_tables(dataclasses.replace(BUNDLE, manifest={**BUNDLE.manifest, "tables": packed}))


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


WHOLE = CodeBlock(6, 4, (1, 1, 4), entropy.encode(CODES, read_tables(BUNDLE).tables), pack(RECORDS))


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
        of_block(names=pack(RECORDS)[:-1]),
        of_block(names=pack(RECORDS) + b"\0"),
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
    block = CodeBlock(
        count,
        count,
        (1, 1, 4),
        entropy.encode(np.zeros((count, 4), np.uint8), read_tables(BUNDLE).tables),
        deflated(packed),
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
            found = unpack(data, 6, rows, "here")
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
