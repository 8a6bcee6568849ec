"""Outputs that a job has finished: the renames from their working names to their own, and back.

A kill may come before, between or after the renames. Inode numbers in the journal then tell which files the finished
outputs are, whatever names they have.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from aekit.outputs.places import STAMP, part_of, settled, status


@dataclass(frozen=True)
class Finished:
    """The finished outputs of a job, in the order in which it names them; none if the job has not finished."""

    inodes: tuple[int, ...] = ()
    """Inode number of each output."""
    over: tuple[int, ...] = ()
    """Inode numbers of the files that the outputs replace."""
    by_name: bool = False
    """Whether files are taken for the outputs by their names alone, because the journal was moved or copied."""

    @property
    def known(self) -> frozenset[int]:
        """Inode numbers of the outputs and of the files that they replace."""
        return frozenset((*self.inodes, *self.over))

    def includes(self, part: Path) -> bool:
        """Whether `part` is one of the outputs, and may have had its own name already."""
        found = status(part)
        return found is not None and found.st_ino in self.inodes

    def are_in_place(self, *outputs: Path) -> bool:
        """Whether these are the outputs, and all of them have taken their names."""
        if len(outputs) != len(self.inodes):
            return False
        places = [settled(path) for path in outputs]
        found = [(status(place), status(part_of(place))) for place in places]
        return all(
            there is not None and there.st_ino == inode and part is None
            for (there, part), inode in zip(found, self.inodes, strict=True)
        )

    def take_back(self, *outputs: Path) -> None:
        """Give outputs that were renamed before the job was killed their working names again."""
        for path, inode in zip(outputs, self.inodes, strict=False):
            place = settled(path)
            if status(part_of(place)) is None and self._is(place, inode):
                os.replace(place, part_of(place))

    def complete(self, *outputs: Path) -> bool:
        """Give all outputs their names, as the job that was killed was about to; return whether that was possible."""
        places = [settled(path) for path in outputs]
        if not self.inodes or len(self.inodes) != len(places):
            return False
        steps = [(place, part_of(place), inode) for place, inode in zip(places, self.inodes, strict=True)]
        if not all(self._is(part, inode) or self._is(place, inode) for place, part, inode in steps):
            return False
        for place, part, inode in steps:
            if self._is(part, inode):
                if place.is_dir():
                    return False  # staged_folder knows how to replace it
                os.replace(part, place)
            if place.is_dir():
                (place / STAMP).unlink(missing_ok=True)
        return True

    def _is(self, path: Path, inode: int) -> bool:
        found = status(path)
        return found is not None and (found.st_ino == inode or self.by_name)
