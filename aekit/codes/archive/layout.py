"""Layouts: how the blocks of an archive hold codes. Each version of the archive has one."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from aekit.codes.archive.columns import Numbers
from aekit.codes.archive.container import GRIDS, GRIDS_OF_QUALITIES, VECTORS, VECTORS_IN_CONTEXT, Header
from aekit.codes.archive.grid_blocks import GridLayout
from aekit.codes.archive.vector_blocks import VectorLayout
from aekit.codes.archive.vector_context_blocks import VectorContextLayout
from aekit.codes.tables import ModelTables
from aekit.images.records import Record


class Block(Protocol):
    """The content of a block, still coded."""

    @property
    def inputs(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def codes(self) -> bytes:
        """The bytes that hold the codes."""
        ...

    @property
    def names(self) -> bytes:
        """The bytes that hold the records, or sizes."""
        ...


class Layout(Protocol):
    """Writes and reads the blocks of an archive. Codes are arrays uint8 [n, code_dim], or GridCodes."""

    most_inputs: int
    """Largest number of inputs of a block."""
    most_numbers: int
    """Largest number of numbers in the codes of a block, unless one code has more."""

    @property
    def is_ready(self) -> bool:
        """Whether `use` was called."""
        ...

    def use(self, tables: ModelTables) -> None:
        """Code and decode with these entropy models. Until then only records can be read."""
        ...

    def checked(self, codes: Any, rows: int) -> Any:
        """Return `codes` if they are the codes of so many images.

        Raises ShapeError if not, CodesError for a picture that is too large for an archive.
        """
        ...

    def numbers(self, codes: Any, row: int) -> int:
        """Return how many of `most_numbers` the code of a row takes."""
        ...

    def copied(self, codes: Any) -> Any:
        """Return a copy of the codes, which the caller may change or free."""
        ...

    def joined(self, parts: Sequence[Any]) -> Any:
        """Return the codes of all parts."""
        ...

    def frame(self, inputs: int, codes: Any, records: Sequence[Record]) -> bytes:
        """Return the frame of a block of so many inputs."""
        ...

    def block(self, body: bytes, where: str) -> Block:
        """Read the body of a block's frame. Raises CodesError if it does not fit the archive."""
        ...

    def sizes(self, block: Any, where: str) -> list[tuple[int, int]]:
        """Return (height, width) of the images of a block as they were encoded. Raises CodesError if damaged."""
        ...

    def qualities(self, block: Any, where: str) -> list[int]:
        """Return the qualities of the images of a block; none for a model without qualities. CodesError if damaged."""
        ...

    def records(self, block: Any, where: str) -> list[Record]:
        """Return the records of the inputs of a block. Raises CodesError if they are damaged."""
        ...

    def codes(self, block: Any, where: str, rows: Numbers | None = None) -> Any:
        """Decode the codes of a block, or of its ascending `rows`. Raises CodesError if they are damaged."""
        ...


def layout_of(header: Header) -> Layout:
    """Return the layout of an archive with this header."""
    layouts: dict[int, Callable[..., Any]] = {
        VECTORS: VectorLayout,
        GRIDS: GridLayout,
        GRIDS_OF_QUALITIES: GridLayout,
        VECTORS_IN_CONTEXT: VectorContextLayout,
    }
    return cast(Layout, layouts[header.version](header.spec, named=header.named))
