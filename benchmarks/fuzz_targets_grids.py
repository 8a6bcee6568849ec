"""Fuzz targets of grid codes: archives of version 2, the index of codes.npy, and messages."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from fuzz_targets_base import TINY, Target, Wrong

from aekit.codes.archive import Archive, grid_blocks, staged_archive
from aekit.codes.entropy import FrequencyTables
from aekit.codes.messages import Messages
from aekit.codes.npy import CodeFile
from aekit.codes.npy_format import CodeWriter
from aekit.codes.npy_index import index_path
from aekit.codes.tables import pack_tables
from aekit.images.records import Record, check_relative
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.spec import GridGeometry

SIZES = ((20, 33), (8, 8), (64, 25), (1, 70), (17, 16)) * 3
"""(height, width) of the pictures in the archive."""


def archive(folder: Path) -> Target:
    """An archive of grid codes in several blocks. Every second input has the checksums of its frames repaired.

    The codes of a block are always those of one that was written, because the parts have checksums of their own.
    """
    path, bundle, codes = folder / "codes.aek", _bundle(), _codes(SIZES)
    records = [Record(f"a/{row}.png", width, height) for row, (height, width) in enumerate(SIZES)]
    before, grid_blocks.BLOCK_NUMBERS = grid_blocks.BLOCK_NUMBERS, 400
    try:
        with staged_archive(path, bundle, named=True) as writer:
            writer.add(codes, [*records, Record("bad.png", error="empty file")])
    finally:
        grid_blocks.BLOCK_NUMBERS = before
    with Archive.open(path, bundle) as opened:
        known = {_rows(opened.codes_of(place)) for place in opened.places} | {b""}

    def run(data: bytes) -> None:
        path.write_bytes(data)
        for salvage in (True, False):
            with Archive.open(path, bundle, salvage=salvage) as opened:
                opened.check_model(bundle)
                for record in opened.records():
                    check_relative(record.path, "here")
                sizes = list(opened.sizes())
                found = [opened.codes_of(place) for place in opened.places]
                if not {_rows(block) for block in found} <= known:
                    raise Wrong("other codes with the same checksums")
                if [size for block in found for size in block.sizes] != sizes or len(sizes) != len(opened):
                    raise Wrong("other sizes than the codes have")

    return Target([path.read_bytes()], run, _repaired)


def message(folder: Path) -> Target:
    """Messages of a small and of a large picture. Every second input gets the mark of the model again."""
    messages = Messages(Codec(_bundle()))

    def run(data: bytes) -> None:
        code = messages.unpack_code(data)
        if not isinstance(code, GridCodes) or code[0].shape != (
            -(-code.sizes[0][0] // 8),
            -(-code.sizes[0][1] // 8),
            5,
        ):
            raise Wrong("a code that does not belong to the size")

    seeds = [messages.pack_code(_codes([size])) for size in ((20, 33), (8, 4100))]
    return Target(seeds, run, lambda data: data[:1] + messages.mark + data[3:])


def index(folder: Path) -> Target:
    """The index of a code file of grid codes."""
    path, bundle, codes = folder / "codes.npy", _bundle(), _codes(((20, 33), (24, 40), (17, 34)))
    with path.open("wb") as array, index_path(path).open("wb") as lines:
        writer = CodeWriter(array, lines, bundle, "uint8", named=True)
        writer.add(codes, [Record("a.png", 33, 20), Record("b.png", 400, 240), Record("c.png", 34, 17)])
        writer.finish()

    def run(data: bytes) -> None:
        index_path(path).write_bytes(data)
        opened = CodeFile.open(path)
        opened.check_model(bundle)
        for batch in opened.batches(2):
            if not isinstance(batch, GridCodes) or any(
                bundle.spec.grid.code_shape(*size) != (3, 5) for size in batch.sizes
            ):
                raise Wrong("sizes that have other codes")
        for record in opened.records():
            check_relative(record.path, "here")

    def repaired(data: bytes) -> bytes:
        crc = zlib.crc32(data.partition(b"\n")[2])
        start = data.find(b'"index_crc32": ')
        end = next((at for at in range(start + 15, len(data)) if not data[at : at + 1].isdigit()), len(data))
        return data[: start + 15] + str(crc).encode() + data[end:] if start >= 0 else data

    return Target([index_path(path).read_bytes()], run, repaired)


def _bundle() -> Bundle:
    """The facts of a model with a stride of 8 and 5 numbers a place. It has no graphs."""
    bundle = Bundle.read(TINY)
    spec = replace(bundle.spec, geometry=GridGeometry(8, 3, 1, 1), code_dim=5)
    tables = FrequencyTables.fit(_codes([(800, 800)]).rows())
    return replace(bundle, spec=spec, manifest={**bundle.manifest, "tables": pack_tables(tables)})


def _codes(sizes: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> GridCodes:
    rng = np.random.default_rng(0)
    shapes = [(-(-height // 8), -(-width // 8), 5) for height, width in sizes]
    codes = tuple(rng.normal(128, 3, shape).clip(0, 255).astype(np.uint8) for shape in shapes)
    return GridCodes(codes, tuple(sizes))


def _rows(codes: object) -> bytes:
    if not isinstance(codes, GridCodes):
        raise Wrong("codes that are no grid codes")
    return codes.rows().tobytes()


def _repaired(data: bytes) -> bytes:
    """The archive with the checksums of its header and frames that their bytes want; the rest as it is."""
    if len(data) < 14:
        return data
    out, at = bytearray(data), 14 + struct.unpack_from("<I", data, 10)[0]
    begin = 0
    while at + 4 <= len(out):
        struct.pack_into("<I", out, at, zlib.crc32(out[begin:at]))
        begin = at + 4
        if begin + 5 > len(out):
            break
        at = begin + 5 + struct.unpack_from("<I", out, begin + 1)[0]
    return bytes(out)
