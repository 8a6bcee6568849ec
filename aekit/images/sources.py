"""Where images come from: a folder, an .npy or .npz array, an idx file or a named set, read block by block.

A source knows its images' number and, for folders, their paths. `read` turns a range of them into an ImageBlock:
the rows that could be decoded, and a Record for every input. So one bad file costs one line of the report.
"""

import hashlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from aekit.errors import ImageError, SourceError
from aekit.images.arrays import load_images, read_idx, read_rows
from aekit.images.decode import Pixels, PngStack, decode_read, fit_array
from aekit.images.formats import SUFFIXES
from aekit.images.named_sets import NAMES, load_named_set
from aekit.images.opening import MAX_PIXELS, native_form
from aekit.images.paths import FILE, FOLDER, NOTHING, find_images, kind_of
from aekit.images.png import read_packed
from aekit.images.records import ImageBlock, Record
from aekit.spec import Geometry

_FIXES = {".aek": "`aekit reconstruct` decodes an archive", ".tar": "unpack it first", ".zip": "unpack it first"}
"""What to do with files that are taken for sources of images."""

_BLOCK = 1024
"""Images read at a time where a whole source is read; bounds memory beside the result."""


class Source(Protocol):
    """What a job or the trainer reads images from."""

    @property
    def name(self) -> str:
        """For messages and reports: the path or the set's name as it was given."""
        ...

    @property
    def paths(self) -> tuple[str, ...] | None:
        """The images' paths, sorted, or None for arrays."""
        ...

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int, geometry: Geometry) -> ImageBlock:
        """Images start to stop - 1, brought to the geometry."""
        ...

    def native_geometry(self) -> tuple[set[tuple[int, int]], tuple[int, int]]:
        """The images' own sizes, as a set of (height, width), and how many are in colour and how many gray."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """The image files below a folder, in the order of their sorted paths."""

    root: Path
    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.root)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, start: int, stop: int, geometry: Geometry) -> ImageBlock:
        return read_files(self.root, self.paths[start:stop], geometry)

    def native_geometry(self) -> tuple[set[tuple[int, int]], tuple[int, int]]:
        sizes: set[tuple[int, int]] = set()
        kinds = [0, 0]
        for path in self.paths:
            try:
                (width, height), plain = native_form(self.root / path)
            except ImageError:
                continue  # it is reported when it is read
            sizes.add((height, width))
            kinds[plain] += 1
        return sizes, (kinds[0], kinds[1])


@dataclass(frozen=True)
class ArraySource:
    """Images in one array, uint8 [n, height, width, channels], in memory or mapped."""

    name: str
    array: Pixels
    is_named_set: bool = False
    """Whether it is a split of a named set, which brings splits of its own."""
    paths: None = None

    def __len__(self) -> int:
        return len(self.array)

    def read(self, start: int, stop: int, geometry: Geometry) -> ImageBlock:
        return ImageBlock(fit_array(read_rows(self.array, start, stop, self.name), geometry))

    def native_geometry(self) -> tuple[set[tuple[int, int]], tuple[int, int]]:
        count, *size, channels = self.array.shape
        return {(size[0], size[1])}, (0, count) if channels == 1 else (count, 0)


def read_files(root: Path, paths: tuple[str, ...], geometry: Geometry) -> ImageBlock:
    """Decode files to a block: the unit of work of a batch job, a plain function of its arguments."""
    images = np.empty((len(paths), *geometry.shape), np.uint8)
    records = []
    rows, folder = 0, f"{root}/"
    stacked = PngStack(geometry, images)
    for path in paths:
        packed = read_packed(folder + path, MAX_PIXELS)
        if packed and stacked.take(packed, rows):
            records.append(Record(path, geometry.width, geometry.height))
            rows += 1
            continue
        try:
            images[rows], (width, height) = decode_read(folder + path, geometry, packed)
        except ImageError as error:
            records.append(Record(path, error=error.problem))
        else:
            records.append(Record(path, width, height))
            rows += 1
    stacked.empty()
    return ImageBlock(images[:rows], tuple(records))


def open_source(text: str, split: str = "test") -> Source:
    """A source from what a user writes: a named set, a folder, one image, an .npy, .npz or idx file.

    `split` picks the part of a named set: `train`, `validation` or `test`; other sources have no parts and give
    everything.

    Raises SourceError for what is none of these.
    """
    path = Path(text)
    kind = kind_of(path)
    if text in NAMES and kind == NOTHING:
        return ArraySource(text, load_named_set(text, split), is_named_set=True)
    if kind == FOLDER:
        return FolderSource(path, tuple(find_images(path)))
    if kind != FILE:
        expected = f"a folder, an .npy, .npz or idx file, or one of {', '.join(NAMES)}"
        raise SourceError(text[:300], expected=expected, found=kind)
    if path.suffix.lower() in SUFFIXES:
        return FolderSource(path.parent, (path.name,))
    if path.suffix in (".npy", ".npz"):
        return ArraySource(text, load_images(path))
    if path.suffix in _FIXES:
        expected, found = "a folder, an .npy, .npz or idx file, or an image", f"a {path.suffix} file"
        raise SourceError(text, expected=expected, found=found, fix=_FIXES[path.suffix])
    return ArraySource(text, read_idx(path))


def read_all(source: Source, geometry: Geometry) -> tuple[Pixels, list[str], list[Record]]:
    """Every readable image, uint8 [n, H, W, C], the names they are split by, and the records of those that failed."""
    images = _room((len(source), *geometry.shape))
    names: list[str] = []
    skipped: list[Record] = []
    for start in range(0, len(source), _BLOCK):
        block = source.read(start, start + _BLOCK, geometry)
        images[len(names) : len(names) + len(block.images)] = block.images
        skipped += [record for record in block.records if record.error]
        if source.paths is None:
            names += map(str, range(start, start + len(block.images)))
        else:
            names += [record.path for record in block.records if not record.error]
    return images[: len(names)], names, skipped


def _room(shape: tuple[int, ...]) -> Pixels:
    """An array to fill: in memory if it takes less than half of it, else in a temporary file that is mapped."""
    size = math.prod(shape)
    if not hasattr(os, "sysconf") or size < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2:
        return np.empty(shape, np.uint8)
    import tempfile

    with tempfile.TemporaryFile() as file:  # the map keeps it, without a name, for as long as it is used
        return np.memmap(file, np.uint8, "w+", shape=shape)


def state_of(source: Source) -> str:
    """What a source holds now: its number of images, and a hash over the path, size and time of change of each file,
    or over the content of an array that is in none."""
    digest = hashlib.sha256()
    if isinstance(source, FolderSource):
        for path in source.paths:
            digest.update(f"{path}\0{_stamp(f'{source.root}/{path}')}\0".encode("utf-8", "surrogateescape"))
    elif isinstance(source, ArraySource) and not Path(source.name).is_file():
        digest.update(np.ascontiguousarray(source.array).data)
    else:
        digest.update(_stamp(source.name).encode())
    return f"{len(source):,} images of the state {digest.hexdigest()[:16]}"


def state_of_files(*paths: Path) -> str:
    """A hash over the size and time of change of files; of one that is missing, that it is."""
    return hashlib.sha256(" ".join(_stamp(str(path)) for path in paths).encode()).hexdigest()[:16]


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "none"
    return f"{found.st_size} {found.st_mtime_ns}"


def fingerprint(images: Pixels, names: list[str]) -> str:
    """SHA-256 of decoded images [n, H, W, C] and the names they are split by: by it a set, and its split, is known."""
    digest = hashlib.sha256("\0".join([repr(images.shape), *names]).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()
