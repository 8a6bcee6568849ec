"""The options that all jobs share. Importing this file loads no numpy."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from aekit.errors import OptionError

MAX_BATCH_SIZE = 65_536
"""Largest number of images per run of a graph. More would only take more memory."""
MAX_WORKERS = 1024
"""Largest number of processes or threads that read or write files."""
_MAX_DIGITS = 15
"""Most digits of a number in --max-failures."""

Progress = Callable[[int], None]
"""Function that a job calls after each batch, with the number of inputs done so far."""


def _ignore(_: int) -> None:
    pass


@dataclass(frozen=True)
class JobOptions:
    """How a job runs. What it computes does not depend on these options, except for rounding in the last bit.

    Raises OptionError if an option has no valid value.
    """

    batch_size: int = 256
    """Images per run of a graph."""
    workers: int | None = None
    """Processes or threads that read or write files; 0 for none, None to choose from the files."""
    on_error: str = "skip"
    """Policy for unreadable inputs: `skip` lists them and goes on, `fail` stops the job."""
    max_failures: str | None = None
    """Most unreadable inputs that a job accepts: a number, a percentage such as `5%`, or None for any number."""
    resume: bool = False
    """Go on with what an earlier job left. If it left nothing, the job simply starts."""
    overwrite: bool = False
    """Replace what lies at the output, if it may be replaced."""
    progress: Progress = _ignore
    """Function to call after each batch, with the number of inputs done so far."""

    def __post_init__(self) -> None:
        check_range("--batch-size", self.batch_size, 1, MAX_BATCH_SIZE)
        if self.workers is not None:
            check_range("--workers", self.workers, 0, MAX_WORKERS)
        if self.on_error not in ("skip", "fail"):
            raise OptionError("--on-error", expected="skip or fail", found=repr(self.on_error))
        self.most_failures(0)

    def most_failures(self, inputs: int) -> int:
        """Return how many of `inputs` may fail. Raises OptionError if max_failures is no number and no percentage."""
        text = self.max_failures
        if text is None:
            return inputs
        match = re.fullmatch(rf"([0-9]{{1,{_MAX_DIGITS}}})(%?)", text)
        if match is None or (match[2] and int(match[1]) > 100):
            found = repr(text if len(text) <= 40 else f"{text[:40]}…")
            raise OptionError("--max-failures", expected="a number, or a percentage such as 5%", found=found)
        return inputs * int(match[1]) // 100 if match[2] else int(match[1])


def check_range(option: str, value: int, least: int, most: int) -> None:
    """Raise OptionError unless least <= value <= most."""
    if not least <= value <= most:
        found = f"{value:,}" if abs(value) < 10**12 else "a number of more than 12 digits"
        raise OptionError(option, expected=f"{least} or more, and at most {most:,}", found=found)
