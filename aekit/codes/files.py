"""Code files of any format: what a job needs of a file that it reads, and of a writer."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from aekit.codes.formats import format_of, names, suffixes
from aekit.errors import CodesError, OptionError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.codec import Codes
from aekit.model.grids import GridCodes
from aekit.outputs.marks import Written


class CodesWriter(Protocol):
    """Takes codes and the records of their inputs, batch by batch, in order.

    A writer for a model of grid codes takes GridCodes, one for a model of vector codes takes arrays.
    """

    @property
    def count(self) -> int:
        """Codes that the file holds."""
        ...

    @property
    def count_before(self) -> int:
        """Codes that the file held before this job."""
        ...

    @property
    def present_paths(self) -> frozenset[str]:
        """Paths of the images that the file held before this job."""
        ...

    def add(self, codes: Codes | GridCodes, records: Sequence[Record]) -> None:
        """Append codes [k, code_dim], or k grid codes, and the records of their inputs, failed ones included.

        `records` is empty where images have no paths. Raises ShapeError if the codes do not fit the model or the
        records; CodesError if the format can't store the code of a picture of this size.
        """
        ...

    def written(self, inputs: int, *, sync: bool) -> Written:
        """Hand what was added to the system, and bring it to the disk if `sync`; return how far the file goes.

        `inputs` is how many inputs the job has done.
        """
        ...


class StoredCodes(Protocol):
    """Codes in a file, opened for reading."""

    @property
    def path(self) -> Path: ...

    @property
    def named(self) -> bool:
        """Whether the images have paths."""
        ...

    @property
    def loss(self) -> object | None:
        """What a damaged file has lost, to print for the user; None if it is whole."""
        ...

    def __len__(self) -> int: ...

    def check_model(self, bundle: Bundle) -> None:
        """Raise ModelMismatch or CodesError unless `bundle` can decode these codes."""
        ...

    def records(self) -> Iterator[Record]:
        """Yield the records of the images that have a code, in order; nothing where images have no paths."""
        ...

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Codes | GridCodes]:
        """Yield all codes in order, or those of the ascending `rows`, as [at most `size`, code_dim].

        Codes of a model of grid codes come as GridCodes of at most `size` pictures, fewer where they are large. Call
        `check_model` first.
        """
        ...


@contextlib.contextmanager
def open_codes(path: Path, *, index: bool = True, salvage: bool = False) -> Iterator[StoredCodes]:
    """Yield the code file at `path`.

    `index` says whether the codes are read with their index. With `salvage` a damaged file gives what is whole.

    Raises CodesError if the file is missing, damaged or no code file, OptionError for an option that its format does
    not have.
    """
    kind = format_of(path)
    if kind is None:
        found = "a folder" if path.is_dir() else "a file of another kind" if path.exists() else "nothing there"
        raise CodesError(str(path), expected=f"a code file, {names()}", found=found)
    if not index and not kind.index_is_optional:
        raise OptionError("--no-index", expected=f"codes stored as {suffixes('index_is_optional')}", found=str(path))
    if salvage and not kind.salvages:
        raise OptionError("--salvage", expected=f"codes stored as {suffixes('salvages')}", found=str(path))
    with kind.module.open_stored(path, index=index, salvage=salvage) as stored:
        yield stored
