"""Write images out, whole or not at all: to PNG files in a folder tree, or to one .npy array.

images uint8 [k, H, W, C], records ── staged_pictures(out) ──▶ out/a/000.png …, out/aekit.json
                                                          └──▶ out.npy [n, H, W, C]
"""

import contextlib
import json
import os
import posixpath
import zlib
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from aekit._version import __version__
from aekit.errors import OptionError
from aekit.images.decode import Pixels
from aekit.images.png import encode, encode_alike
from aekit.images.records import Record
from aekit.outputs.journal import Journal, Mark
from aekit.outputs.ours import images_header
from aekit.outputs.staging import check_free, crc_of_range, open_part, staged_file, staged_folder
from aekit.spec import Geometry
from aekit.workers import HERE, Plan, Pool, cores, pool, worth

MARKER = "aekit.json"
"""Lies in a folder of pictures and says where they come from; only such a folder is ever replaced."""
_FILE_COST, _PIXEL_COST = 50e-6, 20e-9
"""Seconds to write a PNG file: a share a file, and a share a byte of its pixels."""
_PIECE_BYTES = 2**16
"""Pixels given to a process at a time, bytes: few enough for a pipe to take them in before they are asked for."""


Piece = tuple[Pixels, Sequence[Record]]
"""Images uint8 [k, H, W, C] and, where they become files, the path and size of each."""


@dataclass(frozen=True)
class Batch:
    """Images to write, and what the journal is to remember of the inputs they came from."""

    images: Pixels
    """uint8 [k, H, W, C]."""
    records: Sequence[Record]
    """The path and size of each, where they become files."""
    mark: Mark


