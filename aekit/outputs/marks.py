"""Marks: what a job notes in its journal after each batch, and the interface of outputs that a job can resume.

    Step     inputs done and failures since the last step      from the job
    Written  what a resumed job keeps, and sums to check it    from the writer of the output
    Mark     both, as one line of the journal

Marks are turned into JSON, and read from JSON and checked, in this file alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class Failure:
    """One input that could not be read."""

    number: int
    """Position of the input in its source, from 0."""
    path: str
    """Path of the input, relative to its source."""
    error: str
    """Why it could not be read."""


@dataclass(frozen=True)
class Step:
    """A batch of inputs that a job has processed."""

    inputs: int
    """Inputs done at the end of the batch, counted from the start of the source."""
    failures: tuple[Failure, ...] = ()
    """Inputs of this batch that could not be read."""


@dataclass(frozen=True)
class Written:
    """How far an output has been written."""

    kept: int
    """Inputs that a resumed job would not process again."""
    sums: tuple[int, ...]
    """Numbers, 0 or more, that the writer later checks its file against. Only the writer knows what each one means."""


@dataclass(frozen=True)
class Mark:
    """One mark of a journal."""

    step: Step
    written: Written

    def to_json(self) -> dict[str, Any]:
        """Return the mark as values that JSON can hold."""
        return {
            "inputs": self.step.inputs,
            "failures": [[failure.number, failure.path, failure.error] for failure in self.step.failures],
            "kept": self.written.kept,
            "sums": list(self.written.sums),
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the mark that `to_json` turned into `value`. Raises ValueError for any other value."""
        if not isinstance(value, dict) or set(value) != {"inputs", "failures", "kept", "sums"}:
            raise ValueError("a mark with other fields")
        counts, failures = [value["inputs"], value["kept"]], value["failures"]
        if not isinstance(failures, list) or not isinstance(value["sums"], list):
            raise ValueError("a mark without lists")
        if not all(_is_count(number) for number in (*counts, *value["sums"])):
            raise ValueError("a mark whose numbers are not whole numbers from 0")
        for entry in failures:
            if not (isinstance(entry, list) and len(entry) == 3 and _is_count(entry[0])):
                raise ValueError("a failure without a number, a path and a reason")
            if not all(isinstance(text, str) for text in entry[1:]):
                raise ValueError("a failure whose path or reason is no text")
        step = Step(value["inputs"], tuple(Failure(*entry) for entry in failures))
        return cls(step, Written(value["kept"], tuple(value["sums"])))


class Restorable(Protocol):
    """An output that a later job can go on with: the writer of a code file, an archive, an array or a folder."""

    def restore(self, marks: Sequence[Mark]) -> int:
        """Check what an earlier job wrote against its marks, and cut off everything behind the last mark that holds.

        Returns how many marks hold, counted from the first.
        """
        ...


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
