"""The batch jobs: compress a source to a code file, reconstruct a code file to images, denoise a source to images.

Each works block by block in bounded memory, in the order of the source, while aekit.images.reading reads ahead. The
output takes its name when it is whole.
"""

import contextlib
import posixpath
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from aekit.codes.files import StoredCodes, check_codes_out, codes_files, staged_codes
from aekit.errors import CodesError, OptionError
from aekit.images.decode import MAX_PIXELS
from aekit.images.reading import reading
from aekit.images.records import Block, Record
from aekit.images.sources import FolderSource, Source, state_of, state_of_files
from aekit.images.writing import Batch, PictureWriter, check_pictures_out, numbered, png_paths, staged_pictures
from aekit.jobs.failures import Failed
from aekit.jobs.identity import agreed_providers, job_facts, job_journal
from aekit.model.codec import BATCH_SIZE, Codec
from aekit.outputs.journal import Journal
from aekit.outputs.staging import check_apart

Progress = Callable[[int], None]
"""Called with the number of inputs done so far."""


@dataclass(frozen=True)
class Summary:
    """What a job did."""

    out: Path
    images: int
    """Images that made it."""
    skipped: tuple[Record, ...]
    """Inputs left out, with their reasons."""
    bytes: int
    """Size of the output that holds the codes or images, without indexes."""
    seconds: float
    provider: str
    """Where the graph ran, proved."""
    present: int = 0
    """Inputs that an archive held already, and that were therefore not read."""
    held: int = 0
    """Codes that an archive held before the job."""
    resumed: int = 0
    """Inputs that a job which was cut short had done."""


def _ignore(_: int) -> None:
    pass


