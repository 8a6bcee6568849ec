"""The frame that all jobs share: their facts, journal, provider, progress and summary.

    job = Job("compress", codec, out, options)
    with job.journal(output, facts) as journal:     locks the output; checks that it is free; takes over earlier work
        ... write, and journal.mark after each batch ...
    return job.summary(images=…, bytes=…, …)

A job that adds something of its own to this frame is in a file of its own: compression, reconstruction, denoising.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aekit._version import __version__
from aekit.images.records import Record
from aekit.jobs.options import JobOptions
from aekit.model.codec import Codec
from aekit.outputs.journal import Journal, complete, journaled

DEFAULTS = JobOptions()
"""Options of a job that is given none."""


@dataclass(frozen=True)
class Summary:
    """What a job did."""

    out: Path
    images: int
    """Images that the job wrote."""
    skipped: tuple[Record, ...]
    """Inputs left out, with their reasons."""
    bytes: int
    """Size of the output that holds the codes or images, without indexes."""
    seconds: float
    """Wall-clock time."""
    provider: str
    """Provider that ran the graph, as its session reports."""
    present: int = 0
    """Inputs that the archive contained before the job, and that were therefore not read."""
    count_before: int = 0
    """Codes that the archive contained before the job."""
    resumed: int = 0
    """Inputs that an earlier, interrupted job had done."""
    index: Path | None = None
    """File beside the codes that holds their paths, if the format has one."""
    index_bytes: int = 0
    """Size of the index file, in bytes."""
    oversized: int = 0
    """Number of pictures that take more bytes than asked for even at quality 1, since the job was last started."""


class Output(Protocol):
    """Where a job writes: a code file or pictures."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files or folders of the output, links resolved where they are kept. The first one names the journal."""
        ...

    def check_free(self, *, overwrite: bool, known: Collection[int] = ()) -> None:
        """Raise OutputError or OutputExists if something lies there that may not be replaced."""
        ...


class Job:
    """One job: what it is called, what it runs, where it writes, and when it began."""

    def __init__(self, command: str, codec: Codec, out: Path, options: JobOptions) -> None:
        self.command, self.codec, self.out, self.options = command, codec, out, options
        self.provider = ""
        """Provider that runs the graph; empty until `agree_on_provider`."""
        self.resumed = 0
        """Inputs that an earlier job had done; 0 until `agree_on_provider`."""
        self._began = time.monotonic()

    @contextlib.contextmanager
    def journal(self, output: Output, facts: dict[str, object], *, replace: bool, once: str = "") -> Iterator[Journal]:
        """Yield the locked journal of this job, which has given unfinished outputs their working names back.

        `facts` are what the result depends on, beside the model. `replace` says whether the output may replace what is
        there. `once` is as in `journaled`.

        Raises OutputError if the output is not free, another job writes it, or the earlier job was another job.
        """
        resume = self.options.resume
        if not resume:  # before anything that an earlier job left is given up
            if not once:
                complete(*output.files)
            output.check_free(overwrite=replace)
        with journaled(output.files[0], {**self._facts(), **facts}, resume=resume, once=once) as journal:
            if not once:  # else a finished output is never taken for an unfinished one again
                journal.finished.take_back(*output.files)
            if not once or not journal.finished.are_in_place(*output.files):
                output.check_free(overwrite=replace, known=journal.finished.known(*output.files))
            yield journal

    def _facts(self) -> dict[str, object]:
        """Return what the result of any job depends on.

        Results have never been seen to depend on batch size or threads, but not every processor guarantees it. So a
        resumed job uses the same batches and threads.
        """
        codec = self.codec
        files = [codec.bundle.manifest.get(name) for name in ("files", "tables", "context")]
        return {
            "the command": self.command,
            "the version of aekit": __version__,
            "the model": f"{codec.model_id} {codec.bundle.variant}",
            "the graphs": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16],
            "--batch-size": self.options.batch_size,
            "runs of the graph at a time (--threads)": codec.parallel_batches,
            "threads of a run (--threads)": codec.threads_per_batch,
        }

    def agree_on_provider(self, journal: Journal, *roles: str) -> None:
        """Open these graphs, and note their providers in the journal. Call it when the journal has been restored.

        Raises ProviderError if a provider can't run its graph, OutputError if the earlier job used another provider.
        """
        self.resumed = journal.inputs
        self.provider = " and ".join({self.codec.provider(role): None for role in roles})
        from onnxruntime import __version__ as version

        journal.agree({"the provider": f"{self.provider} of onnxruntime {version}"})

    def summary(
        self, images: int, size: int, skipped: Sequence[Record] = (), *, present: int = 0, count_before: int = 0
    ) -> Summary:
        """Return the summary of this job, which ends now; `size` is in bytes."""
        seconds = time.monotonic() - self._began
        return Summary(
            self.out, images, tuple(skipped), size, seconds, self.provider, present, count_before, self.resumed
        )
