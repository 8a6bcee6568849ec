"""The code formats, one entry each: the facts that the rest of aekit needs, and the module that reads and writes them.

A new format is one new module with the functions of `FormatModule`, and one line in `FORMATS`. Options, help and error
texts follow from the entry. Importing this file loads no numpy, so that --help stays fast.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from aekit.errors import OptionError
from aekit.registry import OBJECTIVES

if TYPE_CHECKING:
    from aekit.codes.files import CodesWriter, StoredCodes
    from aekit.model.bundle import Bundle
    from aekit.outputs.journal import Journal


class FormatModule(Protocol):
    """The functions of a module that reads and writes one code format."""

    def open_stored(self, path: Path, *, index: bool, salvage: bool) -> "AbstractContextManager[StoredCodes]":
        """Open codes for reading. Raises CodesError if they are missing or damaged."""
        ...

    def staged(
        self, out: Path, bundle: "Bundle", dtype: str, journal: "Journal", *, named: bool, append: bool
    ) -> "AbstractContextManager[CodesWriter]":
        """Yield the writer of `out`, restored from the journal's marks; `out` takes its name when the block ends."""
        ...

    def describe(self, path: Path) -> "Description":
        """Describe the codes at `path` without a model. Raises CodesError if they are missing or damaged."""
        ...


@dataclass(frozen=True)
class Description:
    """What `aekit info` says of a file or folder."""

    facts: dict[str, Any]
    """The JSON object that --json prints."""
    lines: tuple[str, ...]
    """The lines for a reader."""


@dataclass(frozen=True)
class CodeFormat:
    """The facts of one code format."""

    suffix: str
    """Suffix of the file that users name, with its dot."""
    about: str
    """What the file is, for the help of --out."""
    home: str
    """Name of the module that reads and writes it, a FormatModule."""
    dtypes: tuple[str, ...]
    """Types of number that it can store; the first is the default."""
    companions: tuple[str, ...] = ()
    """Suffixes of the files that belong to it, beside the one that users name."""
    appends: bool = False
    """Whether --append can add to a file that is there."""
    index_is_optional: bool = False
    """Whether the codes can be read without their index, by --no-index."""
    salvages: bool = False
    """Whether --salvage can read what is whole of a damaged file."""
    states_quality: bool = False
    """Whether the format stores the quality of each picture, for models of several qualities."""
    keeps_links: bool = False
    """Whether a symbolic link at --out stays a link, and the file it names is written."""

    @property
    def module(self) -> FormatModule:
        """The module that reads and writes this format, loaded on first use."""
        return cast(FormatModule, import_module(self.home))

    def files(self, out: Path) -> tuple[Path, ...]:
        """Return the files that codes written to `out` consist of."""
        return (out, *(out.with_suffix(suffix) for suffix in self.companions))

    def dtype(self, wanted: str | None, preferred: str) -> str:
        """Return the type of number to store: `wanted`, or else `preferred` if this format can store it.

        Raises OptionError if the format can't store `wanted`.
        """
        if wanted is None:
            return preferred if preferred in self.dtypes else self.dtypes[0]
        if wanted not in self.dtypes:
            expected = f"{_either(self.dtypes)} for {self.suffix} files"
            raise OptionError("--dtype", expected=expected, found=repr(wanted))
        return wanted


MESSAGE_SUFFIX = ".aem"
"""Suffix of a file that holds one message. Messages are no code format: each is an output of its own."""
FORMATS = (
    CodeFormat(
        ".npy",
        "a plain array, with an index beside it (NAME.jsonl)",
        "aekit.codes.npy_format",
        dtypes=("float32", "float16", "uint8"),
        companions=(".jsonl",),
        index_is_optional=True,
    ),
    CodeFormat(
        ".aek",
        "an archive of entropy-coded codes and names, which is several times smaller",
        "aekit.codes.archive_format",
        dtypes=("uint8",),
        appends=True,
        salvages=True,
        states_quality=True,
        keeps_links=True,
    ),
)
"""Every code format."""


def format_of(path: Path) -> CodeFormat | None:
    """Return the format of a code file with this name, or None if no format has its suffix."""
    return next((entry for entry in FORMATS if entry.suffix == path.suffix), None)


def format_to_write(out: Path) -> CodeFormat:
    """Return the format of codes written to `out`. Raises OptionError if no format has its suffix."""
    found = format_of(out)
    if found is None:
        expected = f"a name that ends in {_either(entry.suffix for entry in FORMATS)}"
        raise OptionError(f"--out {out}", expected=expected, fix="" if out.suffix else "--messages writes a folder")
    return found


def owner_of(path: Path) -> Path | None:
    """Return the code file that the companion `path` belongs to, such as codes.npy for codes.jsonl, or None."""
    return next((path.with_suffix(entry.suffix) for entry in FORMATS if path.suffix in entry.companions), None)


def suffixes(fact: str = "suffix") -> str:
    """Return the suffixes of all formats for which the field `fact` is true, as text: `.npy or .aek`."""
    return _either(entry.suffix for entry in FORMATS if getattr(entry, fact))


def names() -> str:
    """Return the names that code files have, as text: `NAME.npy or NAME.aek`."""
    return _either(f"NAME{entry.suffix}" for entry in FORMATS)


def out_help() -> str:
    """Return the help of --out of a command that writes codes."""
    return "Code file to write: " + "; or ".join(f"NAME{entry.suffix}, {entry.about}" for entry in FORMATS) + "."


def dtype_help() -> str:
    """Return the help of --dtype."""
    every = max((entry.dtypes for entry in FORMATS), key=len)
    narrow = [f"{entry.suffix} files store {_either(entry.dtypes)} only" for entry in FORMATS if entry.dtypes != every]
    return "; ".join([f"Type of the stored numbers: {_either(every)}", *narrow]) + "."


def dtype_default() -> str:
    """Return the default of --dtype in words."""
    by_suffix = ", ".join(f"{entry.dtypes[0]} in {entry.suffix}" for entry in FORMATS)
    rounded = [name for name, entry in OBJECTIVES.items() if entry.stores_uint8_only]
    return f"{by_suffix}; uint8 for the objective {_either(rounded)}" if rounded else by_suffix


def _either(words: Any) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else str(last)
