"""Where images come from: image files, an .npy or .npz array, an idx file or a named set, read block by block.

A source knows the number of its images and, for files, their paths. `read` turns a range of them into an ImageBlock:
the rows that could be decoded, and a Record for every input. So one bad file costs one line of the report.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from aekit.errors import ImageError, SourceError
from aekit.images.arrays import load_images, read_idx, read_rows
from aekit.images.decode import Pixels, PngStack, decode_read, fit_array, fit_pictures, picture_for_grid
from aekit.images.formats import SUFFIXES
from aekit.images.gathering import gather, is_collective
from aekit.images.named_sets import NAMES, load_named_set
from aekit.images.opening import MAX_PIXELS, native_form
from aekit.images.paths import FILE, FOLDER, NOTHING, find_images, kind_of
from aekit.images.png import read_packed
from aekit.images.records import ImageBlock, Record
from aekit.images.shelf import PictureShelf, RowShelf
from aekit.spec import Geometry, GridGeometry

_FIXES = {".aek": "`aekit reconstruct` decodes an archive", ".tar": "unpack it first", ".zip": "unpack it first"}
"""What to do with files that are taken for sources of images."""

_BLOCK, _GRID_BLOCK = 1024, 16
"""Images read at a time where a whole source is read: of one size, and of any size. They bound the memory beside the
result."""


class Source(Protocol):
    """What a job or the trainer reads images from."""

    @property
    def name(self) -> str:
        """The path, or the set's name, as it was given. Messages and reports show it."""
        ...

    @property
    def paths(self) -> tuple[str, ...] | None:
        """The images' paths, sorted, or None for arrays."""
        ...

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int, geometry: Geometry | GridGeometry) -> ImageBlock:
        """Return images start to stop - 1, brought to the geometry."""
        ...

    def native_geometry(self) -> tuple[set[tuple[int, int]], tuple[int, int]]:
        """Return the images' own sizes, a set of (height, width), and how many images are in colour and in gray."""
        ...


@dataclass(frozen=True)
class FileTree:
    """Files below a folder, all or some, in the order of their sorted paths."""

    root: Path
    """The folder that the paths are relative to."""
    paths: tuple[str, ...]
    """Paths of the files relative to the root, with forward slashes."""
    searched: tuple[Path, ...] = ()
    """Folders that were searched for files. Files that are named one by one need no search."""
    given: str = ""
    """Name of the source in messages, if it is not the folder."""

    @property
    def name(self) -> str:
        """Name of the source in messages."""
        return self.given or str(self.root)

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class FolderSource(FileTree):
    """Image files below a folder."""

    def read(self, start: int, stop: int, geometry: Geometry | GridGeometry) -> ImageBlock:
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
    """Whether the images are one split of a named set, which has other splits too."""
    paths: None = None

    def __len__(self) -> int:
        return len(self.array)

    def read(self, start: int, stop: int, geometry: Geometry | GridGeometry) -> ImageBlock:
        images = read_rows(self.array, start, stop, self.name)
        if isinstance(geometry, GridGeometry):
            return ImageBlock(fit_pictures(images, geometry))
        return ImageBlock(fit_array(images, geometry))

    def native_geometry(self) -> tuple[set[tuple[int, int]], tuple[int, int]]:
        count, *size, channels = self.array.shape
        return {(size[0], size[1])}, (0, count) if channels == 1 else (count, 0)


def read_files(root: Path, paths: tuple[str, ...], geometry: Geometry | GridGeometry) -> ImageBlock:
    """Decode files to a block. It is a plain function of its arguments, so a worker can run it."""
    if isinstance(geometry, GridGeometry):
        return _read_pictures(root, paths, geometry)
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


def _read_pictures(root: Path, paths: tuple[str, ...], geometry: GridGeometry) -> ImageBlock:
    pictures, records = list[Pixels](), list[Record]()
    for path in paths:
        try:
            picture, (width, height) = picture_for_grid(f"{root}/{path}", geometry)
        except ImageError as error:
            records.append(Record(path, error=error.problem))
        else:
            pictures.append(picture)
            records.append(Record(path, width, height))
    return ImageBlock(pictures, tuple(records))


