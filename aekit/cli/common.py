"""What the commands share: their common options, how they report, and their progress lines."""

import contextlib
import functools
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.errors import AekitError, MissingExtra, OutputError, one_line
from aekit.jobs.options import MAX_BATCH_SIZE, MAX_WORKERS, JobOptions

if TYPE_CHECKING:
    from aekit.jobs.job import Summary
    from aekit.model.codec import Codec

MAX_THREADS = 1024
"""Largest number of CPU threads that --threads accepts."""

ModelOption = Annotated[
    Path, typer.Option("--model", envvar="AEKIT_MODEL", help="Model folder, as `aekit export` writes it.")
]
ProviderOption = Annotated[
    str,
    typer.Option(
        help="Where the graph runs: auto, cpu, cuda, tensorrt, openvino, coreml, directml, qnn, webgpu, xnnpack. "
        "A named provider runs the whole graph or is an error; auto reports which one it chose."
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(help="CPU threads of the graph; all cores by default.", min=1, max=MAX_THREADS)
]
BatchOption = Annotated[
    int, typer.Option(help="Images per run of the graph; results do not depend on it.", min=1, max=MAX_BATCH_SIZE)
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Processes or threads that read or write files, 0 for none; chosen from the files by default. Results "
        "do not depend on it.",
        min=0,
        max=MAX_WORKERS,
    ),
]
SourceArgument = Annotated[
    str,
    typer.Argument(help="Images: a folder (read with its subfolders), an .npy, .npz or idx file, or a named set."),
]
OnErrorOption = Annotated[
    str, typer.Option(help="Policy for unreadable images: skip lists them and goes on (exit status 3), fail stops.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what lies at --out; a folder only if aekit made it.")
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with an interrupted job; the result is the same as without the interruption. If there is none, "
        "start. Without this option, what an interrupted job left is removed.",
    ),
]
FailuresOption = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|P%",
        help="Stop with an error when more images than this are unreadable; the finished work is kept for --resume.",
    ),
]
OriginalSizeOption = Annotated[
    bool, typer.Option("--original-size", help="Scale each PNG to the size of its original image.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]


@dataclass(frozen=True)
class JobRequest:
    """The options that all jobs share, as the user gave them."""

    model: Path
    """Model folder."""
    provider: str
    threads: int | None
    options: JobOptions
    as_json: bool

    def codec(self) -> "Codec":
        """Open the model. Raises BundleError or SpecError if the folder is no whole model."""
        from aekit.model.codec import Codec
        from aekit.workers import cores

        return Codec.load(self.model, self.provider, self.threads, parallel_batches=self.threads or cores())

    def with_progress(self, show: Callable[[int], None]) -> JobOptions:
        """Return the options of the job, with `show` to call after each batch."""
        return replace(self.options, progress=show)


def _shared(
    *,
    model: ModelOption = Path("model"),
    provider: ProviderOption = "auto",
    threads: ThreadsOption = None,
    batch_size: BatchOption = 256,
    workers: WorkersOption = None,
    on_error: OnErrorOption = "skip",
    max_failures: FailuresOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> JobRequest:
    """The options that all jobs share, with their defaults."""
    options = JobOptions(batch_size, workers, on_error, max_failures, resume, overwrite)
    return JobRequest(model, provider, threads, options, as_json)


def job_command(*, reads_images: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function the command of a job: it gets the shared options, as a JobRequest named `request`.

    A command that reads no images has no options on unreadable images.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        left_out = () if reads_images else ("on_error", "max_failures")
        own = [part for part in inspect.signature(function).parameters.values() if part.name != "request"]
        shared = [part for part in inspect.signature(_shared).parameters.values() if part.name not in left_out]

        @functools.wraps(function)
        def command(**values: Any) -> None:
            request = _shared(**{part.name: values.pop(part.name) for part in shared})
            function(**values, request=request)

        parts = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in (*own, *shared)]
        command.__signature__ = inspect.Signature(parts)  # type: ignore[attr-defined]
        command.__annotations__ = {part.name: part.annotation for part in parts}
        return command

    return decorate


def report_error(error: AekitError) -> int:
    """Print the error as one line; returns the exit status, 1."""
    with contextlib.suppress(OSError):
        print(f"aekit: {error}", file=sys.stderr)
    return 1


def note(text: str) -> None:
    """Print a line for the person at the terminal. It goes to stderr, so that stdout holds results alone."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # a progress line may stand there
    with contextlib.suppress(OSError):  # the work goes on even if nobody reads stderr any more
        print(clear + one_line(text), file=sys.stderr, flush=True)


def emit(result: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a command's result: as a JSON object if `as_json`, else as lines.

    Raises OutputError if stdout can't take it. A reader that has left (`| head`) is no error.
    """
    import json

    from aekit.json_files import finite

    # Lines quote files, which may hold control characters for the terminal.
    text = json.dumps(finite(result)) if as_json else "\n".join(map(one_line, lines))
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports it again as it ends
        if not isinstance(error, BrokenPipeError):
            raise OutputError("stdout could not be written", found=error.strerror or str(error)) from error


def counted(count: int, one: str) -> str:
    """Return a count with its noun, such as `1 image` or `1,200 images`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def need_extra(command: str, extra: str, *modules: str) -> None:
    """Raise MissingExtra unless the modules are installed."""
    import importlib.util

    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(command, extra, module)


def finish(summary: "Summary", what: str, as_json: bool) -> None:
    """Report a job, whose results are called `what`, and end with exit status 3 if it skipped inputs."""
    for record in summary.skipped:
        note(f"skipped {record.path}: {record.error}")
    inputs = summary.images + len(summary.skipped) - summary.resumed
    rate = inputs / summary.seconds if summary.seconds else math.inf
    total = summary.images + summary.count_before
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
    holds = f"now {total:,}, " if summary.count_before else ""
    lines = [
        f"{counted(summary.images, what)} -> {summary.out} ({holds}{summary.bytes:,} bytes, {each:.1f} an image) "
        f"in {summary.seconds:.1f} s, {rate:,.0f} images/s on {summary.provider}"
    ]
    if summary.resumed:
        lines.append(f"{counted(summary.resumed, 'input')} had been done before")
    if summary.present:
        lines.append(f"{counted(summary.present, 'image')} with the same path in the archive already, left unchanged")
    if summary.skipped:
        lines.append(f"{len(summary.skipped):,} skipped, listed above")
    emit(result, lines, as_json)
    if summary.skipped:
        raise typer.Exit(3)


@contextlib.contextmanager
def progress_line(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many of `total` are done, on one line of stderr, if stderr is a terminal."""
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
