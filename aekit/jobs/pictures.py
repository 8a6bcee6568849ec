"""What the jobs that write pictures share."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from aekit.codes.formats import format_of, owner_of
from aekit.errors import OptionError
from aekit.images.decode import Pixels
from aekit.images.picture_output import ARRAY_SUFFIX, PictureOutput, picture_output
from aekit.images.picture_writer import Batch, PictureWriter
from aekit.images.records import Record
from aekit.images.writing import staged_pictures
from aekit.jobs.failures import Block
from aekit.jobs.job import Job
from aekit.jobs.options import JobOptions
from aekit.outputs.journal import Journal
from aekit.outputs.marks import Step

_B = TypeVar("_B", bound=Block)


@dataclass(frozen=True)
class FilesOutput:
    """Pictures, or a folder of messages, as the output of a job."""

    pictures: PictureOutput

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.pictures.out,)

    def check_free(self, *, overwrite: bool, known: Collection[int] = ()) -> None:
        self.pictures.check_free(overwrite=overwrite, known=known)


def pictures_to_write(out: Path) -> PictureOutput:
    """Return the form of pictures written to `out`. Raises OptionError if the name is that of a code file."""
    output = picture_output(out)
    if not output.is_array and (format_of(out) or owner_of(out)):
        expected = f"a folder, or a name that ends in {ARRAY_SUFFIX}"
        raise OptionError(f"--out {out}", expected=expected, found="a code file's name")
    return output


@contextlib.contextmanager
def writing_pictures(
    job: Job,
    output: PictureOutput,
    facts: dict[str, object],
    *,
    inputs: int,
    names: Sequence[str],
    original_size: bool,
) -> Iterator[tuple[Journal, PictureWriter]]:
    """Yield the journal of the job and the restored writer of its pictures.

    `inputs` and `names` are as in `staged_pictures`.

    Raises OutputError if the output is in the way, can't be written, or belongs to another job.
    """
    overwrite = job.options.overwrite
    facts = {**facts, "--original-size": original_size}
    with (
        job.journal(FilesOutput(output), facts, replace=overwrite) as journal,
        staged_pictures(
            output,
            job.codec.spec.geometry,
            inputs=inputs,
            names=names,
            command=job.command,
            model_id=job.codec.model_id,
            original_size=original_size,
            journal=journal,
            overwrite=overwrite,
            workers=job.options.workers,
        ) as writer,
    ):
        yield journal, writer


def picture_batches(
    blocks: Iterator[tuple[_B, Step]],
    make: Callable[[_B], Pixels | list[Pixels]],
    names: Sequence[str],
    first: int,
    options: JobOptions,
) -> Iterator[Batch]:
    """Yield the pictures that `make` makes of each block, from input `first` on, with the path and size of each.

    `names` are the paths of the pictures of all inputs.
    """
    done = first
    for block, step in blocks:
        pictures = make(block)
        inputs = block.records or [Record("")] * len(pictures)
        records = [
            replace(record, path=name)
            for record, name in zip(inputs, names[done : step.inputs], strict=True)
            if not record.error
        ]
        yield Batch(pictures, records, step)
        done = step.inputs
        options.progress(done)
