"""aekit denoise: images through the model, straight to images."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.options import JobRequest, OriginalSizeOption, SourceArgument, job_command
from aekit.cli.printing import finish, note, progress_line
from aekit.images.picture_output import OUT_HELP
from aekit.registry import objective_facts


@job_command
def denoise(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help=OUT_HELP)],
    request: JobRequest,
    original_size: OriginalSizeOption = False,
) -> None:
    """Remove noise from images, with a model trained for it: aekit train --objective denoising.

    Images go through the encoder and the decoder and are written as PNG files, without a code file in between. A model
    of another objective runs too, and a note says so.
    """
    from aekit import jobs
    from aekit.images.sources import open_source

    codec, images = request.codec(), open_source(source)
    with progress_line(len(images), "denoising") as show:
        summary = jobs.denoise(images, out, codec, request.with_progress(show), original_size=original_size)
    if not objective_facts(codec.spec.objective).is_denoiser:
        note(
            f"warning: {request.model} was trained for the objective {codec.spec.objective}, not to remove noise: "
            "train one with --objective denoising"
        )
    finish(summary, "image", request.as_json)
