"""Write one file for each image below a folder, piece by piece, in processes: pictures or messages."""

import posixpath
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aekit.images.decode import Pixels
from aekit.images.picture_writer import Batch, PictureWriter, Sums
from aekit.images.records import Record
from aekit.outputs.journal import Journal
from aekit.outputs.marks import Step
from aekit.workers import Pool

_PIECE_BYTES = 2**16
"""Bytes of pixels given to a process at a time: few enough for a pipe to hold them until the process asks for them. A
larger picture is a piece of its own."""
_MOST_SENT = 2**27
"""Bytes of pixels of the largest picture that is sent to a process. Sending takes three more copies in memory."""


@dataclass(frozen=True)
class FilesWritten:
    """Size and checksums of files that were written."""

    size: int
    """Size of all files together, in bytes."""
    crcs: bytes
    """The CRC-32 of each file, packed."""


Piece = tuple[Pixels | Sequence[Pixels], Sequence[Record]] | FilesWritten
"""Images, uint8 [k, H, W, C] or k pictures uint8 [H, W, C], with the path and size of each. For messages, codes in
place of images. Or the facts of files that are written already."""
Write = Callable[[Piece], FilesWritten]
"""A function that writes a piece in a process. It returns the facts of files that are written already."""


class FolderWriter(PictureWriter):
    """Writes files below a folder, piece by piece."""

    def __init__(self, folder: Path, write: Write, writers: Pool, names: Sequence[str], journal: Journal) -> None:
        """Write to `folder`. The processes `writers` run the function `write`. `names` are the files of all inputs."""
        super().__init__(journal)
        self._folder, self._write, self._writers, self._names = folder, write, writers, names
        self._inputs = 0  # number of inputs taken over from the earlier job
        self._unmarked = deque[tuple[int, int, Step]]()
        """Batches that are not wholly written: pieces, images and step of each."""

    def _take_over(self, step: Step, sums: Sums) -> bool:
        failed = {failure.number for failure in step.failures}
        crc, size, images = self._crc, 0, 0
        try:
            for number in range(self._inputs, step.inputs):
                if number not in failed:
                    data = (self._folder / self._names[number]).read_bytes()
                    crc, size, images = zlib.crc32(_packed(zlib.crc32(data)), crc), size + len(data), images + 1
        except (OSError, IndexError):
            return False
        if crc != sums.crc or self.count + images != sums.images:
            return False
        self._inputs, self.bytes = step.inputs, self.bytes + size
        return True

    def _cut_off(self) -> None:
        """Leave files of unfinished batches in place: the job writes them again under the same names."""

    def write(self, batches: Iterable[Batch]) -> None:
        done = 0
        for written in self._writers.map(self._pieces(batches)):
            self.bytes += written.size
            self._crc = zlib.crc32(written.crcs, self._crc)
            done += 1
            while self._unmarked and self._unmarked[0][0] <= done:
                pieces, images, step = self._unmarked.popleft()
                done, self.count = done - pieces, self.count + images
                self._mark(step)
        for _, images, step in self._unmarked:  # batches without an image, at the end
            self.count += images
            self._mark(step)

    def _pieces(self, batches: Iterable[Batch]) -> Iterator[Piece]:
        for batch in batches:
            images, records = batch.images, batch.records
            cuts = list(_cuts(images))
            self._unmarked.append((len(cuts), len(images), batch.step))
            for cut in cuts:
                piece = images[cut], records[cut]
                is_large = images[cut.start].nbytes > _MOST_SENT
                yield self._write(piece) if is_large else piece


def _cuts(images: Pixels | Sequence[Pixels]) -> Iterator[slice]:
    """Divide images into pieces of at most _PIECE_BYTES, or one image."""
    if isinstance(images, np.ndarray):
        most = max(_PIECE_BYTES // images[0].size, 1) if len(images) else 1
        yield from (slice(start, start + most) for start in range(0, len(images), most))
        return
    start = size = 0
    for row, picture in enumerate(images):
        if row > start and size + picture.nbytes > _PIECE_BYTES:
            yield slice(start, row)
            start, size = row, 0
        size += picture.nbytes
    if images:
        yield slice(start, len(images))


def write_each(folder: Path, files: Iterable[bytes], records: Sequence[Record]) -> FilesWritten:
    """Write the bytes of each file below `folder`, at the path in its record."""
    for parent in {posixpath.dirname(record.path) for record in records}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    size, crcs = 0, b""
    for data, record in zip(files, records, strict=True):
        with open(f"{folder}/{record.path}", "wb") as file:
            size += file.write(data)
        crcs += _packed(zlib.crc32(data))
    return FilesWritten(size, crcs)


def _packed(crc: int) -> bytes:
    return crc.to_bytes(4, "little")


def name_of(piece: Piece) -> str:
    """Return the name of a piece for errors."""
    return "" if isinstance(piece, FilesWritten) else f"{piece[1][0].path} to {piece[1][-1].path}"
