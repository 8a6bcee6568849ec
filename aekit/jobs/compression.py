"""compress: encode the images of a source into a code file."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from aekit.codes.files import open_codes
from aekit.codes.formats import CodeFormat, format_to_write, suffixes
from aekit.errors import OptionError
from aekit.images.apart import check_apart_from
from aekit.images.arrays import read_rows
from aekit.images.reading import reading
from aekit.images.sources import ArraySource, FolderSource, Source
from aekit.images.states import state_of, state_of_files
from aekit.jobs.failures import FailureLog
from aekit.jobs.job import DEFAULTS, Job, Summary
from aekit.jobs.options import JobOptions
from aekit.jobs.qualities import Encoding
from aekit.model.codec import Codec
from aekit.outputs.journal import Journal
from aekit.outputs.places import settled
from aekit.outputs.staging import check_free
from aekit.registry import objective_facts

_HASHED_BYTES = 2**22
"""Bytes of an array that are hashed at a time."""


@dataclass(frozen=True)
class _CodesOutput:
    """A code file to write."""

    kind: CodeFormat
    out: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.kind.files(self.written)

    @property
    def written(self) -> Path:
        """The file that is written: `out`, or the file it links to where the format keeps links."""
        return settled(self.out) if self.kind.keeps_links else self.out

    def check_free(self, *, overwrite: bool, known: Collection[int] = ()) -> None:
        # A finished file that got its working name back leaves a link to nothing: then the link's target is checked.
        for file in self.files if known else self.kind.files(self.out):
            check_free(file, overwrite=overwrite, known=known)


def compress(
    source: Source,
    out: Path,
    codec: Codec,
    options: JobOptions = DEFAULTS,
    *,
    dtype: str | None = None,
    append: bool = False,
    quality: int | None = None,
    most_bytes: int | None = None,
) -> Summary:
    """Encode every image of `source` into the code file `out`, whose suffix names its format (aekit.codes.formats).

    `dtype` is the type of the stored numbers. By default it is the default of the format, or uint8 for a model of the
    objective `rate` where the format allows it. `append` adds to the archive at `out`, if there is one; images whose
    paths the archive contains are left as they are.

    A model of several qualities encodes at `quality`, or, with `most_bytes`, each picture at the best quality at which
    its message has at most so many bytes; see aekit.jobs.qualities.

    Where workers are processes, and the codec has run before, the processes are spawned. A script then keeps its own
    work below `if __name__ == "__main__"`, as Python's multiprocessing requires.

    After an error the old output is unchanged. After a signal, a full disk, a dead worker or unreadable images, the
    finished part of the work stays beside `out`. With `options.resume` the same job goes on from there, and writes the
    same bytes as an uninterrupted job.

    Raises OptionError for options that do not fit; OutputError if the output is in the way, can't be written, or is
    another job's; ImageError on the first unreadable image under `fail`; TooManyFailures for more unreadable images
    than allowed; SourceError if no image could be read; CodesError, SpecError or ModelMismatch if the archive to append
    to is damaged or of another model; BundleError if the model is damaged or lacks frequency tables; ProviderError if
    the graph can't be run; WorkerError if a process dies twice on the same files.
    """
    kind = format_to_write(out)
    if append and (not kind.appends or options.overwrite):
        expected = f"an --out that ends in {suffixes('appends')}, and no --overwrite"
        raise OptionError("--append", expected=expected, found=str(out))
    # Latents of such an objective hold more than its training paid for, so they are stored rounded.
    is_rounded = objective_facts(codec.spec.objective).stores_uint8_only
    stored_as = kind.dtype(dtype, "uint8" if is_rounded else kind.dtypes[0])
    encoding = Encoding(codec, stored_as, options.batch_size, quality, most_bytes)
    if codec.spec.has_qualities and not kind.states_quality:
        expected = f"a name that ends in {suffixes('states_quality')}: the model has several qualities"
        raise OptionError(f"--out {out}", expected=expected)
    check_apart_from(source, kind.files(out), codec.bundle.path, pictures=False)
    job, output = Job("compress", codec, out, options), _CodesOutput(kind, out)
    state = _content_of(source) if append and isinstance(source, ArraySource) else state_of(source)
    facts = {"the source": state, "--dtype": stored_as, "--append": append, **encoding.facts}
    overwrite = options.overwrite or append
    with job.journal(output, facts, replace=overwrite, once="the source" if append else "") as journal:
        if append and journal.finished.are_in_place(*output.files):
            return _finished(job, journal, source)
        if append:
            journal.agree({"the archive to append to": state_of_files(output.written)})
        named = source.paths is not None
        staged = kind.module.staged
        with staged(output.written, codec.bundle, stored_as, journal, named=named, append=append) as writer:
            fresh, failures = _without(source, writer.present_paths), FailureLog(source, options, journal.marks)
            images_per_block, first = codec.images_per_block(options.batch_size), journal.inputs
            opening = partial(codec.provider, "encoder")
            with reading(fresh, codec.spec.geometry, images_per_block, options.workers, first, opening) as blocks:
                job.agree_on_provider(journal, "encoder")
                for block, step in failures.checked(blocks):
                    writer.add(encoding(block.images), block.records)
                    journal.mark(step, writer.written(step.inputs, sync=journal.due()))
                    options.progress(step.inputs)
            failures.check_any(writer.count)
    present, before = len(source) - len(fresh), writer.count_before
    size = out.stat().st_size
    done = job.summary(writer.count - before, size, failures.records, present=present, count_before=before)
    done = replace(done, oversized=encoding.oversized)
    index = next(iter(kind.files(out)[1:]), None)
    return done if index is None else replace(done, index=index, index_bytes=index.stat().st_size)


def _finished(job: Job, journal: Journal, source: Source) -> Summary:
    """Return the summary of an append that had finished and was killed before it removed its journal.

    The archive has its new name, so nothing is left to do: adding the images again would store them twice.
    """
    job.agree_on_provider(journal, "encoder")
    failures = FailureLog(source, job.options, journal.marks)
    images = journal.inputs - len(failures.records)
    with open_codes(job.out) as codes:
        before = len(codes) - images
    present, size = len(source) - journal.inputs, job.out.stat().st_size
    return job.summary(images, size, failures.records, present=present, count_before=before)


def _content_of(source: ArraySource) -> str:
    """Return the number of images of an array, and a hash over their pixels.

    Nothing but the pixels tells whether an archive has these images already: the file may be touched or copied.
    """
    digest = hashlib.sha256(repr(source.array.shape).encode())
    rows = max(_HASHED_BYTES // max(source.array[:1].nbytes, 1), 1)
    for start in range(0, len(source), rows):
        digest.update(np.ascontiguousarray(read_rows(source.array, start, start + rows, source.name)).data)
    return f"{len(source):,} images of the content {digest.hexdigest()[:16]}"


def _without(source: Source, present_paths: frozenset[str]) -> Source:
    """Return the source without the images whose paths are present already."""
    if not present_paths or not isinstance(source, FolderSource):
        return source
    return replace(source, paths=tuple(path for path in source.paths if path not in present_paths))
