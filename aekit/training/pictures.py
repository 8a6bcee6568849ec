"""Training pictures of any sizes: a source read as a list of uint8 pictures in memory, and a part of it held out."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from aekit.errors import ImageError, SourceError
from aekit.images.arrays import read_rows
from aekit.images.decode import Pixels, fit_picture, picture_for_grid
from aekit.images.held_out import hold_out
from aekit.images.named_sets import load_named_set
from aekit.images.records import Record
from aekit.images.sources import ArraySource, FolderSource, Source
from aekit.spec import GridGeometry
from aekit.training.data import check_groups, split_in_words
from aekit.workers import cores

_AHEAD = 64
"""Files that are decoded together, in threads."""


@dataclass(frozen=True)
class PictureData:
    """Pictures to learn from and pictures to validate on, each of its own size."""

    kind: str
    """A named set's name, `folder` or `array`."""
    geometry: GridGeometry
    train: list[Pixels]
    """Each uint8 [H, W, channels]."""
    validation: list[Pixels]
    """Each uint8 [H, W, channels]; never trained on."""
    split: str
    """How the held-out pictures were chosen, in words."""
    group_by: str
    """The regular expression that grouped the pictures; empty if none did."""
    fingerprint: str
    """SHA-256 over the source's decoded pictures, or the name of a named set. Evaluation recognises the source by it.
    """
    skipped: tuple[Record, ...] = ()
    """Files that could not be read, with the reason."""

    def facts(self) -> dict[str, Any]:
        """Return the facts that a model keeps of its training data: counts, split, fingerprint; no pixels, no paths."""
        counts = {"train_images": len(self.train), "validation_images": len(self.validation)}
        split = {"split": self.split, "group_by": self.group_by, "fingerprint": self.fingerprint}
        return {"data": self.kind, **counts, **split}


def load_pictures(source: Source, geometry: GridGeometry, group_by: str = "") -> PictureData:
    """Read a source, opened for its training split, and hold a part of it out.

    Args:
        source: a folder, an array or a named set.
        geometry: channels of the pictures, and the longest side to shrink them to.
        group_by: regular expression on paths; pictures with the same match are held out together.

    Raises:
        SourceError: the source has too few pictures, all its pictures are the same, or they take over half of the
            machine's memory.
        OptionError: `group_by` is malformed or can't apply to this source.
    """
    check_groups(source, group_by)
    if isinstance(source, ArraySource) and source.is_named_set:
        other = ArraySource(source.name, load_named_set(source.name, "validation"))
        train, validation = (read_pictures(part, geometry)[0] for part in (source, other))
        return PictureData(source.name, geometry, train, validation, f"{source.name}'s own", "", source.name)
    pictures, names, skipped = read_pictures(source, geometry)
    if len(pictures) < 2:
        raise SourceError(source.name, expected="at least 2 readable images", found=str(len(pictures)))
    if all(np.array_equal(picture, pictures[0]) for picture in pictures):
        what = "of one constant colour" if (pictures[0] == pictures[0][0, 0]).all() else "the same"
        raise SourceError(source.name, expected="images that differ", found=f"{len(pictures):,} that are all {what}")
    held_out = hold_out(names, group_by)
    train = [picture for picture, is_held in zip(pictures, held_out, strict=True) if not is_held]
    validation = [picture for picture, is_held in zip(pictures, held_out, strict=True) if is_held]
    split, digest = split_in_words(held_out, group_by), fingerprint(pictures, names)
    kind = "array" if source.paths is None else "folder"
    return PictureData(kind, geometry, train, validation, split, group_by, digest, tuple(skipped))


def read_pictures(source: Source, geometry: GridGeometry) -> tuple[list[Pixels], list[str], list[Record]]:
    """Read every readable picture of a source, the names they are split by, and the records of those that failed.

    Raises SourceError if they take over half of the machine's memory.
    """
    pictures, names, skipped = list[Pixels](), list[str](), list[Record]()
    size, most = 0, _half_of_memory()
    for name, read in _pictures(source, geometry):
        if isinstance(read, ImageError):
            skipped.append(Record(name, error=read.problem))
            continue
        pictures.append(read)
        names.append(name)
        size += read.nbytes
        if size > most:
            raise SourceError(
                source.name,
                expected=f"pictures of at most {most / 1e9:.1f} GB, half of this machine's memory",
                found=f"more in the first {len(names):,} of {len(source):,}",
                fix="give fewer pictures, or shrink them with --max-side",
            )
    return pictures, names, skipped


def _pictures(source: Source, geometry: GridGeometry) -> Iterator[tuple[str, Pixels | ImageError]]:
    """Yield the name of each image of a source, with its pixels or the reason why it can't be read."""
    if isinstance(source, ArraySource):
        for row in range(len(source)):
            image = read_rows(source.array, row, row + 1, source.name)[0]
            height, width, channels = image.shape
            fitted = geometry.fitted(height, width)
            if channels != geometry.channels or fitted != (height, width):
                opened = Image.fromarray(image if channels == 3 else image[:, :, 0])
                image = fit_picture(opened, geometry, fitted)
            yield str(row), image
        return
    assert isinstance(source, FolderSource)
    decode = partial(_decoded, f"{source.root}/", geometry)
    with ThreadPoolExecutor(min(cores(), _AHEAD)) as pool:
        for start in range(0, len(source), _AHEAD):
            paths = source.paths[start : start + _AHEAD]
            yield from zip(paths, pool.map(decode, paths), strict=True)


def _decoded(folder: str, geometry: GridGeometry, path: str) -> Pixels | ImageError:
    try:
        return picture_for_grid(folder + path, geometry)[0]
    except ImageError as error:
        return error


def fingerprint(pictures: Sequence[Pixels], names: Sequence[str]) -> str:
    """SHA-256 of decoded pictures, each [H, W, C], and the names they are split by."""
    shapes = repr([picture.shape for picture in pictures])
    digest = hashlib.sha256("\0".join([shapes, *names]).encode("utf-8", "surrogateescape"))
    for picture in pictures:
        digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _half_of_memory() -> int:
    """Return half of the machine's memory in bytes, or a vast number where the system does not tell."""
    if not hasattr(os, "sysconf"):
        return 2**62
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
