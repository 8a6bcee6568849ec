"""Archives of grid codes (version 2): there and back, against a second reader, and what they cost."""

import dataclasses
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from archives import opened, rows_of
from archives import written as written_vectors
from grid_archives import CODES, GRID, RECORDS, assert_same, grid_bundle, made_codes, small_parts, written
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_archive import read_archive
from test_archive import PATHS

from aekit.codes import archive_format, entropy
from aekit.codes.archive import container, staged_archive
from aekit.codes.tables import read_tables
from aekit.errors import CodesError, ModelMismatch, ShapeError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.grids import GridCodes


@st.composite
def contents(draw: st.DrawFn) -> tuple[GridCodes, list[Record] | None, Bundle]:
    """Codes of any bytes and shapes, records of any kind or none, and a model whose tables may fit them or not."""
    bundle = grid_bundle(
        draw(st.sampled_from([1, 3, 20])), draw(st.sampled_from([1, 8])), draw(st.sampled_from([0.3, 9.0]))
    )
    side = st.integers(1, 3 * bundle.spec.grid.stride)
    sizes, records = draw(st.lists(st.tuples(side, side), max_size=9)), None
    if draw(st.booleans()):
        paths = draw(PATHS)
        is_read, left = [draw(st.booleans()) for _ in paths], iter(sizes)
        sizes = [next(left, (1, 2)) for _ in range(sum(is_read))]
        own = iter(sizes)
        records = [
            Record(path, *(next(own)[::-1] if draw(st.booleans()) else (next(own)[0], draw(st.integers(1, 2**31)))))
            if read
            else Record(path, error="why")
            for path, read in zip(paths, is_read, strict=True)
        ]
    shapes = [(*bundle.spec.grid.code_shape(*size), bundle.spec.code_dim) for size in sizes]
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    codes = tuple(
        rng.integers(0, 256, shape, np.uint8) if row % 2 else np.full(shape, 128, np.uint8)
        for row, shape in enumerate(shapes)
    )
    return GridCodes(codes, tuple(sizes)), records, bundle


@settings(max_examples=80)
@given(contents(), st.integers(1, 10), st.integers(0, 10))
def test_any_codes_and_records_survive_and_a_plain_reader_agrees(
    case: tuple[GridCodes, list[Record] | None, Bundle], step: int, cut: int
) -> None:
    codes, records, bundle = case
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setattr(container, "MAX_INPUTS", 3)
        small_parts(patch)
        data = written(codes, records, bundle)
        assert written(codes, records, bundle, step) == data
        with opened(data, folder, bundle) as archive:
            assert_same(archive.codes(), codes)
            assert tuple(archive.sizes()) == codes.sizes
            assert list(archive.inputs()) == (records or [])
        header, plain, plain_records = read_archive(data, read_tables(bundle).tables.to_dict(), part_numbers=60)
        wanted = [code.reshape(-1, code.shape[2]).tolist() for code in codes.codes]
        assert plain == [((width, height), code) for (height, width), code in zip(codes.sizes, wanted, strict=True)]
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


def test_it_is_a_sequence_of_entries_with_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_parts(monkeypatch)
    with opened(written(CODES, RECORDS), tmp_path, GRID) as archive:
        assert len(archive.places) > 1
        assert [entry.size for entry in archive] == list(CODES.sizes)
        assert [entry.record for entry in archive] == [record for record in RECORDS if not record.error]
        for row in range(4):
            np.testing.assert_array_equal(archive[row].code, CODES[row])
        for rows in (None, [0, 3], [1], [2, 3], []):
            found = GridCodes((), ())
            for batch in archive.batches(1, rows):
                assert isinstance(batch, GridCodes) and len(batch) == 1
                found += batch
            wanted = range(4) if rows is None else rows
            assert_same(
                found, GridCodes(tuple(CODES[row] for row in wanted), tuple(CODES.sizes[row] for row in wanted))
            )


def test_of_a_block_only_the_parts_with_wanted_rows_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_parts(monkeypatch, part=60, block=10_000)
    data = bytearray(written(CODES, None))
    with opened(bytes(data), tmp_path, GRID) as archive:
        (place,) = archive.places
        block = archive.block(place)
    # the numbers of the first part get another checksum
    at = place.offset + 5 + 9 + len(block.names)
    data[at] ^= 1
    end = place.offset + place.size
    data[end - 4 : end] = zlib.crc32(data[place.offset : end - 4]).to_bytes(4, "little")
    with opened(bytes(data), tmp_path, GRID) as archive:
        (batch,) = archive.batches(9, [1, 2])
        assert_same(batch, CODES[1:3])
        with pytest.raises(
            CodesError, match=r"codes\.aek: the block at byte .* decode to other numbers than were stored"
        ):
            list(archive.batches(9, [0]))


