"""What the commands share: their common options, how they report, and their progress lines."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.errors import AekitError, MissingExtra, OutputError, one_line

if TYPE_CHECKING:
    from aekit.jobs.job import Summary

ModelOption = Annotated[
    Path, typer.Option("--model", envvar="AEKIT_MODEL", help="Model folder, as `aekit export` writes it.")
]
ProviderOption = Annotated[
    str,
    typer.Option(
        help="Where the graph runs: auto, cpu, cuda, tensorrt, openvino, coreml, directml, qnn, webgpu, xnnpack. "
        "A named one runs the whole graph or is an error; auto says what it took."
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads of the graph; all cores if not given.", min=1)]
BatchOption = Annotated[int, typer.Option(help="Images a run of the graph; results do not depend on it.", min=1)]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="How many read or write files beside the graph, 0 for none; chosen from the files if not given. Results "
        "do not depend on it.",
        min=0,
    ),
]
SourceArgument = Annotated[
    str,
    typer.Argument(help="Images: a folder (read with its subfolders), an .npy, .npz or idx file, or a named set."),
]
OnErrorOption = Annotated[
    str, typer.Option(help="An unreadable image: skip lists it and goes on (exit status 3), fail stops.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what lies at --out; a folder only if aekit made it.")
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with a job that was cut short, to the bytes it would have made; where none was, simply start. "
        "Without it what such a job left is cleared.",
    ),
]
FailuresOption = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|P%",
        help="More unreadable images than that are an error; what is done is kept for --resume.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


def report_error(error: AekitError) -> int:
    """Print the error as one line; returns the exit status, 1."""
    with contextlib.suppress(OSError):
        print(f"aekit: {error}", file=sys.stderr)
    return 1


def note(text: str) -> None:
    """A line for the person at the terminal: stderr, so that stdout holds results alone."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # a progress line may stand there
    with contextlib.suppress(OSError):  # that nobody listens any more is no reason to stop the work
        print(clear + one_line(text), file=sys.stderr, flush=True)


def emit(result: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a command's result: the JSON object if asked for, else the lines.

    Raises OutputError if stdout can't take it; a reader that has left (`| head`) is none.
    """
    import json

    from aekit.json_files import finite

    # Lines repeat what files say, and that may be meant for the terminal.
    text = json.dumps(finite(result)) if as_json else "\n".join(map(one_line, lines))
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain again when it ends
        if not isinstance(error, BrokenPipeError):
            raise OutputError("stdout could not be written", found=error.strerror or str(error)) from error


def need_extra(command: str, extra: str, *modules: str) -> None:
    """Raise MissingExtra unless the modules are installed."""
    import importlib.util

    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(command, extra, module)


def finish(summary: "Summary", what: str, as_json: bool) -> None:
    """Report a job and end with status 3 if it skipped inputs."""
    for record in summary.skipped:
        note(f"skipped {record.path}: {record.error}")
    inputs = summary.images + len(summary.skipped) - summary.resumed
    rate = inputs / summary.seconds if summary.seconds else math.inf
    total = summary.images + summary.held
    each = summary.bytes / max(total, 1)
    result = {
        "out": str(summary.out),
        "images": summary.images,
        "skipped": [{"path": record.path, "error": record.error} for record in summary.skipped],
        "present": summary.present,
        "total": total,
        "resumed": summary.resumed,
        "bytes": summary.bytes,
        "seconds": round(summary.seconds, 3),
        "provider": summary.provider,
    }
    holds = f"now {total:,}, " if summary.held else ""
    lines = [
        f"{summary.images:,} {what} -> {summary.out} ({holds}{summary.bytes:,} bytes, {each:.1f} an image) "
        f"in {summary.seconds:.1f} s, {rate:,.0f} images/s on {summary.provider}"
    ]
    if summary.resumed:
        lines.append(f"{summary.resumed:,} inputs had been done before")
    if summary.present:
        lines.append(f"{summary.present:,} were there already, by their paths, and are as they were")
    if summary.skipped:
        lines.append(f"{len(summary.skipped):,} skipped, listed above")
    emit(result, lines, as_json)
    if summary.skipped:
        raise typer.Exit(3)


@contextlib.contextmanager
def progress_line(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A line on stderr that counts to `total`, redrawn at most ten times a second, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    began = drawn = time.monotonic()

    def show(done: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < 0.1:
            return
        drawn = now
        left = (now - began) * (total - done) / max(done, 1)
        with contextlib.suppress(OSError):
            print(f"\r{what} {done:,}/{total:,}, {duration(left)} left \x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        with contextlib.suppress(OSError):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
