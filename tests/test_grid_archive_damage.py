"""Archives of grid codes that are damaged, cut short or made to harm: nothing in a file is believed."""

import dataclasses
import json
import struct
import tracemalloc
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import opened
from grid_archives import CODES, GRID, RECORDS, assert_same, grid_bundle, made_codes, small_parts, written
from hypothesis import given, settings
from hypothesis import strategies as st

from aekit.codes import entropy
from aekit.codes.archive import ArchiveWriter, container, staged_archive
from aekit.codes.archive.columns import deflated, planes
from aekit.codes.archive.container import Header, footer
from aekit.codes.archive.grid_blocks import GridBlock, GridLayout
from aekit.codes.tables import read_tables
from aekit.errors import AekitError, CodesError, SpecError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.grids import GridCodes
from aekit.outputs.marks import Mark, Step

NAMED, UNNAMED = (Header.of(GRID, named=named).to_bytes() for named in (True, False))


def read_whole(data: bytes, folder: Path, bundle: Bundle = GRID) -> tuple[Any, list[Record]]:
    with opened(data, folder, bundle) as archive:
        return archive.codes(), list(archive.inputs())


@pytest.fixture
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)


@pytest.mark.parametrize("records", [RECORDS, None])
def test_every_bit_counts(tmp_path: Path, several_blocks: None, records: Sequence[Record] | None) -> None:
    data = bytearray(written(CODES, records))
    assert_same(read_whole(bytes(data), tmp_path)[0], CODES)
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CodesError, SpecError)):
            read_whole(bytes(data), tmp_path)
        data[bit // 8] ^= 1 << bit % 8


def test_a_file_cut_anywhere_gives_up_its_whole_blocks(tmp_path: Path, several_blocks: None) -> None:
    data = written(CODES, RECORDS)
    with opened(data, tmp_path, GRID) as archive:
        places, begin = archive.places, archive.places[0].offset
    assert len(places) == 3
    for size in range(begin, len(data), 7):
        with pytest.raises(CodesError):
            opened(data[:size], tmp_path, GRID)
        with opened(data[:size], tmp_path, GRID, salvage=True) as archive:
            whole = [place for place in places if place.offset + place.size <= size]
            assert list(archive.places) == whole
            assert_same(archive.codes(), CODES[: sum(place.rows for place in whole)])


def test_a_damaged_block_is_left_out_and_counted(tmp_path: Path, several_blocks: None) -> None:
    data = bytearray(written(CODES, RECORDS))
    with opened(bytes(data), tmp_path, GRID) as archive:
        first, *others = archive.places
    data[first.offset + 30] ^= 4
    with (
        opened(bytes(data), tmp_path, GRID) as archive,
        pytest.raises(CodesError, match=r"block at byte .* is damaged"),
    ):
        archive.codes()
    with opened(bytes(data), tmp_path, GRID, salvage=True) as archive:
        assert_same(archive.codes(), CODES[first.rows :])
        assert archive.loss is not None and (archive.loss.blocks, archive.loss.images) == (1, first.rows)
        assert list(archive.places) == others


def test_a_header_must_be_of_its_version(tmp_path: Path) -> None:
    for version, spec in ((1, GRID.spec.to_dict()), (2, {**GRID.spec.to_dict(), "geometry": OLD_GEOMETRY})):
        facts = {"model_id": "x", "variant": "fp32", "tables": "y", "named": True, "spec": spec}
        body = zlib.compress(json.dumps(facts).encode())
        head = container.MAGIC + struct.pack("<HI", version, len(body)) + body
        head += struct.pack("<I", zlib.crc32(head))
        with pytest.raises(CodesError, match="the header is damaged"):
            opened(head + footer([]), tmp_path)


OLD_GEOMETRY = {"height": 16, "width": 16, "channels": 1, "resize": "stretch", "background": 255}


# --- blocks made to mislead

ONE = CODES[:1]
"""The code of a picture of 33x20 pixels: 3 lines of 5 places."""


def a_part(codes: GridCodes = ONE, crc: int | None = None, more: int = 0) -> bytes:
    data = entropy.encode(codes.rows(), read_tables(GRID).tables)
    crc = zlib.crc32(codes.rows().tobytes()) if crc is None else crc
    return struct.pack("<II", crc, len(data) + more) + data


def of_sizes(*sizes: tuple[int, int], rest: bytes = b"") -> bytes:
    """The stream of sizes (height, width)."""
    height, width = np.array(sizes, np.int64).reshape(-1, 2).T
    return deflated([planes(np.diff(width, prepend=0), 2) + planes(height - width, 2) + rest])


def of_block(head: bytes = UNNAMED, **changes: Any) -> bytes:
    facts = {"inputs": 1, "rows": 1, "mode": 0, "names": of_sizes((20, 33)), "codes": a_part(), **changes}
    block = GridBlock(**facts).to_bytes()
    place = container.BlockPlace(len(head), len(block), facts["inputs"], facts["rows"])
    return head + block + footer([place])


def test_the_made_block_is_one(tmp_path: Path) -> None:
    assert_same(read_whole(of_block(), tmp_path)[0], ONE)


HUGE = (65535, 65535)


@pytest.mark.parametrize(
    "data",
    [
        of_block(inputs=4097, rows=1),
        of_block(inputs=2),
        of_block(rows=0),
        of_block(rows=2, inputs=2),
        of_block(inputs=4096, rows=4096),
        of_block(names=of_sizes((0, 33))),
        of_block(names=of_sizes((20, 0))),
        of_block(names=of_sizes((20, 65536))),
        of_block(names=of_sizes((16, 33))),
        of_block(names=of_sizes((20, 48))),
        of_block(names=of_sizes(HUGE)),
        of_block(names=of_sizes((65535, 1))),
        of_block(names=of_sizes(*[HUGE] * 4096), inputs=4096, rows=4096),
        of_block(names=of_sizes(*[(8000, 8000)] * 100), inputs=100, rows=100),
        of_block(names=of_sizes((20, 33), rest=b"\0")),
        of_block(names=b""),
        of_block(names=of_sizes((20, 33))[:-1]),
        of_block(names=deflated([bytes(80 << 20)])),
        of_block(codes=b""),
        of_block(codes=a_part()[:-1]),
        of_block(codes=a_part() + b"\0"),
        of_block(codes=a_part() * 2),
        of_block(codes=a_part(more=1)),
        of_block(codes=a_part(more=2**32 - 100)),
        of_block(codes=a_part(crc=1)),
        of_block(codes=a_part(CODES[1:2])),
        of_block(head=NAMED),
        UNNAMED + container.frame(container.BLOCK, bytes(9)) + footer([container.BlockPlace(len(UNNAMED), 18, 1, 1)]),
        UNNAMED + container.frame(container.BLOCK, bytes(8)) + footer([container.BlockPlace(len(UNNAMED), 17, 0, 0)]),
    ],
)
def test_sizes_and_counts_in_a_file_are_not_believed(tmp_path: Path, data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodesError, match=r"codes\.aek"):
            read_whole(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_few_bytes_give_at_most_one_code_of_bounded_size(tmp_path: Path) -> None:
    """A bomb: parts of constant codes take few bytes, and say how much they hold."""
    bundle = grid_bundle(64, 1)
    head = Header.of(bundle, named=False).to_bytes()
    for size in ((2048, 2049), (4096, 4096)):
        with pytest.raises(CodesError, match=r"codes of|as many parts"):
            read_whole(of_block(head, names=of_sizes(size), codes=b""), tmp_path, bundle)
    with pytest.raises(CodesError, match="sizes and records of 2 images"):
        read_whole(of_block(head, names=of_sizes((256, 256), (1, 1)), codes=b"", inputs=2, rows=2), tmp_path, bundle)


def test_an_unknown_entropy_coder_says_update(tmp_path: Path) -> None:
    with pytest.raises(CodesError, match=r"codes\.aek: .*expected entropy coder 0, found 7; update aekit"):
        read_whole(of_block(mode=7), tmp_path)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_noise_for_sizes_and_records_is_named(noise: bytes, rows: int) -> None:
    layout = GridLayout(GRID.spec, named=True)
    for names in (noise, deflated([noise])):
        try:
            found = layout.records(GridBlock(3, rows, 0, names, b""), "here")
        except AekitError as error:
            assert str(error).startswith("here: ")
            continue
        assert len(found) == 3


# --- resumed


def test_a_job_that_was_cut_off_anywhere_goes_on_to_the_same_bytes(tmp_path: Path, several_blocks: None) -> None:
    codes = made_codes(GRID, [(1 + 7 * row % 30, 1 + 5 * row % 40) for row in range(20)])
    records = [Record(f"{row:02d}.png", 3, 4) for row in range(20)]
    whole, path = written(codes, records), tmp_path / "codes.aek.part"
    with path.open("w+b") as file:
        made, marks, ends = ArchiveWriter(file, GRID, named=True), list[Mark](), list[int]()
        for row in range(0, 20, 2):
            made.add(codes[row : row + 2], records[row : row + 2])
            marks.append(Mark(Step(row + 2), made.written(row + 2, sync=False)))
            ends.append(file.seek(0, 2))
    data = path.read_bytes()
    kept = set[int]()
    for end in range(len(NAMED), len(data) + 1, 11):
        path.write_bytes(data[:end])
        told = [mark for mark, written_to in zip(marks, ends, strict=True) if written_to <= end]
        with path.open("r+b") as file:
            made = ArchiveWriter(file, GRID, named=True)
            count = made.restore(told)
            kept.add(count)
            done = told[count - 1].step.inputs if count else 0
            made.add(codes[done:], records[done:])
            made.finish()
        assert path.read_bytes() == whole
    assert len(kept) > 2


def test_an_append_copies_whole_blocks_as_they_are(tmp_path: Path, several_blocks: None) -> None:
    path, old = tmp_path / "codes.aek", written(CODES, RECORDS)
    path.write_bytes(old)
    with opened(old, tmp_path, GRID) as archive:
        end = archive.places[-1].offset
    with staged_archive(path, GRID, named=True, append=True) as more:
        more.add(CODES, [dataclasses.replace(record, path=f"zz/{record.path}") for record in RECORDS])
    assert path.read_bytes()[:end] == old[:end]
    assert_same(read_whole(path.read_bytes(), tmp_path)[0], CODES + CODES)
    other = dataclasses.replace(GRID, variant="int8")
    with pytest.raises(CodesError, match="variant int8"), staged_archive(path, other, named=True, append=True):
        raise AssertionError
