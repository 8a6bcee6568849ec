"""Messages of a whole source: compress images to one message each, and decode messages to pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from aekit._version import __version__
from aekit.codes.entropy import MAX_SYMBOLS
from aekit.codes.formats import MESSAGE_SUFFIX, format_of, owner_of
from aekit.codes.message_files import CodeBlock, reading_messages, seconds_of, write_messages
from aekit.codes.messages import Messages
from aekit.errors import OptionError
from aekit.images.apart import check_apart_from
from aekit.images.decode import Pixels
from aekit.images.picture_names import numbered, png_paths
from aekit.images.picture_output import PictureOutput
from aekit.images.picture_writer import Batch
from aekit.images.reading import reading
from aekit.images.records import ImageBlock, Record
from aekit.images.sources import FileTree, Source
from aekit.images.states import state_of
from aekit.images.writing import staged_files
from aekit.jobs.failures import FailureLog
from aekit.jobs.job import DEFAULTS, Job, Summary
from aekit.jobs.options import JobOptions
from aekit.jobs.pictures import FilesOutput, picture_batches, pictures_to_write, writing_pictures
from aekit.jobs.qualities import Encoding
from aekit.model.codec import Codec
from aekit.outputs.marks import Step


def compress_to_messages(
    source: Source,
    out: Path,
    codec: Codec,
    options: JobOptions = DEFAULTS,
    *,
    quality: int | None = None,
    most_bytes: int | None = None,
) -> Summary:
    """Encode every image of `source` to a message: a file NAME.aem in the folder `out`, in the source's folder tree.

    `quality` and `most_bytes` are as in `compress`.

    Images whose code is too large for a message are listed like unreadable ones. Resuming is as in `compress`.

    Raises what `compress` raises for a code file.
    """
    if format_of(out) or owner_of(out) or out.suffix == MESSAGE_SUFFIX:
        raise OptionError(f"--out {out}", expected="the name of a folder for messages", found="the name of a file")
    check_apart_from(source, out, codec.bundle.path, pictures=False)
    messages, output = Messages(codec), FilesOutput(PictureOutput(out, is_array=False))
    encoding = Encoding(codec, "uint8", options.batch_size, quality, most_bytes)
    facts = {"the source": state_of(source), **encoding.facts}
    names = numbered(len(source), MESSAGE_SUFFIX) if source.paths is None else png_paths(source.paths, MESSAGE_SUFFIX)
    job, write = Job("compress --messages", codec, out, options), partial(write_messages, messages)
    marker = {"made_by": f"aekit {__version__} compress", "model_id": codec.model_id, "messages": messages.mark.hex()}
    seconds, workers = seconds_of(len(source), codec), options.workers
    with (
        job.journal(output, facts, replace=options.overwrite) as journal,
        staged_files(out, write, seconds, names, marker, journal, workers, overwrite=options.overwrite) as writer,
    ):
        failures = FailureLog(source, options, journal.marks)
        images_per_block, first = codec.images_per_block(options.batch_size), journal.inputs
        opening = partial(codec.provider, "encoder")
        with reading(source, codec.spec.geometry, images_per_block, workers, first, opening) as blocks:
            job.agree_on_provider(journal, "encoder")
            small = ((done, _without_large(block, codec)) for done, block in blocks)
            writer.write(_encoded(failures.checked(small), encoding, names, first, options))
        failures.check_any(writer.count)
    return replace(job.summary(writer.count, writer.bytes, failures.records), oversized=encoding.oversized)


def reconstruct_messages(
    folder: FileTree, out: Path, codec: Codec, options: JobOptions = DEFAULTS, *, only: str | None = None
) -> Summary:
    """Decode messages to pictures of their own sizes: to one array if `out` ends in .npy, else to PNG files, in the
    folder tree of the messages.

    Messages that are damaged or belong to another model are skipped and listed, as `options` say. `only` decodes only
    messages whose paths match this pattern of fnmatch. Resuming is as in `compress`.

    Raises what `denoise` raises, with messages in place of images.
    """
    output = pictures_to_write(out)
    check_apart_from(folder, out, codec.bundle.path, pictures=False)
    if only is not None:
        chosen = tuple(path for path in folder.paths if fnmatchcase(path, only))
        if not chosen:
            raise OptionError("--only", expected=f"a pattern that paths in {folder.root} match", found=repr(only))
        folder = replace(folder, paths=chosen)
    messages, job = Messages(codec), Job("reconstruct messages", codec, out, options)
    facts: dict[str, object] = {"the messages": state_of(folder), "--only": only}
    names = png_paths(folder.paths)
    with writing_pictures(job, output, facts, inputs=len(folder), names=names, original_size=False) as (
        journal,
        writer,
    ):
        failures = FailureLog(folder, options, journal.marks)
        batch, first = codec.images_per_block(options.batch_size), journal.inputs

        def make(block: CodeBlock) -> Pixels | list[Pixels]:
            return codec.decode(block.codes, options.batch_size)

        with reading_messages(folder, messages, codec, batch, options.workers, first) as blocks:
            job.agree_on_provider(journal, "decoder")
            writer.write(picture_batches(failures.checked(blocks), make, names, first, options))
        failures.check_any(writer.count)
    return job.summary(writer.count, writer.bytes, failures.records)


def _without_large(block: ImageBlock, codec: Codec) -> ImageBlock:
    """Return the block without the pictures whose code is too large for a message. Their records say so."""
    if not codec.spec.is_grid or not block.records:
        return block
    pictures, kept, records = iter(block.images), list[Pixels](), list[Record]()
    for record in block.records:
        if not record.error:
            picture = next(pictures)
            height, width = codec.spec.grid.code_shape(*picture.shape[:2])
            if (numbers := height * width * codec.spec.code_dim) > MAX_SYMBOLS:
                error = f"a code of {numbers:,} numbers, and a message has at most {MAX_SYMBOLS:,}: use an archive"
                record = Record(record.path, error=error)
            else:
                kept.append(picture)
        records.append(record)
    return ImageBlock(kept, tuple(records))


def _encoded(
    blocks: Iterator[tuple[ImageBlock, Step]], encoding: Encoding, names: Sequence[str], first: int, options: JobOptions
) -> Iterator[Batch]:
    """Yield the codes of each block, from input `first` on, with the path of each message."""
    done = first
    for block, step in blocks:
        codes = encoding(block.images)
        inputs = block.records or [Record("")] * len(codes)
        paths = [name for record, name in zip(inputs, names[done : step.inputs], strict=True) if not record.error]
        yield Batch(codes, [Record(path) for path in paths], step)
        done = step.inputs
        options.progress(done)
