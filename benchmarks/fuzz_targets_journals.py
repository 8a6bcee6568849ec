"""Fuzz targets of journals: jobs that were killed, and appends that were killed when they had finished."""

import contextlib
import os
import zlib
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from fuzz_targets_base import TINY, Target, Wrong

from aekit import jobs
from aekit.codes.archive import Archive
from aekit.codes.npy import CodeFile
from aekit.codes.npy_index import index_path
from aekit.errors import AekitError
from aekit.images.sources import open_source
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.outputs.log import parse_line

FEW = jobs.JobOptions(batch_size=2, workers=0)
"""Options of small jobs."""


def repaired(data: bytes) -> bytes:
    """The lines of a journal with the checksums that they want."""
    texts = [line[9:] for line in data.split(b"\n") if line[9:]]
    return b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in texts)


def is_forged(data: bytes, seed: bytes) -> bool:
    """Whether a changed journal has a line with a right checksum that the good one does not have."""
    return any(parse_line(line) for line in set(data.splitlines(keepends=True)) - set(seed.splitlines(keepends=True)))


def journal(folder: Path) -> Target:
    """The journal of a killed job: the next job resumes it and ends with the same bytes, or refuses it by name.

    With lines forged under right checksums a journal can claim any work as done, so there only an error by name or a
    code file that can be read is asked for.
    """
    work, codec = folder / "job", Codec.load(TINY, "cpu", 1)
    work.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16), np.uint8)
    np.save(work / "in.npy", images)
    out, source = work / "o.npy", open_source(str(work / "in.npy"))
    names = ("o.npy", "o.jsonl", "o.npy.part", "o.jsonl.part", "o.npy.journal")

    def stop(done: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        jobs.compress(source, out, codec, replace(FEW, progress=stop))
    left = {name: (work / name).read_bytes() for name in names if (work / name).exists()}
    seed = left.pop("o.npy.journal")
    jobs.compress(source, out, codec, replace(FEW, resume=True))
    wanted = out.read_bytes(), index_path(out).read_bytes()

    def run(data: bytes) -> None:
        for name in names:
            (work / name).unlink(missing_ok=True)
        for name, content in left.items():
            (work / name).write_bytes(content)
        (work / "o.npy.journal").write_bytes(data)
        jobs.compress(source, out, codec, replace(FEW, resume=True))
        if not is_forged(data, seed) and (out.read_bytes(), index_path(out).read_bytes()) != wanted:
            raise Wrong("other codes than those of a job that was left alone")
        list(CodeFile.open(out).batches(7))

    return Target([seed], run, repaired)


def finished(folder: Path) -> Target:
    """The journal of an append that was killed after the archive had taken its name.

    The next job, resumed or not, refuses by name or leaves an archive with whole appends. It must not lose the archive,
    and add the rows again only if the journal does not tell any more that they are there.
    """
    work, codec, bundle = folder / "job", Codec.load(TINY, "cpu", 1), Bundle.read(TINY)
    work.mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("old", 5), ("new", 3)):
        np.save(work / f"{name}.npy", rng.integers(0, 256, (count, 16, 16), np.uint8))
    out, part, journal = (work / f"o.aek{suffix}" for suffix in ("", ".part", ".journal"))
    jobs.compress(open_source(str(work / "old.npy")), out, codec, FEW)
    kept, rename = list[bytes](), os.replace

    def renamed(source: Path, target: Path) -> None:
        rename(source, target)
        kept.append(journal.read_bytes())

    source = open_source(str(work / "new.npy"))
    with mock.patch("os.replace", renamed):
        jobs.compress(source, out, codec, FEW, append=True)
    (seed,), whole = kept, out.read_bytes()

    def run(data: bytes) -> None:
        part.unlink(missing_ok=True)
        out.write_bytes(whole)
        journal.write_bytes(data)
        try:
            jobs.compress(source, out, codec, replace(FEW, resume=zlib.crc32(data) % 2 == 0), append=True)
        except AekitError:
            if not out.exists() or out.read_bytes() != whole:
                raise Wrong("an error that costs the archive") from None
            raise
        with Archive.open(out, bundle) as archive:
            count = len(archive.codes())
        if count not in (8, 11) or (count == 11 and data == seed):
            raise Wrong(f"{count} rows")

    return Target([seed], run, repaired)
