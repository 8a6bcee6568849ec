"""Find the blocks of an archive: by its index, or, in a damaged one, those that are whole."""

from dataclasses import dataclass
from typing import BinaryIO

from aekit.codes.archive.container import BlockPlace, read_footer, read_frame, scan
from aekit.errors import CodesError


@dataclass(frozen=True)
class Loss:
    """What a damaged archive has lost."""

    blocks: int
    """Blocks known to be lost."""
    images: int | None
    """Images in them, or None if the index, which counts them, is lost too."""
    bytes: int
    """Bytes of the file that are of no use."""

    def __str__(self) -> str:
        images = "an unknown number of images, if any" if self.images is None else f"{self.images:,} images"
        return f"{images}, in {self.blocks:,} damaged blocks and {self.bytes:,} bytes of no use"


def find_blocks(file: BinaryIO, begin: int, end: int, where: str) -> list[BlockPlace]:
    """Return the blocks of a file of `end` bytes, the first at byte `begin`, by its index.

    Raises CodesError, which says what is left, if the file has no whole index at its end.
    """
    places = read_footer(file, begin, end)
    if places is not None:
        return places
    whole = scan(file, begin, end)
    left = f"{len(whole):,} whole blocks of {sum(place.rows for place in whole):,} images"
    lost = end - (whole[-1].offset + whole[-1].size if whole else begin)
    found = f"{left}, then {lost:,} bytes that are of no use"
    fix = "use another copy, or get what is left with `aekit reconstruct --salvage`"
    raise CodesError(f"{where} is cut short or damaged", expected="an index at its end", found=found, fix=fix)


def salvage_blocks(file: BinaryIO, begin: int, end: int) -> tuple[list[BlockPlace], Loss | None]:
    """Return the blocks that are whole, and what is lost, or None if nothing is."""
    places = read_footer(file, begin, end)
    if places is None:
        whole = scan(file, begin, end)
        used = sum(place.size for place in whole)
        return whole, Loss(0, None, end - begin - used)
    whole, lost = list[BlockPlace](), list[BlockPlace]()
    for place in places:
        found = read_frame(file, place.offset, place.offset + place.size)
        (lost if found is None else whole).append(place)
    if not lost:
        return places, None
    return whole, Loss(len(lost), sum(place.rows for place in lost), sum(place.size for place in lost))
