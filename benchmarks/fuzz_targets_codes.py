"""Fuzz targets of codes: code files, archives and entropy-coded bytes."""

import contextlib
import json
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_targets_base import CODES, TINY, Target, Wrong, parsed

from aekit import jobs
from aekit.codes.archive import Archive, staged_archive
from aekit.codes.archive.container import BLOCK, FOOTER, MAGIC, Header, frame
from aekit.codes.archive.records import pack
from aekit.codes.entropy import FrequencyTables, decode, encode
from aekit.codes.npy import CodeFile
from aekit.codes.npy_format import CodeWriter
from aekit.codes.npy_index import index_path
from aekit.codes.tables import read_tables
from aekit.errors import AekitError, OutputError
from aekit.images.records import Record, check_relative
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec

FEW = jobs.JobOptions(batch_size=2, workers=0)
"""Options of small jobs."""


def index(folder: Path) -> Target:
    """The index of a code file, codes.jsonl."""
    path = code_file(folder)

    def run(data: bytes) -> None:
        index_path(path).write_bytes(data)
        for record in CodeFile.open(path).records():
            check_relative(record.path, "here")

    return Target([index_path(path).read_bytes()], run)


def codes(folder: Path) -> Target:
    """The rows of a code file, codes.npy, whose index has their checksum."""
    path = code_file(folder)

    def run(data: bytes) -> None:
        path.write_bytes(data)
        opened = CodeFile.open(path)
        rows = list(opened.batches(7))
        if not np.array_equal(np.concatenate(rows), CODES):
            raise Wrong("other codes with the same checksum")

    return Target([path.read_bytes()], run)


def archive(folder: Path) -> Target:
    """An archive, codes.aek: what is read is what was written, and what is salvaged a part of it."""
    path, bundle = folder / "codes.aek", Bundle.read(TINY)
    records = tuple(Record(f"a/{row}.png", 16, 16) for row in range(len(CODES)))
    with staged_archive(path, bundle, named=True) as writer:
        writer.add(CODES, (*records, Record("bad.png", error="empty file")))

    def run(data: bytes) -> None:
        path.write_bytes(data)
        for salvage in (True, False):
            with Archive.open(path, bundle, salvage=salvage) as opened:
                opened.check_model(bundle)
                found = list(opened.records())
                if not set(found) <= set(records) or (not salvage and tuple(found) != records):
                    raise Wrong("other records with the same checksums")
                if len(opened) and not np.array_equal(opened.codes(), CODES):
                    raise Wrong("other codes with the same checksums")

    return Target([path.read_bytes()], run)


def entropy(folder: Path) -> Target:
    """Entropy-coded blocks of 50 codes."""
    tables = FrequencyTables.fit(CODES)

    def run(data: bytes) -> None:
        out = decode(data, len(CODES), tables)
        if out.shape != CODES.shape or out.dtype != np.uint8:
            raise Wrong(f"{out.dtype} {out.shape}")

    return Target([encode(CODES, tables), encode(CODES[::-1].copy(), tables)], run)


def tables(folder: Path) -> Target:
    """Frequency tables as JSON: those that are accepted code and decode."""
    seed = json.dumps(FrequencyTables.fit(CODES).to_dict()).encode()

    def run(data: bytes) -> None:
        read = FrequencyTables.from_dict(parsed(data))
        some = CODES[:, : min(len(read.frequencies), 4)]
        if some.shape[1] == len(read.frequencies) and not np.array_equal(decode(encode(some, read), 50, read), some):
            raise Wrong("codes that do not come back")

    return Target([seed], run)


def forged(folder: Path) -> Target:
    """Archives whose checksums are right and whose contents are hostile, made from a JSON description of each part.

    What opens is decoded into a folder. Nothing may appear beside that folder.
    """
    bundle, codec = Bundle.read(TINY), Codec.load(TINY, "cpu", 1)
    path = folder / "made" / "codes.aek"
    out = path.parent / "place" / "out"
    out.parent.mkdir(parents=True)
    records = (Record("a/0.png", 16, 16), Record("a/1.png", error="empty file"), Record("b/0.png", 20, 10))
    parts = {
        "header": json.loads(zlib.decompress(Header.of(bundle, named=True).to_bytes()[14:-4])),
        "blocks": [
            [3, 2, 1, 1, 4, list(encode(CODES[:2], read_tables(bundle).tables)), list(inflated(pack(records)))],
            [1, 1, 1, 1, 4, list(encode(CODES[:1], read_tables(bundle).tables)), list(inflated(pack(records[2:])))],
        ],
    }

    def run(data: bytes) -> None:
        path.write_bytes(sealed_archive(parsed(data)))
        for salvage in (True, False):
            with Archive.open(path, bundle, salvage=salvage) as opened:
                opened.check_model(bundle)
                shutil.rmtree(out.parent)
                out.parent.mkdir()
                with contextlib.suppress(OutputError):  # names that can't be files
                    jobs.reconstruct(opened, out, codec, FEW)
        found = {place.name for place in (*path.parent.iterdir(), *out.parent.iterdir())}
        if not found <= {"codes.aek", "place", "out", "out.part", "out.journal"}:
            raise Wrong(f"something outside --out: {sorted(found)}")

    return Target([json.dumps(parts).encode()], run)


def sealed_archive(parts: Any) -> bytes:
    """The archive of such a description, with the checksums and the footer that its parts want."""
    try:
        body = zlib.compress(json.dumps(parts["header"]).encode())
        lead = struct.pack("<8sHI", MAGIC, 1, len(body)) + body
        out, entries = lead + struct.pack("<I", zlib.crc32(lead)), b""
        for *counts, code_bytes, names in parts["blocks"]:
            coded, plain = (
                bytes(value % 256 for value in values if isinstance(value, int)) for values in (code_bytes, names)
            )
            head = struct.pack("<HHHHII", *(count % 2**16 for count in counts), len(coded))
            packer = zlib.compressobj(wbits=-15)
            block = frame(BLOCK, head + coded + packer.compress(plain) + packer.flush())
            entries += struct.pack("<I", len(block)) + head[:4]
            out += block
        whole = frame(FOOTER, entries)
    except (ValueError, TypeError, KeyError, RecursionError, struct.error) as error:
        raise AekitError("no description of an archive") from error
    return out + whole + struct.pack("<I", len(whole))


def inflated(data: bytes) -> bytes:
    return zlib.decompress(data, -15)


def code_file(folder: Path) -> Path:
    path = folder / "codes.npy"
    with path.open("wb") as array, index_path(path).open("wb") as lines:
        writer = CodeWriter(array, lines, Bundle.read(TINY), "uint8", named=True)
        writer.add(CODES, tuple(Record(f"a/{row}.png", 16, 16) for row in range(len(CODES))))
        writer.add(CODES[:0], (Record("bad.png", error="empty file"),))
        writer.finish()
    return path
