"""Salvage: the whole blocks of a damaged archive, and what is lost with the others, in words."""

from dataclasses import dataclass
from typing import BinaryIO

from aekit.codes.archive.container import BLOCK, BlockPlace, read_frame, scan

_MOST_RANGES = 5
"""Most ranges of lost rows that are told one by one."""


@dataclass(frozen=True)
class Loss:
    """What a damaged archive no longer gives."""

    blocks: int
    """Blocks known to be lost."""
    ranges: tuple[tuple[int, int], ...] | None
    """First and last row of each run of lost images, or None if the index, which counts them, is lost too."""
    bytes: int
    """Bytes of the file that are of no use."""
    named: bool = False
    """Whether the images had paths, which are lost with their codes."""

    @property
    def images(self) -> int | None:
        """Lost images, or None if the index is lost too."""
        return None if self.ranges is None else sum(last - first + 1 for first, last in self.ranges)

    def __str__(self) -> str:
        if self.ranges is None:
            return f"an unknown number of images, if any, in {self.bytes:,} bytes that are no whole block"
        shown = [f"{first:,} to {last:,}" if last > first else f"{first:,}" for first, last in self.ranges]
        if len(shown) > _MOST_RANGES:
            shown[_MOST_RANGES:] = [f"{len(shown) - _MOST_RANGES:,} more ranges"]
        rows = f" (counted from 0: {', '.join(shown)})" if shown else ""
        images = f"{self.images:,} {'image' if self.images == 1 else 'images'}{' with paths' if self.named else ''}"
        return f"{images}{rows}, in {self.blocks:,} damaged {'block' if self.blocks == 1 else 'blocks'}"


def salvage_blocks(
    file: BinaryIO, places: list[BlockPlace] | None, begin: int, end: int, *, named: bool
) -> tuple[list[BlockPlace], Loss | None]:
    """Return the blocks that are whole, and what is lost, if anything is.

    `places` are the blocks of the index, or None if the file has lost it. The blocks lie between the bytes `begin` and
    `end`. Every byte is read once.
    """
    if places is None:
        whole = scan(file, begin, end, past_damage=True)
        used = sum(place.size for place in whole)
        return whole, Loss(0, None, end - begin - used, named)
    whole, lost, ranges, row = list[BlockPlace](), list[BlockPlace](), list[tuple[int, int]](), 0
    for place in places:
        block = read_frame(file, place.offset, place.offset + place.size)
        if block is None or block[0] != BLOCK or block[2] != place.size:
            lost.append(place)
            if place.rows:
                first = ranges.pop()[0] if ranges and ranges[-1][1] == row - 1 else row
                ranges.append((first, row + place.rows - 1))
        else:
            whole.append(place)
        row += place.rows
    if not lost:
        return places, None
    return whole, Loss(len(lost), tuple(ranges), sum(place.size for place in lost), named)


def advice(whole: list[BlockPlace]) -> str:
    """Return what to do about a damaged archive of which these blocks are whole."""
    if any(place.rows for place in whole):
        return "use another copy, or get what is left with `aekit reconstruct --salvage`"
    return "use another copy: no image of this one is whole"
