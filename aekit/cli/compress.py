"""aekit compress: images to codes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aekit.cli.options import JobRequest, QualityOption, SourceArgument, job_command
from aekit.cli.printing import finish, note, progress_line
from aekit.codes.formats import dtype_default, dtype_help, out_help, suffixes


@job_command(reads_images=True)
def compress(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help=out_help())],
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
    quality: QualityOption = None,
    most_bytes: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            help="Encode each picture at the best quality whose message has at most this many bytes, and at quality 1 "
            "if none has; for a model trained with --qualities.",
        ),
    ] = None,
) -> None:
    """Encode images to a code file, one row per image, in the order of their sorted paths."""
    from aekit import jobs
    from aekit.images.sources import open_source

    codec, images = request.codec(), open_source(source)
    with progress_line(len(images), "encoding") as show:
        chosen: dict[str, Any] = {"quality": quality, "most_bytes": most_bytes}
        summary = jobs.compress(images, out, codec, request.with_progress(show), dtype=dtype, append=append, **chosen)
    if summary.oversized:
        note(f"{summary.oversized:,} of the pictures take more than {most_bytes:,} bytes at quality 1, the lowest")
    finish(summary, "code", request.as_json)
