"""Code files of either kind, told apart by their names: codes.npy with its index, and the archive codes.aek."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from aekit.codes.npy import CodeFile, CodeWriter, index_path
from aekit.errors import OptionError
from aekit.images.records import Record
from aekit.model.bundle import Bundle
from aekit.model.codec import DTYPES, Codes
from aekit.outputs.journal import Journal, Mark
from aekit.outputs.staging import open_part, staged_file

ARCHIVE = ".aek"


class CodesWriter(Protocol):
    """Takes codes and the records of their inputs, batch by batch, in order."""

    @property
    def count(self) -> int:
        """Codes that the file holds."""
        ...

    @property
    def dtype(self) -> str:
        """What they are kept as."""
        ...

    @property
    def present(self) -> frozenset[str]:
        """Paths of the images that the file held before this job."""
        ...

    @property
    def held(self) -> int:
        """Codes that the file held before this job."""
        ...

    def add(self, codes: Codes, records: Sequence[Record]) -> None:
        """Append codes [k, code_dim] and the records of the inputs they came from, failed ones included."""
        ...

    def mark(self, *, sync: bool) -> Mark:
        """Hand what was added to the system, with `sync` to the disk; returns what the journal is to remember of it."""
        ...


class StoredCodes(Protocol):
    """What a code file gives to whoever decodes it."""

    @property
    def path(self) -> Path: ...

    @property
    def named(self) -> bool:
        """Whether the images have paths."""
        ...

    def __len__(self) -> int: ...

    def check_model(self, bundle: Bundle) -> None:
        """Raise ModelMismatch or CodesError unless `bundle` can decode these codes."""
        ...

    def records(self) -> Iterator[Record]:
        """The records of the images that have a code, in order; nothing where images have no paths."""
        ...

    def batches(self, size: int, rows: Sequence[int] | None = None) -> Iterator[Codes]:
        """The codes in order, [at most `size`, code_dim] at a time; with `rows`, ascending, those alone."""
        ...


def check_codes_out(out: Path, dtype: str | None, *, append: bool, overwrite: bool) -> str:
    """What codes written to `out` are kept as. Raises OptionError if it can't be written so."""
    if out.suffix not in (".npy", ARCHIVE):
        raise OptionError(f"--out {out}", expected="a name that ends in .npy or .aek")
    if dtype is not None and dtype not in DTYPES:
        raise OptionError("--dtype", expected=" or ".join(DTYPES), found=repr(dtype))
    if append and (out.suffix != ARCHIVE or overwrite):
        raise OptionError("--append", expected="an --out that ends in .aek, and no --overwrite", found=str(out))
    if out.suffix == ARCHIVE:
        if dtype not in (None, "uint8"):
            raise OptionError("--dtype", expected="uint8, as all archives are", found=dtype or "")
        return "uint8"
    return dtype or "float32"


def codes_files(out: Path) -> tuple[Path, ...]:
    """The files that codes written to `out` take."""
    return (out,) if out.suffix == ARCHIVE else (out, index_path(out))


@contextlib.contextmanager
def staged_codes(
    out: Path, bundle: Bundle, dtype: str, journal: Journal, *, named: bool, append: bool
) -> Iterator[CodesWriter]:
    """Yield the writer of `out`, which takes its name when the block ends; on any error what was there stays. What the
    journal has marks of is taken over.

    Raises OutputError if it can't be written, and what aekit.codes.archive.staged_archive raises.
    """
    if out.suffix == ARCHIVE:
        from aekit.codes.archive import staged_archive

        with staged_archive(out, bundle, named=named, append=append, journal=journal) as archive:
            yield archive
        return
    # The index takes its name first: codes without their index would be of no use.
    with (
        staged_file(out, journal) as part,
        staged_file(index_path(out), journal) as index_part,
        open_part(part, journal) as array,
        open_part(index_part, journal) as index,
    ):
        writer = CodeWriter(array, index, bundle, dtype, named=named)
        journal.rewind(writer.restore(journal.marks))
        yield writer
        writer.finish()
        journal.finish(*codes_files(out))


@contextlib.contextmanager
def open_codes(path: Path, *, index: bool = True, salvage: bool = False) -> Iterator[StoredCodes]:
    """Yield the code file at `path`. `index` says whether codes.npy is read with its index, `salvage` whether a damaged
    archive gives up what is whole.

    Raises CodesError if it is missing or damaged, OptionError for an option of the other kind.
    """
    if path.suffix == ARCHIVE:
        if not index:
            raise OptionError("--no-index", expected="codes kept as .npy", found=str(path))
        from aekit.codes.archive import Archive

        with Archive.open(path, salvage=salvage) as archive:
            yield archive
        return
    if salvage:
        raise OptionError("--salvage", expected="an archive, NAME.aek", found=str(path))
    yield CodeFile.open(path, index=index)
