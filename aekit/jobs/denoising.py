"""denoise: take images through the encoder and the decoder, straight to pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aekit.errors import OptionError
from aekit.images.apart import check_apart_from
from aekit.images.picture_names import numbered, png_paths
from aekit.images.picture_writer import Batch
from aekit.images.reading import reading
from aekit.images.records import ImageBlock, Record
from aekit.images.sources import Source
from aekit.images.states import state_of
from aekit.jobs.failures import FailureLog
from aekit.jobs.job import DEFAULTS, Job, Summary
from aekit.jobs.options import JobOptions
from aekit.jobs.pictures import pictures_to_write, writing_pictures
from aekit.model.codec import Codec
from aekit.outputs.marks import Step


def denoise(
    source: Source,
    out: Path,
    codec: Codec,
    options: JobOptions = DEFAULTS,
    *,
    original_size: bool = False,
) -> Summary:
    """Take every image of `source` through the encoder and the decoder, with its latent in full precision: to one array
    if `out` ends in .npy, else to PNG files in the folder tree of the source.

    `original_size` scales each picture to the size its image had. An array has no row for an unreadable image. Resuming
    is as in `compress`.

    Raises OptionError for options that do not fit; OutputError if the output is in the way, can't be written, or is
    another job's; ImageError on the first unreadable image under `fail`; TooManyFailures for more unreadable images
    than allowed; SourceError if no image could be read; BundleError if the model is damaged; ProviderError if a graph
    can't be run; WorkerError if a process dies twice on the same files.
    """
    output = pictures_to_write(out)
    check_apart_from(source, out, codec.bundle.path, pictures=not output.is_array)
    if original_size and (output.is_array or source.paths is None):
        raise OptionError("--original-size", expected="image files and a folder as --out")
    job, inputs = Job("denoise", codec, out, options), len(source)
    names = numbered(inputs) if source.paths is None else png_paths(source.paths)
    facts: dict[str, object] = {"the source": state_of(source)}
    with writing_pictures(job, output, facts, inputs=inputs, names=names, original_size=original_size) as (
        journal,
        writer,
    ):
        failures = FailureLog(source, options, journal.marks)
        images_per_block, first = codec.images_per_block(options.batch_size), journal.inputs
        with reading(source, codec.spec.geometry, images_per_block, options.workers, first, codec.open) as blocks:
            job.agree_on_provider(journal, "encoder", "decoder")
            writer.write(_denoised(failures.checked(blocks), names, codec, first, options))
        failures.check_any(writer.count)
    return job.summary(writer.count, writer.bytes, failures.records)


def _denoised(
    blocks: Iterator[tuple[ImageBlock, Step]], names: Sequence[str], codec: Codec, first: int, options: JobOptions
) -> Iterator[Batch]:
    """Yield the denoised images of each block, from input `first` on, with the path and size of each picture."""
    done = first
    for block, step in blocks:
        inputs = block.records or [Record("")] * len(block.images)
        pictures = [
            replace(record, path=name)
            for record, name in zip(inputs, names[done : step.inputs], strict=True)
            if not record.error
        ]
        yield Batch(codec.reconstruct(block.images, batch_size=options.batch_size), pictures, step)
        done = step.inputs
        options.progress(done)
