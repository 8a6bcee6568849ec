"""Archives and rows made to mislead, with right checksums: refused or salvaged, in bounded time and memory."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from test_codes import ROWS, write

from aekit.codes.archive import Archive, staged_archive
from aekit.codes.archive.container import FOOTER, frame
from aekit.codes.npy import CodeFile
from aekit.errors import CodesError
from aekit.model.bundle import Bundle


def empty_archive(path: Path) -> bytes:
    """An archive without images, less its footer."""
    with staged_archive(path, Bundle.read(TINY), named=False):
        pass
    data = path.read_bytes()
    return data[: -4 - struct.unpack("<I", data[-4:])[0]]


def with_footer(path: Path, blocks: bytes, entries: bytes) -> Path:
    whole = frame(FOOTER, entries)
    path.write_bytes(empty_archive(path) + blocks + whole + struct.pack("<I", len(whole)))
    return path


def test_salvage_takes_a_time_in_proportion_to_the_blocks(tmp_path: Path) -> None:
    size, count = 27, 30_000
    path = with_footer(tmp_path / "a.aek", bytes(size * count), struct.pack("<IHH", size, 1, 1) * count)
    began = time.process_time()
    with Archive.open(path, Bundle.read(TINY), salvage=True) as archive:
        assert len(archive) == 0
        assert archive.loss is not None
    assert time.process_time() - began < 5  # it took over 110 s


@pytest.mark.parametrize("entry", [(0, 1, 1), (8, 4096, 4096), (0, 65535, 65535)])
def test_a_footer_that_claims_images_in_no_bytes_is_refused(tmp_path: Path, entry: tuple[int, int, int]) -> None:
    count = 1000
    path = with_footer(tmp_path / "a.aek", bytes(entry[0] * count), struct.pack("<IHH", *entry) * count)
    with pytest.raises(CodesError, match="cut short or damaged"):
        Archive.open(path, Bundle.read(TINY))


def test_given_rows_of_an_altered_code_file_are_refused_before_the_first_one(tmp_path: Path) -> None:
    codes = write(tmp_path / "codes.npy")
    rows = [0, 2]
    np.testing.assert_array_equal(np.concatenate(list(CodeFile.open(codes).batches(1, rows))), ROWS[rows])
    data = bytearray(codes.read_bytes())
    data[-1] ^= 1  # a row that is not even asked for
    codes.write_bytes(data)
    with pytest.raises(CodesError, match="was altered"):
        next(CodeFile.open(codes).batches(1, rows))
