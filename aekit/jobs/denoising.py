"""denoise: take images through the encoder and the decoder, straight to pictures."""

from pathlib import Path

from aekit.errors import OptionError
from aekit.images.apart import check_apart_from
from aekit.images.decode import Pixels
from aekit.images.picture_names import numbered, png_paths
from aekit.images.reading import reading
from aekit.images.records import ImageBlock
from aekit.images.sources import Source
from aekit.images.states import state_of
from aekit.jobs.failures import FailureLog
from aekit.jobs.job import DEFAULTS, Job, Summary
from aekit.jobs.options import JobOptions
from aekit.jobs.pictures import picture_batches, pictures_to_write, writing_pictures
from aekit.model.codec import Codec


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

            def make(block: ImageBlock) -> Pixels | list[Pixels]:
                return codec.reconstruct(block.images, batch_size=options.batch_size)

            writer.write(picture_batches(failures.checked(blocks), make, names, first, options))
        failures.check_any(writer.count)
    return job.summary(writer.count, writer.bytes, failures.records)
