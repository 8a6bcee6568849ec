"""aekit reconstruct: codes back to images."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.options import JobRequest, OriginalSizeOption, job_command
from aekit.cli.printing import finish, note, progress_line
from aekit.codes.formats import MESSAGE_SUFFIX, format_of, names, suffixes
from aekit.images.picture_output import OUT_HELP


@job_command
def reconstruct(
    codes: Annotated[
        Path,
        typer.Argument(
            help=f"Code file, as `aekit compress` writes it: {names()}; or a message, NAME{MESSAGE_SUFFIX}, or a "
            "folder of messages."
        ),
    ],
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
    """Decode a code file, or messages, to PNG files or to one array of images.

    Messages that can't be decoded are skipped and listed, as --on-error and --max-failures say. A damaged code file is
    an error.
    """
    from aekit import jobs
    from aekit.codes.files import open_codes
    from aekit.codes.message_files import open_messages
    from aekit.errors import OptionError

    codec = request.codec()
    if codes.suffix == MESSAGE_SUFFIX or (codes.is_dir() and format_of(codes) is None):
        given = {"--original-size": original_size, "--no-index": not index, "--salvage": salvage}
        for name in (name for name, is_given in given.items() if is_given):
            raise OptionError(name, expected="codes in a code file", found=f"{codes}, messages")
        messages = open_messages(codes)
        with progress_line(len(messages), "decoding") as show:
            summary = jobs.reconstruct_messages(messages, out, codec, request.with_progress(show), only=only)
        finish(summary, "image", request.as_json)
        return
    with open_codes(codes, index=index, salvage=salvage) as stored, progress_line(len(stored), "decoding") as show:
        summary = jobs.reconstruct(
            stored, out, codec, request.with_progress(show), only=only, original_size=original_size
        )
    if stored.loss:
        note(f"lost from {codes}: {stored.loss}")
    finish(summary, "image", request.as_json)
    if stored.loss:
        raise typer.Exit(3)
