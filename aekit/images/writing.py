"""Write pictures, all or none: as PNG files in a folder tree, or as one .npy array.

images uint8 [k, H, W, C], records ── staged_pictures(out) ──▶ out/a/000.png …, out/aekit.json
                                                          └──▶ out.npy [n, H, W, C]
"""

import contextlib
import json
import os
import posixpath
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from aekit._version import __version__
from aekit.images.decode import Pixels
from aekit.images.picture_output import MARKER, PictureOutput
from aekit.images.png import encode, encode_alike
from aekit.images.records import Record
from aekit.outputs.journal import Journal
from aekit.outputs.marks import Mark, Step, Written
from aekit.outputs.ours import images_header
from aekit.outputs.staging import crc_of_range, open_part, staged_file, staged_folder
from aekit.spec import Geometry
from aekit.workers import HERE, Plan, Pool, cores, pool, worth

_FILE_COST, _PIXEL_COST = 50e-6, 20e-9
"""Seconds to write a PNG file: per file, and per byte of its pixels."""
_PIECE_BYTES = 2**16
"""Bytes of pixels given to a process at a time: few enough for a pipe to hold them until the process asks for them."""


Piece = tuple[Pixels, Sequence[Record]]
"""Images uint8 [k, H, W, C] and, where they become files, the path and size of each."""


@dataclass(frozen=True)
class Batch:
    """Images to write."""

    images: Pixels
    """uint8 [k, H, W, C]."""
    records: Sequence[Record]
    """Path and size of each image, where images become files."""
    step: Step
    """The inputs that the images come from, for the journal."""