def test_a_large_picture_is_stored_and_read_in_bounded_memory(tmp_path: Path) -> None:
    bundle, size = grid_bundle(64, 16), (16 * 300, 16 * 400)
    codes = made_codes(bundle, [size])
    tracemalloc.start()
    try:
        data = written(codes, None, bundle)
        assert tracemalloc.get_traced_memory()[1] < 7 * codes[0].nbytes  # one stream of all of it takes 32 times
        tracemalloc.reset_peak()
        with opened(data, tmp_path, bundle) as archive:
            (batch,) = archive.batches(256)
        assert tracemalloc.get_traced_memory()[1] < 9 * codes[0].nbytes
    finally:
        tracemalloc.stop()
    assert_same(batch, codes)


def test_the_container_costs_few_bytes_a_picture() -> None:
    bundle = grid_bundle(48, 16)
    tables = read_tables(bundle).tables
    codes = made_codes(bundle, [(240, 320)]) + made_codes(bundle, [(240, 320)] * 99, seed=1)
    header = len(container.Header.of(bundle, named=False).to_bytes())
    for count, most in ((1, 70), (10, 8), (100, 2)):  # bytes a picture beside the header, which archives have once
        parts = codes[:72][:count], codes[72:count]  # 72 of these codes fill a part
        coded = sum(len(entropy.encode(part.rows(), tables)) for part in parts if part)
        plain = len(written(codes[:count], None, bundle))
        named = len(written(codes[:count], [Record(f"cells/{row:05d}.png", 320, 240) for row in range(count)], bundle))
        assert 0 < plain - coded - header < most * count
        assert 0 < named - plain < 5 * count + 40


def test_what_info_says(tmp_path: Path) -> None:
    path = tmp_path / "codes.aek"
    path.write_bytes(written(CODES, RECORDS))
    about = archive_format.describe(path)
    pixels = sum(height * width for height, width in CODES.sizes)
    assert about.facts["pixels"] == pixels
    assert "4 codes of 5 uint8 numbers for each 8x8 pixels" in about.lines[0]
    bits = 8 * len(path.read_bytes()) / pixels
    assert (
        about.lines[-1]
        == f"  pictures of 4 sizes, from 8x8 to 25x64 pixels; {pixels:,} pixels, {bits:.4f} bits a pixel"
    )
    path.write_bytes(written(CODES[:1], RECORDS[:1]))
    assert "  pictures of 33x20 pixels; 660 pixels" in archive_format.describe(path).lines[-1]


# --- what does not fit


def test_an_aekit_that_knows_version_1_alone_says_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(CODES, None)
    monkeypatch.setattr(container, "NEWEST", 1)
    with pytest.raises(CodesError, match=r"expected format 1 or older, found format 2.*; update aekit"):
        opened(data, tmp_path)


def test_codes_of_the_other_kind_of_model_are_refused(tmp_path: Path) -> None:
    vectors = written_vectors(np.zeros((2, 4), np.uint8), None)
    said = r"expected codes of model 0123456789abcdef \(grid codes, .*\), found .* \(vector codes, .*--model"
    with pytest.raises(ModelMismatch, match=said):
        opened(vectors, tmp_path, dataclasses.replace(GRID, model_id="0123456789abcdef")).codes()
    with pytest.raises(ShapeError, match="expected grid codes with the sizes of their pictures, found ndarray"):
        written(np.zeros((1, 2, 2, 5), np.uint8), None)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"expected uint8 \[4, 4\], found grid codes"):
        written_vectors(CODES, None)


@pytest.mark.parametrize(
    "codes",
    [
        GridCodes((np.zeros((1, 1, 4), np.uint8),), ((8, 8),)),  # channels
        GridCodes((np.zeros((1, 2, 5), np.uint8),), ((8, 8),)),  # too wide for the picture
        GridCodes((np.zeros((1, 1, 5), np.float32),), ((8, 8),)),
        GridCodes((), ()),  # fewer than records
    ],
)
def test_a_writer_takes_what_fits_alone(codes: GridCodes) -> None:
    with pytest.raises(ShapeError, match="codes for an archive"):
        written(codes, RECORDS[:1])


def test_a_picture_that_is_too_large_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aekit.codes.archive.grid_blocks.MAX_NUMBERS", 70)
    with pytest.raises(CodesError, match=r"a picture of 33x20 pixels: expected .* at most 70 numbers, .*--max-side"):
        written(CODES, None)
    long = GridCodes((np.zeros((1, 8193, 5), np.uint8),), ((8, 65537),))
    with pytest.raises(CodesError, match=r"a picture of 65537x8 pixels: expected sides of at most 65,535 pixels"):
        written(long, None)
