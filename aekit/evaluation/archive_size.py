"""How many bytes an archive of codes takes: real files, written and thrown away."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aekit.codes.archive import ArchiveWriter
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.codec import Codes
from aekit.model.grids import GridCodes

Stored = Codes | GridCodes
"""Codes of images: uint8 [n, code_dim], or a GridCodes."""


@dataclass(frozen=True)
class ArchiveSize:
    """Bytes of an archive."""

    images: int
    file: int
    """Bytes of the whole file, without names of images."""
    header: int
    """Bytes of an archive of no images: what every file pays once, however many images are in it."""
    with_names: int | None
    """Bytes of the whole file with the images' paths and sizes; None if the images have no paths."""

    @property
    def bytes_per_image(self) -> float:
        """Bytes of the file without names, divided by the images."""
        return self.file / self.images


def has_tables(bundle: Bundle) -> bool:
    """Return whether the model can write archives. Models of old versions can't."""
    return "tables" in bundle.manifest


def archive_size(bundle: Bundle, codes: Stored, records: Sequence[Record] = ()) -> ArchiveSize:
    """Measure the archive of codes, at least one. `records` has a record for each, or is empty.

    Raises BundleError if the model has no frequency tables, OutputError if no temporary file can be written.
    """
    with_names = _written(bundle, codes, records) if records else None
    return ArchiveSize(len(codes), _written(bundle, codes), _written(bundle, None), with_names)


def added_bytes(bundle: Bundle, codes: Stored) -> tuple[float, float]:
    """Return the bytes that each of these codes adds to an archive, and the bytes that do not grow with their number.

    The first is the difference between an archive that holds the codes twice and one that holds them once, divided by
    their number. The second is the rest: the archive's header and its block's.
    """
    twice = codes + codes if isinstance(codes, GridCodes) else np.concatenate([codes, codes])
    once = _written(bundle, codes)
    added = (_written(bundle, twice) - once) / len(codes)
    return added, once - added * len(codes)


def _written(bundle: Bundle, codes: Stored | None, records: Sequence[Record] = ()) -> int:
    with tempfile.TemporaryFile() as file:
        writer = ArchiveWriter(file, bundle, named=bool(records))
        if codes is not None:
            writer.add(codes, records)
        writer.finish()
        return file.tell()
