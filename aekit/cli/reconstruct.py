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
    ResumeOption,
    ThreadsOption,
    WorkersOption,
    finish,
    note,
    progress_line,
)


def reconstruct(
    codes: Annotated[Path, typer.Argument(help="Code file, as `aekit compress` writes it.")],
    out: Annotated[
        Path, typer.Option(help="Folder for PNG files, in the tree the images came from; or a name ending in .npy.")
    ] = Path("reconstructed"),
    model: ModelOption = Path("model"),
    only: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB", help="Decode the images whose paths match alone, such as 'a/*.png'; * matches / too."
        ),
    ] = None,
    original_size: Annotated[
        bool, typer.Option("--original-size", help="Scale each PNG to the size of the image it was made from.")
    ] = False,
    index: Annotated[
        bool, typer.Option("--index/--no-index", help="Whether to check the model and take the names from the index.")
    ] = True,
    salvage: Annotated[
        bool, typer.Option("--salvage", help="Take what is whole of an archive that was damaged or cut short (exit 3).")
    ] = False,
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchOption = 256,
    workers: WorkersOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Decode a code file or an archive to PNG files or to one array of images."""
    from aekit import jobs
    from aekit.codes.archive import Archive
    from aekit.codes.files import open_codes
    from aekit.model.codec import Codec
    from aekit.workers import cores

    codec = Codec.load(model, provider, threads, parallel_batches=threads or cores())
    with open_codes(codes, index=index, salvage=salvage) as opened, progress_line(len(opened), "decoding") as show:
        loss = opened.loss if isinstance(opened, Archive) else None
        summary = jobs.reconstruct(
            opened,
            out,
            codec,
            only=only,
            original_size=original_size,
            batch_size=batch_size,
            workers=workers,
            resume=resume,
            overwrite=overwrite,
            progress=show,
        )
    if loss:
        note(f"lost from {codes}: {loss}")
    finish(summary, "images", as_json)
    if loss:
        raise typer.Exit(3)
