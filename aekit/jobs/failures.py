"""Unreadable inputs of a job: skipped and listed, or an error, as --on-error and --max-failures say."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from aekit.errors import ImageError, SourceError, TooManyFailures
from aekit.images.records import Record
from aekit.jobs.options import JobOptions
from aekit.outputs.marks import Failure, Mark, Step


class Inputs(Protocol):
    """What a job reads: a source of images, or messages."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...


class Block(Protocol):
    """A range of inputs that was read."""

    @property
    def records(self) -> tuple[Record, ...]:
        """A record for each input, in order, if they have paths; otherwise empty."""
        ...


_B = TypeVar("_B", bound=Block)


class FailureLog:
    """The inputs of a job that could not be read so far, including those from before it was resumed."""

    def __init__(self, source: Inputs, options: JobOptions, marks: Sequence[Mark]) -> None:
        self._source, self._options = source, options
        self._most = options.most_failures(len(source))
        self.records = [Record(failure.path, error=failure.error) for mark in marks for failure in mark.step.failures]
        """A record for each unreadable input, in order."""

    def checked(self, blocks: Iterator[tuple[int, _B]]) -> Iterator[tuple[_B, Step]]:
        """Yield each block with its step: the inputs done at its end, and those of it that could not be read.

        Raises ImageError on the first failure under `fail`, TooManyFailures as soon as there are too many.
        """
        for stop, block in blocks:
            start = stop - len(block.records)
            failures = tuple(
                Failure(number, record.path, record.error)
                for number, record in enumerate(block.records, start)
                if record.error
            )
            self.records += [Record(failure.path, error=failure.error) for failure in failures]
            # Failures from before a resume count too: the earlier job may have allowed more.
            if self.records and self._options.on_error == "fail":
                raise ImageError(f"{self.records[0].path}: {self.records[0].error}")
            if len(self.records) > self._most:
                last, most = self.records[-1], f"--max-failures {self._options.max_failures}"
                raise TooManyFailures(
                    f"{self._source.name}: {last.path}: {last.error}",
                    expected=f"at most {self._most:,} inputs that can't be read ({most})",
                    found=f"{len(self.records):,} among the first {stop:,}",
                )
            yield block, Step(stop, failures)

    def check_any(self, count: int) -> None:
        """Raise SourceError if `count`, the number of images that could be read, is 0."""
        if not count:
            reason = f"{self.records[0].path}: {self.records[0].error}" if self.records else "none"
            raise SourceError(self._source.name, expected="at least one readable image", found=reason)
