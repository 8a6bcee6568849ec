"""The batch jobs: compress a source to a code file, reconstruct a code file to images, denoise a source to images.

Each works block by block in bounded memory, in the order of the source, while aekit.pipeline reads ahead; its output
takes its name when it is whole.
"""

import posixpath
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from aekit.codec import BATCH_SIZE, Codec
from aekit.codefiles import StoredCodes, check_codes_out, staged_codes
from aekit.errors import CodesError, ImageError, OptionError, SourceError
from aekit.images import MAX_PIXELS
from aekit.outputs import check_apart
from aekit.pictures import Batch, numbered, png_paths, staged_pictures
from aekit.pipeline import reading
from aekit.sources import Block, FolderSource, Record, Source

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
    overwrite: bool = False,
    append: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Encode every image of `source` into `out`: an .npy array with its index (.jsonl), or an archive (.aek).

    `dtype` is float32 if not given, and in an archive always uint8. `on_error` says what an unreadable image does:
    `skip` leaves it out with its reason in the index, `fail` stops the job. `append` adds to the archive that is there,
    if one is; images whose paths it holds already are left as they are.
    `workers` read the files; None chooses (see aekit.pipeline). Where that means processes, and the codec has run
    already, they are spawned: a script then keeps its own work below `if __name__ == "__main__"`, as for all of
    multiprocessing.

    Raises OutputError if the output is in the way, ImageError on the first unreadable image under `fail`, SourceError
    if no image at all could be read; CodesError or ModelMismatch if the archive to append to is damaged or another's.
    Nothing is left behind then, and what was there is as it was.
    """
    kept_as = check_codes_out(out, dtype, append=append, overwrite=overwrite)
    _check_options(batch_size, on_error)
    check_apart(out, Path(source.name))
    began, skipped = time.monotonic(), list[Record]()
    named = source.paths is not None
    with staged_codes(out, codec.bundle, kept_as, named=named, append=append) as writer:
        held = writer.count
        fresh = _without(source, writer.present)
        with reading(fresh, codec.spec.geometry, batch_size * codec.runs, workers) as blocks:
            provider = codec.provider("encoder")  # while it opens, files are read already
            for stop, block in _checked(blocks, on_error):
                skipped += [record for record in block.records if record.error]
                writer.add(codec.encode(block.images, kept_as, batch_size), block.records)
                progress(stop)
        _check_any(writer.count, source, skipped)
    return Summary(
        out,
        writer.count - held,
        tuple(skipped),
        out.stat().st_size,
        time.monotonic() - began,
        provider,
        present=len(source) - len(fresh),
        held=held,
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
    overwrite: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Decode every row of `codes`: to one array if `out` ends in .npy, else to PNG files in the source's folder tree.

    `only` decodes the images whose paths match that pattern alone, as fnmatch has it: `*` matches `/` too.
    `original_size` scales each PNG to the size of the image it was made from.

    Raises ModelMismatch if the codes are another model's, CodesError if they are damaged, OutputError if the output is
    in the way. Nothing is left behind then.
    """
    codes.check_model(codec.bundle)
    _check_options(batch_size)
    check_apart(out, codes.path)
    as_array = out.suffix == ".npy"
    if original_size and (as_array or not codes.named):
        raise OptionError("--original-size", expected="codes of a folder and a folder as --out")
    began = time.monotonic()
    rows = _matching(codes, only)
    with staged_pictures(
        out,
        codec.spec.geometry,
        expected=len(codes) if rows is None else len(rows),
        command="reconstruct",
        model_id=codec.model_id,
        original_size=original_size,
        overwrite=overwrite,
        workers=workers,
    ) as writer:
        provider = codec.provider("decoder")
        records = [] if as_array else _png_records(codes)
        if rows is not None and records:
            records = [records[row] for row in rows]
        writer.write(_decoded(codes, rows, codec, batch_size, records, progress))
    return Summary(out, writer.count, (), writer.bytes, time.monotonic() - began, provider)


def denoise(
    source: Source,
    out: Path,
    codec: Codec,
    *,
    original_size: bool = False,
    batch_size: int = BATCH_SIZE,
    workers: int | None = None,
    on_error: str = "skip",
    overwrite: bool = False,
    progress: Progress = _ignore,
) -> Summary:
    """Take every image of `source` through the encoder and the decoder, its latent in full precision: to one array if
    `out` ends in .npy, else to PNG files in the source's folder tree.

    `original_size` scales each PNG to the size its image had. `on_error` is that of `compress`; an array has no row for
    an image that was left out.

    Raises OutputError if the output is in the way, ImageError on the first unreadable image under `fail`, SourceError
    if no image at all could be read. Nothing is left behind then.
    """
    _check_options(batch_size, on_error)
    check_apart(out, Path(source.name))
    as_array = out.suffix == ".npy"
    if original_size and (as_array or source.paths is None):
        raise OptionError("--original-size", expected="a folder of images and a folder as --out")
    began, skipped, geometry = time.monotonic(), list[Record](), codec.spec.geometry
    with (
        staged_pictures(
            out,
            geometry,
            expected=len(source),
            command="denoise",
            model_id=codec.model_id,
            original_size=original_size,
            overwrite=overwrite,
            workers=workers,
        ) as writer,
        reading(source, geometry, batch_size * codec.runs, workers) as blocks,
    ):
        providers = {codec.provider(role): None for role in ("encoder", "decoder")}
        names = numbered(len(source)) if source.paths is None else png_paths(source.paths)

        def denoised() -> Iterator[Batch]:
            done = 0
            for stop, block in _checked(blocks, on_error):
                skipped.extend(record for record in block.records if record.error)
                inputs = block.records or [Record("")] * len(block.images)
                named = [replace(record, path=name) for record, name in zip(inputs, names[done:stop], strict=True)]
                images = codec.reconstruct(block.images, batch_size=batch_size)
                yield images, [record for record in named if not record.error]
                done = stop
                progress(stop)

        writer.write(denoised())
        _check_any(writer.count, source, skipped)
    seconds = time.monotonic() - began
    return Summary(out, writer.count, tuple(skipped), writer.bytes, seconds, " and ".join(providers))


def _check_options(batch_size: int, on_error: str = "skip") -> None:
    if on_error not in ("skip", "fail"):
        raise OptionError("--on-error", expected="skip or fail", found=repr(on_error))
    if batch_size < 1:
        raise OptionError("--batch-size", expected="1 or more", found=str(batch_size))


def _checked(blocks: Iterator[tuple[int, Block]], on_error: str) -> Iterator[tuple[int, Block]]:
    """The blocks; under `fail` an unreadable image is an ImageError."""
    for stop, block in blocks:
        failed = [record for record in block.records if record.error]
        if failed and on_error == "fail":
            raise ImageError(f"{failed[0].path}: {failed[0].error}")
        yield stop, block


def _check_any(count: int, source: Source, skipped: Sequence[Record]) -> None:
    """Raise SourceError if not one image could be read."""
    if not count:
        reason = f"{skipped[0].path}: {skipped[0].error}" if skipped else "none"
        raise SourceError(source.name, expected="at least one readable image", found=reason)


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
    progress: Progress,
) -> Iterator[Batch]:
    """The images of all codes or of these rows, and their records if there are any."""
    done = 0
    for batch in codes.batches(batch_size * codec.runs, rows):
        yield codec.decode(batch, batch_size), records[done : done + len(batch)]
        done += len(batch)
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