class PictureWriter(ABC):
    """Takes images, batch by batch, and marks them in the journal."""

    count = 0
    """Images written."""
    bytes = 0
    """Size of what was written."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._crc = journal, 0

    def _mark(self, step: Step) -> None:
        self._journal.mark(step, Written(step.inputs, _Sums(self.count, self._crc)))

    def restore(self, marks: Sequence[Mark]) -> int:
        """Keep what an earlier job wrote as far as it agrees with the marks; return how many marks agree."""
        kept = 0
        for mark in marks:
            if len(mark.written.sums) != len(_Sums._fields):
                break
            sums = _Sums(*mark.written.sums)
            if sums.images < self.count or not self._take_over(mark.step, sums):
                break
            kept, self.count, self._crc = kept + 1, sums.images, sums.crc
        self._cut_off()
        return kept

    @abstractmethod
    def _take_over(self, step: Step, sums: "_Sums") -> bool:
        """Check the images of one step of an earlier job; return whether they agree with its sums."""

    @abstractmethod
    def _cut_off(self) -> None:
        """Remove what lies behind the images that were taken over, if it would stay."""

    @abstractmethod
    def write(self, batches: Iterable[Batch]) -> None:
        """Write all the images. The writer may take a few batches before it has written the earlier ones."""


class _Sums(NamedTuple):
    """What a mark says of pictures."""

    images: int
    """Images written."""
    crc: int
    """CRC-32 of their pixels in an array; in a folder, of the packed CRC-32 of each file."""


@contextlib.contextmanager
def staged_pictures(
    output: PictureOutput,
    geometry: Geometry,
    *,
    inputs: int,
    names: Sequence[str] = (),
    command: str,
    model_id: str,
    original_size: bool = False,
    journal: Journal,
    workers: int | None = None,
    overwrite: bool = False,
) -> Iterator[PictureWriter]:
    """Yield the writer of pictures, which has taken over what an earlier job wrote if the journal has marks of it.

    The output takes its name when the block ends; after an error nothing is left, unless the journal keeps it.
    `inputs` is the expected number of images; `names` gives the path of the file of each input, where images become
    files. A folder says which `command` and `model_id` made it. `original_size` scales each picture to the size in its
    record. `workers` processes write files; 0 stands for none, None chooses from the number of inputs.

    Raises OutputError if the output is in the way or can't be written, WorkerError if a process dies twice.
    """
    if output.is_array:
        with staged_file(output.out, journal) as part:
            with open_part(part, journal) as file:
                array = _ArrayWriter(file, geometry, journal)
                journal.restore(array)
                yield array
            journal.finish(output.out)
        return
    with staged_folder(output.out, MARKER, overwrite=overwrite, journal=journal) as folder:
        if workers is None:
            workers = cores() if worth(inputs * (_FILE_COST + geometry.pixels * _PIXEL_COST)) else 0
        plan = Plan("processes", workers) if workers else HERE
        with pool(partial(write_files, folder, original_size), plan, _name) as writers:
            files = _FolderWriter(folder, writers, max(_PIECE_BYTES // geometry.pixels, 1), names, journal)
            journal.restore(files)
            yield files
        facts = {"made_by": f"aekit {__version__} {command}", "model_id": model_id, "images": files.count}
        (folder / MARKER).write_text(json.dumps(facts) + "\n", encoding="utf-8")


class _ArrayWriter(PictureWriter):
    """An .npy file that grows by a batch at a time."""

    def __init__(self, file: BinaryIO, geometry: Geometry, journal: Journal) -> None:
        super().__init__(journal)
        self._file, self._geometry = file, geometry
        self._begin = self._write_header()

    def _take_over(self, step: Step, sums: _Sums) -> bool:
        start, stop = (self._begin + images * self._geometry.pixels for images in (self.count, sums.images))
        return crc_of_range(self._file, start, stop, self._crc) == sums.crc

    def _cut_off(self) -> None:
        end = self._begin + self.count * self._geometry.pixels
        self._file.truncate(end)
        self._file.seek(end)

    def write(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            data = np.ascontiguousarray(batch.images).data.cast("B") if batch.images.size else b""
            self._crc = zlib.crc32(data, self._crc)
            self._file.write(data)
            self._file.flush()
            if self._journal.due():
                os.fsync(self._file.fileno())
            self.count += len(batch.images)
            self._mark(batch.step)
        self._write_header()

    def _write_header(self) -> int:
        """Write the header with the count so far; return the byte at which the images begin."""
        self._file.seek(0)
        self._file.write(images_header((self.count, *self._geometry.shape)))  # of one size, whatever the count
        begin = self._file.tell()
        self.bytes = self._file.seek(0, os.SEEK_END)
        return begin


class _FolderWriter(PictureWriter):
    """Writes PNG files below a folder, piece by piece."""

    def __init__(self, folder: Path, writers: Pool, piece: int, names: Sequence[str], journal: Journal) -> None:
        super().__init__(journal)
        self._folder, self._writers, self._piece, self._names = folder, writers, piece, names
        self._inputs = 0  # of the earlier job that were taken over
        self._unmarked = deque[tuple[int, int, Step]]()
        """Batches that are not wholly written: pieces, images and step of each."""

    def _take_over(self, step: Step, sums: _Sums) -> bool:
        failed = {failure.number for failure in step.failures}
        crc, size, images = self._crc, 0, 0
        try:
            for number in range(self._inputs, step.inputs):
                if number not in failed:
                    data = (self._folder / self._names[number]).read_bytes()
                    crc, size, images = zlib.crc32(_packed_crc(data), crc), size + len(data), images + 1
        except (OSError, IndexError):
            return False
        if crc != sums.crc or self.count + images != sums.images:
            return False
        self._inputs, self.bytes = step.inputs, self.bytes + size
        return True

    def _cut_off(self) -> None:
        """Leave later files: the job writes them again, under the same names."""

    def write(self, batches: Iterable[Batch]) -> None:
        done = 0
        for written, crcs in self._writers.map(self._pieces(batches)):
            self.bytes += written
            self._crc = zlib.crc32(crcs, self._crc)
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
            self._unmarked.append((-(-len(images) // self._piece), len(images), batch.step))
            for start in range(0, len(images), self._piece):
                yield images[start : start + self._piece], records[start : start + self._piece]


def write_files(folder: Path, original_size: bool, piece: Piece) -> tuple[int, bytes]:
    """Write PNG files below `folder`; return their size in bytes and the CRC-32 of each, packed.

    This is what a process does with one piece. `original_size` scales each image to the size in its record.
    """
    images, records = piece
    for parent in {posixpath.dirname(record.path) for record in records}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    size, crcs = 0, b""
    files = (_scaled(*pair) for pair in zip(images, records, strict=True)) if original_size else encode_alike(images)
    for data, record in zip(files, records, strict=True):
        with open(f"{folder}/{record.path}", "wb") as file:
            size += file.write(data)
        crcs += _packed_crc(data)
    return size, crcs


def _scaled(image: Pixels, record: Record) -> bytes:
    picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
    return encode(picture.resize((record.width, record.height), Image.Resampling.BICUBIC))


def _packed_crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _name(batch: Piece) -> str:
    return f"{batch[1][0].path} to {batch[1][-1].path}"
