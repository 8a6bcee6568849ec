"""aekit reconstruct: codes back to images."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.options import JobRequest, OriginalSizeOption, job_command
from aekit.cli.printing import finish, note, progress_line
from aekit.codes.formats import names, suffixes
from aekit.images.picture_output import OUT_HELP


@job_command(reads_images=False)
def reconstruct(
    codes: Annotated[Path, typer.Argument(help=f"Code file, as `aekit compress` writes it: {names()}.")],
    request: JobRequest,
    out: Annotated[Path, typer.Option(help=OUT_HELP)] = Path("reconstructed"),
    only: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB", help="Decode only the images whose paths match, such as 'a/*.png'; * matches / too."
        ),
    ] = None,
    original_size: OriginalSizeOption = False,
    index: Annotated[
        bool,
        typer.Option(
            "--index/--no-index",
            help="Check the model and take the names from the index. --no-index decodes "
            f"{suffixes('index_is_optional')} files that have lost their index.",
        ),
    ] = True,
    salvage: Annotated[
        bool,
        typer.Option(
            "--salvage",
            help=f"Decode the undamaged part of a {suffixes('salvages')} file that is damaged or cut short (status 3).",
        ),
    ] = False,
) -> None:
    """Decode a code file to PNG files or to one array of images."""
    from aekit import jobs
    from aekit.codes.files import open_codes

    codec = request.codec()
    with open_codes(codes, index=index, salvage=salvage) as stored, progress_line(len(stored), "decoding") as show:
        summary = jobs.reconstruct(
            stored, out, codec, request.with_progress(show), only=only, original_size=original_size
        )
    if stored.loss:
        note(f"lost from {codes}: {stored.loss}")
    finish(summary, "image", request.as_json)
    if stored.loss:
        raise typer.Exit(3)
