"""reconstruct: decode a code file to pictures."""

import os
import posixpath
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from aekit.codes.files import StoredCodes
from aekit.codes.formats import format_of
from aekit.errors import CodesError, OptionError
from aekit.images.opening import MAX_PIXELS
from aekit.images.picture_array import differing
from aekit.images.picture_names import MAX_NAME, numbered, png_paths
from aekit.images.picture_writer import Batch
from aekit.images.records import Record
from aekit.images.states import state_of_files
from aekit.jobs.job import DEFAULTS, Job, Summary
from aekit.jobs.options import JobOptions
from aekit.jobs.pictures import pictures_to_write, writing_pictures
from aekit.model.codec import Codec
from aekit.outputs.marks import Step
from aekit.outputs.places import check_apart
from aekit.spec import GridGeometry


def reconstruct(
    codes: StoredCodes,
    out: Path,
    codec: Codec,
    options: JobOptions = DEFAULTS,
    *,
    only: str | None = None,
    original_size: bool = False,
) -> Summary:
    """Decode every row of `codes`: to one array if `out` ends in .npy, else to PNG files in the folder tree of the
    source.

    `only` decodes only images whose paths match this pattern of fnmatch, in which `*` matches `/` too. `original_size`
    scales each picture to the size of the image it was made from. `options.on_error` and `max_failures` mean nothing
    here. Resuming is as in `compress`.

    Pictures of a model of grid codes have the sizes at which they were encoded. For one array they must be of one size.

    Raises ModelMismatch if another model made the codes; CodesError if they are damaged; OptionError for options or
    sizes that do not fit; OutputError if the output is in the way, can't be written, or belongs to another job;
    BundleError if the model is damaged; ShapeError if the codes hold NaN or infinity; ProviderError if the graph can't
    be run; WorkerError if a process dies twice on the same files.
    """
    codes.check_model(codec.bundle)
    output = pictures_to_write(out)
    kind = format_of(codes.path)
    files = kind.files(codes.path) if kind else (codes.path,)
    check_apart(out, *files, codec.bundle.path)
    if original_size and (output.is_array or not codes.named):
        raise OptionError("--original-size", expected="codes of a folder and a folder as --out")
    job, rows = Job("reconstruct", codec, out, options), _matching(codes, only)
    records = [] if output.is_array else _png_records(codes)
    if rows is not None and records:
        records = [records[row] for row in rows]
    if output.is_array and codec.spec.is_grid:
        _check_one_size(codes, rows, codec.spec.grid, out)
    # The index decides the names of the pictures, so the facts say whether it was read.
    paths = "with" if codes.named else "without"
    state = f"{len(codes):,} codes {paths} paths, {state_of_files(*files)}"
    facts: dict[str, object] = {"the code file": state, "--only": only}
    inputs, names = len(codes) if rows is None else len(rows), [record.path for record in records]
    with writing_pictures(job, output, facts, inputs=inputs, names=names, original_size=original_size) as (
        journal,
        writer,
    ):
        job.agree_on_provider(journal, "decoder")
        writer.write(_decoded(codes, rows, codec, records, journal.inputs, options))
    return job.summary(writer.count, writer.bytes)


def _decoded(
    codes: StoredCodes,
    rows: Sequence[int] | None,
    codec: Codec,
    records: Sequence[Record],
    first: int,
    options: JobOptions,
) -> Iterator[Batch]:
    """Yield the images of all codes or of `rows`, from position `first` on, with their records if there are any.

    The codes before `first` are read too, because their checksum covers all of them.
    """
    done = 0
    for batch in codes.batches(codec.images_per_block(options.batch_size), rows):
        start, done = done, done + len(batch)
        if start >= first:
            yield Batch(codec.decode(batch, options.batch_size), records[start:done], Step(done))
        options.progress(done)


def _matching(codes: StoredCodes, only: str | None) -> list[int] | None:
    """Return the rows of the images whose paths match `only`, or None for all. Raises OptionError if none matches."""
    if only is None:
        return None
    if not codes.named:
        raise OptionError("--only", expected="codes of images that have paths", found=f"{codes.path}, without paths")
    rows = [row for row, record in enumerate(codes.records()) if fnmatchcase(record.path, only)]
    if not rows:
        raise OptionError("--only", expected=f"a pattern that paths in {codes.path} match", found=repr(only))
    return rows


def _check_one_size(codes: StoredCodes, rows: Sequence[int] | None, geometry: GridGeometry, out: Path) -> None:
    """Raise OptionError, before anything is decoded, if the index says that the pictures differ in size."""
    wanted = None if rows is None else set(rows)
    first = None
    for row, record in enumerate(codes.records()):
        if wanted is None or row in wanted:
            size = geometry.fitted(record.height, record.width)
            first = first or size
            if size != first:
                raise differing(out, first, size)


def _png_records(codes: StoredCodes) -> list[Record]:
    """Return a record for each row, whose path is the path of the PNG to write.

    Raises CodesError, before anything is decoded, if the index is damaged, holds a size that is not valid, names a file
    twice, or names a folder that no file system takes.
    """
    records = list(codes.records())
    if not records:
        return [Record(name) for name in numbered(len(codes))]
    paths = [posixpath.normpath(record.path) for record in records]
    seen = set[str]()
    for record, path in zip(records, paths, strict=True):
        where = f"{codes.path}: {record.path[:120]!r}"
        if record.width <= 0 or not 0 < record.width * record.height <= MAX_PIXELS:
            raise CodesError(where, expected="a size", found="none that is valid")
        if path in seen:
            raise CodesError(where, expected="each path once", found="it again")
        if any(len(os.fsencode(folder)) > MAX_NAME for folder in path.split("/")[:-1]):
            raise CodesError(where, expected=f"folders' names of at most {MAX_NAME} bytes", found="a longer one")
        seen.add(path)
    pairs = zip(png_paths(paths), records, strict=True)
    return [Record(path, record.width, record.height) for path, record in pairs]
