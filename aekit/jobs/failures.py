"""What inputs that can't be read come to: skipped and listed, or an error, by --on-error and --max-failures."""

from collections.abc import Iterator, Sequence

from aekit.errors import ImageError, OptionError, SourceError, TooManyFailures
from aekit.images.records import Block, Record
from aekit.images.sources import Source
from aekit.outputs.journal import Mark


class Failed:
    """The inputs of a job that could not be read so far, those before it was resumed included."""

    def __init__(self, source: Source, on_error: str, most: str | None) -> None:
        if on_error not in ("skip", "fail"):
            raise OptionError("--on-error", expected="skip or fail", found=repr(on_error))
        self._source, self._fail, self._said = source, on_error == "fail", most
        self._most = _limit(most, len(source))
        self.numbers = set[int]()
        """Which inputs of the source they are."""
        self.records = list[Record]()

    def restore(self, marks: Sequence[Mark]) -> None:
        """Take over those of the marks of a job that is resumed."""
        for number, path, error in (entry for mark in marks for entry in mark["skipped"]):
            self.numbers.add(number)
            self.records.append(Record(path, error=error))

    def checked(self, blocks: Iterator[tuple[int, Block]]) -> Iterator[tuple[Block, Mark]]:
        """The blocks, and for each the mark that says how far it goes and what it skips.

        Raises ImageError on the first failure under `fail`, TooManyFailures as soon as there are too many.
        """
        for stop, block in blocks:
            start = stop - len(block.records)
            found = [(number, record) for number, record in enumerate(block.records, start) if record.error]
            # Those of the job that is resumed count too: it may have allowed more.
            bad = [*self.records, *(record for _, record in found)]
            if bad and self._fail:
                raise ImageError(f"{bad[0].path}: {bad[0].error}")
            if len(bad) > self._most:
                raise TooManyFailures(
                    f"{self._source.name}: {bad[-1].path}: {bad[-1].error}",
                    expected=f"at most {self._most:,} inputs that can't be read (--max-failures {self._said})",
                    found=f"{len(bad):,} among the first {stop:,}",
                )
            self.numbers.update(number for number, _ in found)
            self.records += [record for _, record in found]
            yield block, {"inputs": stop, "skipped": [[number, record.path, record.error] for number, record in found]}

    def check_any(self, count: int) -> None:
        """Raise SourceError if not one of the inputs could be read."""
        if not count:
            reason = f"{self.records[0].path}: {self.records[0].error}" if self.records else "none"
            raise SourceError(self._source.name, expected="at least one readable image", found=reason)


def _limit(most: str | None, inputs: int) -> int:
    """Inputs that may fail. Raises OptionError unless `most` is a number or a percentage."""
    if most is None:
        return inputs
    text = most.removesuffix("%")
    if not (text.isascii() and text.isdecimal()) or (text != most and int(text) > 100):
        raise OptionError("--max-failures", expected="a number, or a percentage such as 5%", found=repr(most))
    return inputs * int(text) // 100 if text != most else int(text)
