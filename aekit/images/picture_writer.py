"""What a writer of pictures is given, and what all such writers share: the marks by which a job is resumed."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aekit.images.decode import Pixels
from aekit.images.records import Record
from aekit.outputs.journal import Journal
from aekit.outputs.marks import Mark, Step, Written


@dataclass(frozen=True)
class Batch:
    """Images to write."""

    images: Pixels | Sequence[Pixels]
    """uint8 [k, H, W, C], or k pictures uint8 [H, W, C] of any size. For messages, codes in their place."""
    records: Sequence[Record]
    """Path and size of each image, where images become files."""
    step: Step
    """The inputs that the images come from, for the journal."""


class Sums(NamedTuple):
    """The numbers in a mark of pictures."""

    images: int
    """Images written."""
    crc: int
    """CRC-32: of the pixels in an array; in a folder, of the packed CRC-32 of each file."""
    height: int = 0
    """Height in pixels of every picture in an array, where the model does not decide it; otherwise 0."""
    width: int = 0
    """Width in pixels, likewise."""


class PictureWriter(ABC):
    """Takes images, batch by batch, and marks them in the journal."""

    count = 0
    """Images written."""
    bytes = 0
    """Size of what was written."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._crc = journal, 0

    def _mark(self, step: Step, size: tuple[int, int] = (0, 0)) -> None:
        sums = Sums(self.count, self._crc, *size)
        self._journal.mark(step, Written(step.inputs, sums if any(size) else sums[:2]))

    def restore(self, marks: Sequence[Mark]) -> int:
        """Keep what an earlier job wrote as far as it agrees with the marks; return how many marks agree."""
        kept = 0
        for mark in marks:
            if len(mark.written.sums) not in (2, len(Sums._fields)):
                break
            sums = Sums(*mark.written.sums)
            if sums.images < self.count or not self._take_over(mark.step, sums):
                break
            kept, self.count, self._crc = kept + 1, sums.images, sums.crc
        self._cut_off()
        return kept

    @abstractmethod
    def _take_over(self, step: Step, sums: Sums) -> bool:
        """Check the images of one step of an earlier job; return whether they agree with its sums."""

    @abstractmethod
    def _cut_off(self) -> None:
        """Remove what lies behind the images that were taken over, if it would stay."""

    @abstractmethod
    def write(self, batches: Iterable[Batch]) -> None:
        """Write all the images. The writer may take a few batches before it has written the earlier ones."""
