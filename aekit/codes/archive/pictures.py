"""The pictures of a block of grid codes, packed: their sizes, their qualities, and the records of the inputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aekit.codes.archive.columns import Columns, deflated, planes
from aekit.codes.archive.records import (
    joined,
    most_bytes,
    own_sizes,
    path_columns,
    size_columns,
    take_paths,
    take_sizes,
)
from aekit.images.records import Record
from aekit.model.grids import GridCodes


@dataclass(frozen=True)
class Pictures:
    """Sizes, qualities and records of the pictures of a block."""

    sizes: list[tuple[int, int]]
    """(height, width) of each picture as it was encoded."""
    qualities: list[int]
    """Quality of each picture; empty for a model without qualities."""
    records: list[Record]
    """Records of the inputs; empty if they have no paths or were not asked for."""


def pack(codes: GridCodes, records: Sequence[Record] | None) -> bytes:
    """Return the sizes and qualities of pictures as bytes, with the records of the inputs if they have paths."""
    height, width = np.array(codes.sizes, np.int64).reshape(-1, 2).T
    columns = size_columns(width, height, 2)
    if codes.qualities:
        columns.append(planes(codes.qualities, 1))
    if records is not None:
        own = own_sizes(records)
        columns += [*path_columns(records), planes(own[:, 0] - width, 4), planes(own[:, 1] - height, 4)]
    return deflated(columns)


def unpack(data: bytes, inputs: int, rows: int, qualities: int, *, named: bool, names: bool) -> Pictures:
    """Return the `rows` pictures that `pack` packed, and with `names` the records of the `inputs` inputs.

    Args:
        data: the bytes of `pack`.
        inputs: inputs of the block.
        rows: inputs that were read: its pictures.
        qualities: number of the model's qualities, or 0 if it has no qualities.
        named: whether the inputs have paths.
        names: whether to return the records.

    Raises ValueError or OverflowError for other bytes.
    """
    columns, records = Columns(data, most_bytes(inputs)), list[Record]()
    width, height = take_sizes(columns, rows, 2)
    found = columns.numbers(rows, 1).tolist() if qualities else []
    if not all(1 <= quality <= qualities for quality in found):
        raise ValueError(f"a quality that is not 1 to {qualities}")
    if names:
        paths, reasons = take_paths(columns, inputs, rows)
        own = [(side + columns.numbers(rows, 4)) & 0xFFFFFFFF for side in (width, height)]
        records = joined(paths, reasons, own[0], own[1])
    if names or not named:
        columns.end()
    if 0 in width or 0 in height:
        raise ValueError("a picture without pixels")
    return Pictures(list(zip(height.tolist(), width.tolist(), strict=True)), found, records)
