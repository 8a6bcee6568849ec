"""Outputs that a job has finished: the renames from their working names to their own, and back.

A kill may come before, between or after the renames. The journal then tells which files the finished outputs are,
whatever names they have: by their inode numbers, and by their contents, which a copy on another disk has too.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from aekit.outputs.contents import Content
from aekit.outputs.places import STAMP, create, part_of, settled, status


@dataclass(frozen=True)
class Finished:
    """The finished outputs of a job, in the order in which it names them; none if the job has not finished."""

    inodes: tuple[int, ...] = ()
    """Inode number of each output."""
    over: tuple[int, ...] = ()
    """Inode numbers of the files that the outputs replace."""
    contents: tuple[Content, ...] = ()
    """Content of each output; none if an earlier version of aekit wrote the journal."""
    replaced: tuple[Content | None, ...] = ()
    """Content of what each output replaces, without a checksum; None where it replaces nothing."""
    by_name: bool = False
    """Whether files are taken for the outputs by their names alone, because the journal was moved or copied."""

    def known(self, *outputs: Path) -> frozenset[int]:
        """Return the inode numbers of the outputs and of the files that they replace.

        In a copied folder those are the numbers of the files that have their names and sizes.
        """
        known = {*self.inodes, *self.over}
        for path, content in zip(outputs, self.replaced, strict=False) if self.by_name else ():
            place = settled(path)
            if content is not None and content.fits(place):
                known.add(os.lstat(place).st_ino)
        return frozenset(known)

    def includes(self, part: Path) -> bool:
        """Whether `part` is one of the outputs, and may have had its own name already."""
        found = status(part)
        return found is not None and found.st_ino in self.inodes

    def are_in_place(self, *outputs: Path) -> bool:
        """Whether these are the outputs, and all of them have taken their names.

        The content decides, if the journal tells it: a copy has other inode numbers, and a new file may get the number
        of a removed one.
        """
        if not self.inodes or len(outputs) != len(self.inodes):
            return False
        places = [settled(path) for path in outputs]
        if any(status(part_of(place)) is not None for place in places):
            return False
        if self.contents:
            return all(content.fits(place) for content, place in zip(self.contents, places, strict=True))
        found = [status(place) for place in places]
        return [there and there.st_ino for there in found] == list(self.inodes)

    def take_back(self, *outputs: Path) -> None:
        """Give outputs that were renamed before the job was killed their working names again.

        A folder gets its stamp again, too.
        """
        for number, path in enumerate(outputs[: len(self.inodes)]):
            place = settled(path)
            if status(part_of(place)) is None and self._is(place, number):
                if place.is_dir() and status(place / STAMP) is None:
                    create(place / STAMP)
                os.replace(place, part_of(place))

    def complete(self, *outputs: Path) -> bool:
        """Give all outputs their names, as the job that was killed was about to; return whether that was possible."""
        places = [settled(path) for path in outputs]
        if not self.inodes or len(self.inodes) != len(places):
            return False
        steps = [(place, part_of(place), number) for number, place in enumerate(places)]
        if not all(self._is(part, number) or self._is(place, number) for place, part, number in steps):
            return False
        for place, part, number in steps:
            if self._is(part, number):
                if place.is_dir():
                    return False  # staged_folder knows how to replace it
                os.replace(part, place)
            if place.is_dir():
                (place / STAMP).unlink(missing_ok=True)
        return True

    def _is(self, path: Path, number: int) -> bool:
        """Whether what lies at `path` is the output of this number."""
        found = status(path)
        if found is None or not (self.by_name or found.st_ino == self.inodes[number]):
            return False
        return not self.contents or self.contents[number].fits(path)