def compress(
    source: Source,
    out: Path,
    codec: Codec,
    *,
    dtype: str | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    on_error: str = "skip",
    max_failures: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    append: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Encode every image of `source` into `out`: an .npy array with its index (.jsonl), or an archive (.aek).

    `dtype`, if not given, is float32, of a model of the objective `rate` uint8; in an archive it is always uint8.
    `on_error` says what an unreadable image does: `skip` leaves it out with its reason in the index, `fail` stops the
    job. `append` adds to the archive that is there, if one is; images whose paths it holds already are left as they
    are.
    `workers` read the files; None chooses (see aekit.images.reading). Where that means processes, and the codec has run
    already, they are spawned: a script then keeps its own work below `if __name__ == "__main__"`, as for all of
    multiprocessing.

    Raises OutputError if the output is in the way, ImageError on the first unreadable image under `fail`, SourceError
    if no image at all could be read; CodesError or ModelMismatch if the archive to append to is damaged or another's.
    What was there is as it was then. A job that was stopped by a signal, a full disk, a dead worker or failures of
    images leaves what it has done beside `out`; `resume` goes on with it, to the bytes that the job would have made,
    and raises OutputError if source, model or options are others; where nothing was left it simply starts.
    `max_failures`, a number or a percentage as `5%`, makes more failures than that an error, TooManyFailures.
    """
    if dtype is None and codec.spec.objective == "rate":
        dtype = "uint8"  # what it was trained for: its latents hold more than was paid for
    kept_as = check_codes_out(out, dtype, append=append, overwrite=overwrite)
    failed = Failed(source, on_error, max_failures)
    check_apart(codes_files(out), Path(source.name), codec.bundle.path, scanned=Path(source.name))
    began, files, named = time.monotonic(), codes_files(out), source.paths is not None
    others = {"the source": state_of(source), "--dtype": kept_as, "--append": append}
    if append:
        others["the archive to append to"] = state_of_files(out)
    facts = job_facts("compress", codec, batch_size, **others)
    with (
        job_journal(out, files, facts, resume=resume, overwrite=overwrite or append) as journal,
        staged_codes(out, codec.bundle, kept_as, journal, named=named, append=append) as writer,
    ):
        fresh, resumed = _without(source, writer.present), journal.inputs
        failed.restore(journal.marks)
        opening = partial(codec.provider, "encoder")
        with reading(fresh, codec.spec.geometry, codec.block(batch_size), workers, resumed, opening) as blocks:
            provider = agreed_providers(journal, codec, "encoder")
            for block, mark in failed.checked(blocks):
                writer.add(codec.encode(block.images, kept_as, batch_size), block.records)
                journal.mark(mark | writer.mark(sync=journal.due()))
                progress(journal.inputs)
        failed.check_any(writer.count)
    return Summary(
        out,
        writer.count - writer.held,
        tuple(failed.records),
        out.stat().st_size,
        time.monotonic() - began,
        provider,
        present=len(source) - len(fresh),
        held=writer.held,
        resumed=resumed,
    )


def reconstruct(
    codes: StoredCodes,
    out: Path,
    codec: Codec,
    *,
    only: str | None = None,
    original_size: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Decode every row of `codes`: to one array if `out` ends in .npy, else to PNG files in the source's folder tree.

    `only` decodes the images whose paths match that pattern alone, as fnmatch has it: `*` matches `/` too.
    `original_size` scales each PNG to the size of the image it was made from.

    Raises ModelMismatch if the codes are another model's, CodesError if they are damaged, OutputError if the output is
    in the way, OptionError if it can't be pictures. `resume` is that of `compress`.
    """
    codes.check_model(codec.bundle)
    check_apart(out, *codes_files(codes.path), codec.bundle.path)
    as_array = check_pictures_out(out)
    if original_size and (as_array or not codes.named):
        raise OptionError("--original-size", expected="codes of a folder and a folder as --out")
    began = time.monotonic()
    rows = _matching(codes, only)
    # With or without the index: that decides what the pictures are called.
    paths = "with" if codes.named else "without"
    state = f"{len(codes):,} codes {paths} paths, {state_of_files(*codes_files(codes.path))}"
    others = {"the code file": state, "--only": only, "--original-size": original_size}
    facts = job_facts("reconstruct", codec, batch_size, **others)
    with _writing_pictures(
        out,
        codec,
        len(codes) if rows is None else len(rows),
        facts,
        original_size=original_size,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
    ) as (journal, writer):
        provider = agreed_providers(journal, codec, "decoder")
        records = [] if as_array else _png_records(codes)
        if rows is not None and records:
            records = [records[row] for row in rows]
        writer.restore(record.path for record in records)
        resumed = journal.inputs
        writer.write(_decoded(codes, rows, codec, batch_size, records, resumed, progress))
    return Summary(out, writer.count, (), writer.bytes, time.monotonic() - began, provider, resumed=resumed)


def denoise(
    source: Source,
    out: Path,
    codec: Codec,
    *,
    original_size: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    on_error: str = "skip",
    max_failures: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Take every image of `source` through the encoder and the decoder, its latent in full precision: to one array if
    `out` ends in .npy, else to PNG files in the source's folder tree.

    `original_size` scales each PNG to the size its image had. `on_error` is that of `compress`; an array has no row for
    an image that was left out.

    Raises OutputError if the output is in the way, ImageError on the first unreadable image under `fail`, SourceError
    if no image at all could be read. `resume` and `max_failures` are those of `compress`.
    """
    failed = Failed(source, on_error, max_failures)
    check_apart(out, Path(source.name), codec.bundle.path, scanned=Path(source.name))
    as_array = check_pictures_out(out)
    if original_size and (as_array or source.paths is None):
        raise OptionError("--original-size", expected="a folder of images and a folder as --out")
    began, geometry = time.monotonic(), codec.spec.geometry
    others = {"the source": state_of(source), "--original-size": original_size}
    facts = job_facts("denoise", codec, batch_size, **others)
    with _writing_pictures(
        out,
        codec,
        len(source),
        facts,
        original_size=original_size,
        workers=workers,
        resume=resume,
        overwrite=overwrite,
    ) as (journal, writer):
        names = numbered(len(source)) if source.paths is None else png_paths(source.paths)
        failed.restore(journal.marks)
        writer.restore(name for number, name in enumerate(names) if number not in failed.numbers)
        failed = Failed(source, on_error, max_failures)
        failed.restore(journal.marks)  # of which some may have turned out not to count
        resumed = journal.inputs

        def denoised(blocks: Iterator[tuple[int, Block]]) -> Iterator[Batch]:
            done = resumed
            for block, mark in failed.checked(blocks):
                inputs = block.records or [Record("")] * len(block.images)
                named = [
                    replace(record, path=name)
                    for record, name in zip(inputs, names[done : mark["inputs"]], strict=True)
                ]
                images = codec.reconstruct(block.images, batch_size=batch_size)
                yield Batch(images, [record for record in named if not record.error], mark)
                done = mark["inputs"]
                progress(done)

        with reading(source, geometry, codec.block(batch_size), workers, resumed, codec.open) as blocks:
            providers = agreed_providers(journal, codec, "encoder", "decoder")
            writer.write(denoised(blocks))
        failed.check_any(writer.count)
    seconds = time.monotonic() - began
    return Summary(out, writer.count, tuple(failed.records), writer.bytes, seconds, providers, resumed=resumed)


@contextlib.contextmanager
def _writing_pictures(
    out: Path,
    codec: Codec,
    expected: int,
    facts: dict[str, object],
    *,
    original_size: bool,
    workers: int | None,
    resume: bool,
    overwrite: bool,
) -> Iterator[tuple[Journal, PictureWriter]]:
    with (
        job_journal(out, [out], facts, resume=resume, overwrite=overwrite) as journal,
        staged_pictures(
            out,
            codec.spec.geometry,
            expected=expected,
            command=str(facts["the command"]),
            model_id=codec.model_id,
            original_size=original_size,
            journal=journal,
            overwrite=overwrite,
            workers=workers,
        ) as writer,
    ):
        yield journal, writer


def _without(source: Source, present: frozenset[str]) -> Source:
    """The source less the images whose paths are present already."""
    if not present or not isinstance(source, FolderSource):
        return source
    return replace(source, paths=tuple(path for path in source.paths if path not in present))


def _decoded(
    codes: StoredCodes,
    rows: Sequence[int] | None,
    codec: Codec,
    batch_size: int,
    records: Sequence[Record],
    first: int,
    progress: Progress,
) -> Iterator[Batch]:
    """The images of all codes or of these rows from the first that is not done on, with their records if there are any.
    Codes before it are read all the same: they are checked as a whole."""
    done = 0
    for batch in codes.batches(codec.block(batch_size), rows):
        start, done = done, done + len(batch)
        if start >= first:
            mark = {"inputs": done, "skipped": []}
            yield Batch(codec.decode(batch, batch_size), records[start:done], mark)
        progress(done)


def _matching(codes: StoredCodes, only: str | None) -> list[int] | None:
    """The rows of the images whose paths match `only`; None for all. Raises OptionError if there are none."""
    if only is None:
        return None
    if not codes.named:
        raise OptionError("--only", expected="codes of images that have paths", found=f"{codes.path}, whose have none")
    rows = [row for row, record in enumerate(codes.records()) if fnmatchcase(record.path, only)]
    if not rows:
        raise OptionError("--only", expected=f"a pattern that paths in {codes.path} match", found=repr(only))
    return rows


def _png_records(codes: StoredCodes) -> list[Record]:
    """A record a row, whose path is that of the PNG to write; raises CodesError if the index names a file twice."""
    records = list(codes.records())
    if not records:
        return [Record(name) for name in numbered(len(codes))]
    paths = png_paths([posixpath.normpath(record.path) for record in records])
    out = []
    seen = set[str]()
    for record, path in zip(records, paths, strict=True):
        if record.width <= 0 or not 0 < record.width * record.height <= MAX_PIXELS:
            raise CodesError(f"{codes.path}: {record.path}", expected="a size", found="none that is valid")
        if path in seen:
            raise CodesError(f"{codes.path}: {record.path}", expected="each path once", found="it again")
        seen.add(path)
        out.append(Record(path, record.width, record.height))
    return out
