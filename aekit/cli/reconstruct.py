"""aekit reconstruct: codes back to images."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.common import (
    BatchOption,
    JsonOption,
    ModelOption,
    OverwriteOption,
    ProviderOption,
    ThreadsOption,
    WorkersOption,
    finish,
    progress_line,
)


def reconstruct(
    codes: Annotated[Path, typer.Argument(help="Code file, as `aekit compress` writes it.")],
    out: Annotated[
        Path, typer.Option(help="Folder for PNG files, in the tree the images came from; or a name ending in .npy.")
    ] = Path("reconstructed"),
    model: ModelOption = Path("model"),
    original_size: Annotated[
        bool, typer.Option("--original-size", help="Scale each PNG to the size of the image it was made from.")
    ] = False,
    index: Annotated[
        bool, typer.Option("--index/--no-index", help="Whether to check the model and take the names from the index.")
    ] = True,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchOption = 256,
    workers: WorkersOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decode a code file to PNG files or to one array of images."""
    from aekit import jobs
    from aekit.codec import Codec
    from aekit.codes import CodeFile
    from aekit.workers import cores

    codec = Codec.load(model, provider, threads, runs=threads or cores())
    opened = CodeFile.open(codes, index=index)
    with progress_line(len(opened.codes), "decoding") as show:
        summary = jobs.reconstruct(
            opened,
            out,
            codec,
            original_size=original_size,
            batch_size=batch_size,
            workers=workers,
            overwrite=overwrite,
            progress=show,
        )
    finish(summary, "images", as_json)
