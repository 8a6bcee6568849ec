"""Write images out, whole or not at all: to PNG files in a folder tree, or to one .npy array.

images uint8 [k, H, W, C], records ── staged_pictures(out) ──▶ out/a/000.png …, out/aekit.json
                                                          └──▶ out.npy [n, H, W, C]
"""

import contextlib
import json
import posixpath
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from aekit._version import __version__
from aekit.images import Pixels
from aekit.outputs import check_free, staged_file, staged_folder
from aekit.sources import Record
from aekit.spec import Geometry

MARKER = "aekit.json"
"""Lies in a folder of pictures and says where they come from; only such a folder is ever replaced."""


class PictureWriter(ABC):
    """Takes images, batch by batch."""

    count = 0
    """Images written."""
    bytes = 0
    """Size of what was written; of an array, known once `finish` was called."""

    @abstractmethod
    def add(self, images: Pixels, records: Sequence[Record]) -> None:
        """Append images uint8 [k, H, W, C]; where they become files, `records` has the path and size of each."""

    def finish(self) -> None:  # noqa: B027 -- most have nothing left to do
        """Complete what can be known only at the end."""


@contextlib.contextmanager
def staged_pictures(
    out: Path, geometry: Geometry, *, command: str, model_id: str, original_size: bool = False, overwrite: bool = False
) -> Iterator[PictureWriter]:
    """Yield the writer of `out`: one array if its name ends in .npy, else a folder of PNG files, which says which
    command and model made it.

    The output takes its name when the block ends; on any error nothing is left behind. `original_size` scales each
    PNG to the size in its record. Raises OutputError if the output is in the way.
    """
    if out.suffix == ".npy":
        check_free(out, overwrite=overwrite)
        with staged_file(out) as part, part.open("wb") as file:
            array = _ArrayWriter(file, geometry)
            yield array
            array.finish()
        return
    with staged_folder(out, MARKER, overwrite=overwrite) as folder:
        files = _FolderWriter(folder, original_size)
        yield files
        facts = {"made_by": f"aekit {__version__} {command}", "model_id": model_id, "images": files.count}
        (folder / MARKER).write_text(json.dumps(facts) + "\n", encoding="utf-8")


class _ArrayWriter(PictureWriter):
    """An .npy file that grows by a batch at a time."""

    def __init__(self, file: BinaryIO, geometry: Geometry) -> None:
        self._file, self._geometry = file, geometry
        self._write_header()

    def add(self, images: Pixels, records: Sequence[Record]) -> None:
        self._file.write(np.ascontiguousarray(images).data if images.size else b"")
        self.count += len(images)

    def finish(self) -> None:
        self._write_header()

    def _write_header(self) -> None:
        self._file.seek(0)
        # numpy pads this header for its first dimension to grow, so rewriting it moves nothing.
        shape = (self.count, *self._geometry.shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
        self.bytes = self._file.seek(0, 2)


class _FolderWriter(PictureWriter):
    """PNG files below a folder."""

    def __init__(self, folder: Path, original_size: bool) -> None:
        self._folder, self._original_size = folder, original_size

    def add(self, images: Pixels, records: Sequence[Record]) -> None:
        for image, record in zip(images, records, strict=True):
            target = self._folder / record.path
            target.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
            if self._original_size:
                picture = picture.resize((record.width, record.height), Image.Resampling.BICUBIC)
            picture.save(target, "PNG")
            self.bytes += target.stat().st_size
            self.count += 1


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
    parents = {PurePosixPath(path.rpartition("/")[0].casefold()) for path in paths}
    folders = {str(folder) for parent in parents for folder in (parent, *parent.parents)}

    def target(path: str) -> str:
        stem = _stem(path)
        plain = stems[stem] == 1 and stem not in inputs and f"{stem}.png" not in folders
        return (posixpath.splitext(path)[0] if plain else path) + ".png"

    return [target(path) for path in paths]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0].casefold()