def open_source(given: str | Sequence[str], split: str = "test") -> Source:
    """Open the source that a user names: a named set; an .npy, .npz or idx file; or image files. These are named by one
    or more texts: files, folders, patterns or list files (see aekit.images.gathering).

    `split` picks the part of a named set: `train`, `validation` or `test`. Other sources have no parts and give
    everything.

    Raises SourceError for anything else.
    """
    texts = (given,) if isinstance(given, str) else tuple(given)
    if len(texts) != 1 or is_collective(texts[0]):
        images = gather(texts)
        return FolderSource(images.root, images.paths, images.searched, in_words(texts))
    (text,) = texts
    path = Path(text)
    kind = kind_of(path)
    if text in NAMES and kind == NOTHING:
        return ArraySource(text, load_named_set(text, split), is_named_set=True)
    if kind == FOLDER:
        return FolderSource(path, tuple(find_images(path)), (path,))
    if kind != FILE:
        expected = f"a folder, image files, an .npy, .npz or idx file, or one of {', '.join(NAMES)}"
        raise SourceError(text[:300], expected=expected, found=kind)
    if path.suffix.lower() in SUFFIXES:
        return FolderSource(path.parent, (path.name,))
    if path.suffix in (".npy", ".npz"):
        return ArraySource(text, load_images(path))
    if path.suffix in _FIXES:
        expected, found = "a folder, an .npy, .npz or idx file, or an image", f"a {path.suffix} file"
        raise SourceError(text, expected=expected, found=found, fix=_FIXES[path.suffix])
    return ArraySource(text, read_idx(path))


def in_words(given: str | Sequence[str]) -> str:
    """Return what a user named as a source, for messages: the first text, and how many more there are."""
    texts = (given,) if isinstance(given, str) else given
    return f"{texts[0]} and {len(texts) - 1:,} more" if len(texts) > 1 else "".join(texts)


@overload
def read_all(source: Source, geometry: Geometry) -> tuple[Pixels, list[str], list[Record]]: ...
@overload
def read_all(source: Source, geometry: GridGeometry) -> tuple[list[Pixels], list[str], list[Record]]: ...
def read_all(
    source: Source, geometry: Geometry | GridGeometry
) -> tuple[Pixels | list[Pixels], list[str], list[Record]]:
    """Read a whole source.

    Returns every readable image, uint8 [n, H, W, C] or, for a model of grid codes, a list of n pictures uint8
    [H, W, C]; the names that images are split by; and the records of the images that could not be read.
    Images beyond half of the system's memory lie in temporary files, which are mapped.
    """
    shelf = PictureShelf() if isinstance(geometry, GridGeometry) else RowShelf(len(source), geometry.shape)
    names, skipped = list[str](), list[Record]()
    step = _GRID_BLOCK if isinstance(geometry, GridGeometry) else _BLOCK
    for start in range(0, len(source), step):
        block = source.read(start, start + step, geometry)
        shelf.keep(block.images)
        skipped += [record for record in block.records if record.error]
        if source.paths is None:
            names += map(str, range(start, start + len(block.images)))
        else:
            names += [record.path for record in block.records if not record.error]
    return shelf.images(), names, skipped


def fingerprint(images: Pixels | list[Pixels], names: list[str]) -> str:
    """Return the SHA-256 of decoded images [n, H, W, C], or a list of [H, W, C], and the names they are split by.

    It identifies a set and its split.
    """
    shapes = repr(images.shape if isinstance(images, np.ndarray) else [image.shape for image in images])
    digest = hashlib.sha256("\0".join([shapes, *names]).encode("utf-8", "surrogateescape"))
    for part in [images] if isinstance(images, np.ndarray) else images:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
