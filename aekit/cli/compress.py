"""aekit compress: images to codes."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.common import (
    BatchOption,
    JsonOption,
    ModelOption,
    OnErrorOption,
    OverwriteOption,
    ProviderOption,
    SourceArgument,
    ThreadsOption,
    WorkersOption,
    finish,
    progress_line,
)


def compress(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="Code file to write; its index lies beside it, as .jsonl.")],
    model: ModelOption = Path("model"),
    dtype: Annotated[str, typer.Option(help="What a number is kept as: float32, float16 or uint8.")] = "float32",
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchOption = 256,
    workers: WorkersOption = None,
    on_error: OnErrorOption = "skip",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Encode images to a code file, one row an image, in the order of their sorted paths."""
    from aekit import jobs
    from aekit.codec import Codec
    from aekit.sources import open_source
    from aekit.workers import cores

    codec = Codec.load(model, provider, threads, runs=threads or cores())
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
            overwrite=overwrite,
            progress=show,
        )
    finish(summary, "codes", as_json)
