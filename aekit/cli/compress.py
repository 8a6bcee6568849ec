"""aekit compress: images to codes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aekit.cli.options import JobRequest, QualityOption, SourceArgument, job_command
from aekit.cli.printing import finish, note, progress_line
from aekit.codes.formats import MESSAGE_SUFFIX, dtype_default, dtype_help, out_help, suffixes


@job_command
def compress(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help=f"{out_help()} With --messages a folder.")],
    request: JobRequest,
    dtype: Annotated[str | None, typer.Option(help=dtype_help(), show_default=dtype_default())] = None,
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help=f"Add to the {suffixes('appends')} file at --out, or make it if there is none. Images whose paths it "
            "contains are left unchanged. The old file stays in place until the new one is whole. A second job at the "
            "same time is an error.",
        ),
    ] = False,
    messages: Annotated[
        bool,
        typer.Option(
            "--messages",
            help=f"Write each image as a message: a file NAME{MESSAGE_SUFFIX} that is decoded alone. The files have "
            "the folder tree of the source.",
        ),
    ] = False,
    quality: QualityOption = None,
    most_bytes: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            help="Encode each picture at the best quality whose message has at most this many bytes, or at quality 1 "
            "if none has. Needs a model that was trained with --qualities.",
        ),
    ] = None,
) -> None:
    """Encode images to a code file, one row per image, in the order of their sorted paths.

    With --messages, each image becomes a message in a file of its own.
    """
    from aekit import jobs
    from aekit.errors import OptionError
    from aekit.images.sources import open_source

    if messages and (append or dtype not in (None, "uint8")):
        found = "--append" if append else f"--dtype {dtype}"
        raise OptionError("--messages", expected="no --append, and no --dtype but uint8", found=found)
    codec, images = request.codec(), open_source(source)
    with progress_line(len(images), "encoding") as show:
        options = request.with_progress(show)
        chosen: dict[str, Any] = {"quality": quality, "most_bytes": most_bytes}
        if messages:
            summary = jobs.compress_to_messages(images, out, codec, options, **chosen)
        else:
            summary = jobs.compress(images, out, codec, options, dtype=dtype, append=append, **chosen)
    if summary.oversized:
        note(f"{summary.oversized:,} of the pictures take more than {most_bytes:,} bytes at quality 1, the lowest")
    finish(summary, "message" if messages else "code", request.as_json)
