"""aekit denoise: images through the model, straight to images."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.common import (
    BatchOption,
    FailuresOption,
    JsonOption,
    ModelOption,
    OnErrorOption,
    OverwriteOption,
    ProviderOption,
    ResumeOption,
    SourceArgument,
    ThreadsOption,
    WorkersOption,
    finish,
    note,
    progress_line,
)
from aekit.registry import objective_facts


def denoise(
    source: SourceArgument,
    out: Annotated[
        Path, typer.Option(help="Folder for PNG files, in the tree the images come from; or a name ending in .npy.")
    ],
    model: ModelOption = Path("model"),
    original_size: Annotated[
        bool, typer.Option("--original-size", help="Scale each PNG to the size its image had.")
    ] = False,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchOption = 256,
    workers: WorkersOption = None,
    on_error: OnErrorOption = "skip",
    max_failures: FailuresOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take the noise from images with a model that was trained to: aekit train --objective denoising.

    Images go through the encoder and the decoder and are written as PNG files, without a code file in between. A model
    of another objective runs too, and a note says so.
    """
    from aekit import jobs
    from aekit.images.sources import open_source
    from aekit.model.codec import Codec
    from aekit.workers import cores

    codec = Codec.load(model, provider, threads, parallel_batches=threads or cores())
    images = open_source(source)
    with progress_line(len(images), "denoising") as show:
        summary = jobs.denoise(
            images,
            out,
            codec,
            original_size=original_size,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
            max_failures=max_failures,
            resume=resume,
            overwrite=overwrite,
            progress=show,
        )
    if not objective_facts(codec.spec.objective).is_denoiser:
        note(
            f"warning: {model} was trained for the objective {codec.spec.objective}, not to take noise away: "
            "for that train with --objective denoising"
        )
    finish(summary, "images", as_json)
