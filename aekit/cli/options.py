"""The options that commands share, and the frame that makes a function the command of a job."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.jobs.options import MAX_BATCH_SIZE, MAX_WORKERS, JobOptions

if TYPE_CHECKING:
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
IMAGES_HELP = (
    "a folder (read with its subfolders), image files, a quoted pattern such as 'a/**/*.png', or @LIST, a text file "
    "with one path on each line. Several of these are read together. Or an .npy, .npz or idx file, or a named set."
)
"""Help text: what can be the source of images."""
SourceArgument = Annotated[list[str], typer.Argument(help=f"Images: {IMAGES_HELP}")]
OnErrorOption = Annotated[
    str, typer.Option(help="Policy for unreadable inputs: skip lists them and continues (exit status 3), fail stops.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what exists at --out. A folder is replaced only if aekit made it.")
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an interrupted job; the result is the same as without the interruption. If no job was "
        "interrupted, start one. Without this option, the files of an interrupted job are removed.",
    ),
]
FailuresOption = Annotated[
    str | None,
    typer.Option(
        "--max-failures",
        metavar="N|P%",
        help="Stop with an error when more inputs than this are unreadable; the finished work is kept for --resume.",
    ),
]
QualityOption = Annotated[
    int | None,
    typer.Option(
        help="Quality of a model that was trained with --qualities: 1, the fewest bytes, or more.",
        show_default="the middle one",
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
    """Provider that runs the graphs: auto or a name in PROVIDERS."""
    threads: int | None
    """Largest number of CPU threads; None for every core."""
    options: JobOptions
    """Options of the job itself."""
    as_json: bool
    """Whether the result is printed as JSON."""

    def codec(self) -> "Codec":
        """Open the model. Raises BundleError or SpecError if the folder is not a sound model."""
        from aekit.cores import cores
        from aekit.model.codec import Codec

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
    """Make a JobRequest of the options that all jobs share. The signature gives their defaults."""
    options = JobOptions(batch_size, workers, on_error, max_failures, resume, overwrite)
    return JobRequest(model, provider, threads, options, as_json)


def job_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function the command of a job.

    The command accepts the shared options too. The function receives them as a JobRequest named `request`.
    """
    own = [part for part in inspect.signature(function).parameters.values() if part.name != "request"]
    shared = list(inspect.signature(_shared).parameters.values())

    @functools.wraps(function)
    def command(**values: Any) -> None:
        request = _shared(**{part.name: values.pop(part.name) for part in shared})
        function(**values, request=request)

    parts = [part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in (*own, *shared)]
    command.__signature__ = inspect.Signature(parts)  # type: ignore[attr-defined]
    command.__annotations__ = {part.name: part.annotation for part in parts}
    return command
