"""aekit compress: images to codes."""

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
    progress_line,
)


def compress(
    source: SourceArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="Code file to write: NAME.npy, a plain array with its index beside it, as NAME.jsonl; or NAME.aek, an "
            "archive of entropy-coded codes and names, a fraction of that."
        ),
    ],
    model: ModelOption = Path("model"),
    dtype: Annotated[
        str | None,
        typer.Option(
            help="What a number is kept as: float32, float16 or uint8.",
            show_default="float32; uint8 in archives and of the objective rate",
        ),
    ] = None,
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="Add to the archive at --out, or make it if none is there. Images whose paths it holds are left as "
            "they are. Until all is written the old archive stays; a second job at the same time is an error.",
        ),
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
    """Encode images to a code file, one row an image, in the order of their sorted paths."""
    from aekit import jobs
    from aekit.images.sources import open_source
    from aekit.model.codec import Codec
    from aekit.workers import cores

    codec = Codec.load(model, provider, threads, parallel_batches=threads or cores())
    images = open_source(source)
    with progress_line(len(images), "encoding") as show:
        summary = jobs.compress(
            images,
            out,
            codec,
            dtype=dtype,
            batch_size=batch_size,
            workers=workers,
            on_error=on_error,
            max_failures=max_failures,
            resume=resume,
            overwrite=overwrite,
            append=append,
            progress=show,
        )
    finish(summary, "codes", as_json)