class PictureWriter(ABC):
    """Takes images, batch by batch."""

    count = 0
    """Images written."""
    bytes = 0
    """Size of what was written."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._crc = journal, 0

    def _mark(self, mark: Mark) -> None:
        self._journal.mark({**mark, "images": self.count, "crc": self._crc})

    @abstractmethod
    def restore(self, paths: Iterable[str]) -> None:
        """Take over what the journal has marks of, as far as its sums agree, of images written to these paths."""

    @abstractmethod
    def write(self, batches: Iterable[Batch]) -> None:
        """Write all the images; batches are taken as the writing gets on, a few of them ahead."""


def check_pictures_out(out: Path) -> bool:
    """Whether images written to `out` become one array. Raises OptionError if its name is that of a code file."""
    if out.suffix in (".aek", ".jsonl"):
        raise OptionError(f"--out {out}", expected="a folder, or a name that ends in .npy", found="a code file's name")
    return out.suffix == ".npy"


@contextlib.contextmanager
def staged_pictures(
    out: Path,
    geometry: Geometry,
    *,
    expected: int,
    command: str,
    model_id: str,
    original_size: bool = False,
    journal: Journal,
    workers: int | None = None,
    overwrite: bool = False,
) -> Iterator[PictureWriter]:
    """Yield the writer of `out`: one array if its name ends in .npy, else a folder of PNG files, which says which
    command and model made it.

    The output takes its name when the block ends; on any error nothing is left behind. `original_size` scales each
    PNG to the size in its record. `workers` processes write PNG files, none if it is 0; if it is None, as many as there
    are cores, provided that the `expected` number of images is worth it.

    Raises OutputError if the output is in the way.
    """
    if out.suffix == ".npy":
        check_free(out, overwrite=overwrite)
        with staged_file(out, journal) as part:
            with open_part(part, journal) as file:
                yield _ArrayWriter(file, geometry, journal)
            journal.finish(out)
        return
    with staged_folder(out, MARKER, overwrite=overwrite, journal=journal) as folder:
        if workers is None:
            workers = cores() if worth(expected * (_FILE_COST + geometry.pixels * _PIXEL_COST)) else 0
        plan = Plan("processes", workers) if workers else HERE
        with pool(partial(write_files, folder, original_size), plan, _name) as writers:
            files = _FolderWriter(folder, writers, max(_PIECE_BYTES // geometry.pixels, 1), journal)
            yield files
        facts = {"made_by": f"aekit {__version__} {command}", "model_id": model_id, "images": files.count}
        (folder / MARKER).write_text(json.dumps(facts) + "\n", encoding="utf-8")


class _ArrayWriter(PictureWriter):
    """An .npy file that grows by a batch at a time."""

    def __init__(self, file: BinaryIO, geometry: Geometry, journal: Journal) -> None:
        super().__init__(journal)
        self._file, self._geometry = file, geometry
        self._begin = self._write_header()

    def restore(self, paths: Iterable[str]) -> None:
        kept, end = 0, self._begin
        for mark in self._journal.marks:
            stop = self._begin + mark["images"] * self._geometry.pixels
            if crc_of_range(self._file, end, stop, self._crc) != mark["crc"]:
                break
            kept, end, self.count, self._crc = kept + 1, stop, mark["images"], mark["crc"]
        self._file.truncate(end)
        self._file.seek(end)
        self._journal.rewind(kept)

    def write(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            data = np.ascontiguousarray(batch.images).data.cast("B") if batch.images.size else b""
            self._crc = zlib.crc32(data, self._crc)
            self._file.write(data)
            self._file.flush()
            if self._journal.due():
                os.fsync(self._file.fileno())
            self.count += len(batch.images)
            self._mark(batch.mark)
        self._write_header()

    def _write_header(self) -> int:
        """Returns where the images begin."""
        self._file.seek(0)
        self._file.write(images_header((self.count, *self._geometry.shape)))  # of one size, whatever the count
        begin = self._file.tell()
        self.bytes = self._file.seek(0, os.SEEK_END)
        return begin


class _FolderWriter(PictureWriter):
    """PNG files below a folder, written piece by piece. A mark sums up the CRC-32 of each file."""

    def __init__(self, folder: Path, writers: Pool, piece: int, journal: Journal) -> None:
        super().__init__(journal)
        self._folder, self._writers, self._piece = folder, writers, piece
        self._open = deque[tuple[int, int, Mark]]()
        """Of batches that are not wholly written: pieces, images, and their mark."""

    def restore(self, paths: Iterable[str]) -> None:
        kept, names = 0, iter(paths)
        for mark in self._journal.marks:
            crc, size = self._crc, 0
            try:
                for path in islice(names, mark["images"] - self.count):
                    data = (self._folder / path).read_bytes()
                    crc, size = zlib.crc32(_packed_crc(data), crc), size + len(data)
            except OSError:
                break
            if crc != mark["crc"]:
                break
            kept, self.count, self._crc, self.bytes = kept + 1, mark["images"], crc, self.bytes + size
        self._journal.rewind(kept)

    def write(self, batches: Iterable[Batch]) -> None:
        done = 0
        for written, crcs in self._writers.map(self._pieces(batches)):
            self.bytes += written
            self._crc = zlib.crc32(crcs, self._crc)
            done += 1
            while self._open and self._open[0][0] <= done:
                pieces, images, mark = self._open.popleft()
                done, self.count = done - pieces, self.count + images
                self._mark(mark)
        for _, images, mark in self._open:  # batches without an image, at the end
            self.count += images
            self._mark(mark)

    def _pieces(self, batches: Iterable[Batch]) -> Iterator[Piece]:
        for batch in batches:
            images, records = batch.images, batch.records
            self._open.append((-(-len(images) // self._piece), len(images), batch.mark))
            for start in range(0, len(images), self._piece):
                yield images[start : start + self._piece], records[start : start + self._piece]


def write_files(folder: Path, original_size: bool, piece: Piece) -> tuple[int, bytes]:
    """Write PNG files below `folder`; returns their size in bytes and the CRC-32 of each, packed. The unit of work, a
    plain function of its arguments.

    `original_size` scales each image to the size in its record.
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


def numbered(count: int) -> list[str]:
    """Names for images that have none: 000000.png and so on."""
    digits = max(6, len(str(count - 1)))
    return [f"{row:0{digits}d}.png" for row in range(count)]


def png_paths(paths: Sequence[str]) -> list[str]:
    """Where the images of `paths` are written: each with .png for its suffix.

    An image keeps its suffix, a.jpg.png, where the plain name is wanted by another image (a.jpg beside a.png), might be
    the kept name of one (a.jpg.webp beside a.jpg), or is a folder's (a.jpg beside a.png/b.jpg). Different paths
    therefore never give one name.
    """
    # Names are compared folded, because some file systems take A.png and a.png for one file.
    stems = Counter(_stem(path) for path in paths)
    inputs = {path.casefold() for path in paths}
    parents = map(PurePosixPath, {path.rpartition("/")[0].casefold() for path in paths})
    folders = {str(folder) for parent in parents for folder in (parent, *parent.parents)}

    def target(path: str) -> str:
        stem = _stem(path)
        plain = stems[stem] == 1 and stem not in inputs and f"{stem}.png" not in folders
        return (posixpath.splitext(path)[0] if plain else path) + ".png"

    return [target(path) for path in paths]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0].casefold()
