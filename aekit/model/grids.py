"""Grid codes of pictures of any sizes. How graphs are run on such pictures: in groups of one size, and in tiles.

pictures ─ repeat edges to the stride ─ group by padded size ─▶ encoder ─▶ codes [h, w, K]
codes ─ group by shape ─▶ decoder ─▶ whole blocks ─ crop ─▶ pictures

A picture of more than WHOLE_PIXELS is run in tiles of TILE_PIXELS a side, so that memory is bounded. A tile gets a
margin, the halo, that holds everything its inner part depends on. So a code does not depend on the tiling.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from aekit.errors import ShapeError
from aekit.images.decode import Pixels
from aekit.spec import GridGeometry

Array = npt.NDArray[Any]
Size = tuple[int, int]
"""(height, width) in pixels."""
Run = Callable[[Array, Array], None]
"""Runs a graph on a batch [n, …] and writes its output into an array [n, …]."""

RUN_PIXELS = 2**20
"""Largest number of pixels in one run of a graph, unless one picture has more."""
WHOLE_PIXELS = 2**21
"""Largest number of pixels of a picture that is not cut into tiles."""
TILE_PIXELS = 1024
"""Pixels on each side of a tile, without its margin."""


@dataclass(frozen=True)
class GridCodes(Sequence[Array]):
    """The codes of pictures of any sizes. A slice of it is a GridCodes too.

    Raises ShapeError if a code is no array [h, w, K] of uint8 or floats, or the numbers of codes and sizes differ.
    """

    codes: tuple[Array, ...]
    """For each picture its code, [h, w, K]."""
    sizes: tuple[Size, ...]
    """For each picture (height, width) in pixels as it was encoded."""

    def __post_init__(self) -> None:
        if len(self.codes) != len(self.sizes):
            raise ShapeError("codes", expected=f"{len(self.sizes)}, as many as sizes", found=str(len(self.codes)))
        for code in self.codes:
            if code.ndim != 3 or code.dtype.kind not in "uf":
                expected = "[h, w, K] of uint8 or floating point"
                raise ShapeError("a grid code", expected=expected, found=f"{list(code.shape)} of {code.dtype}")

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> "GridCodes": ...
    def __getitem__(self, index: int | slice) -> "Array | GridCodes":
        return GridCodes(self.codes[index], self.sizes[index]) if isinstance(index, slice) else self.codes[index]

    def __add__(self, other: "GridCodes") -> "GridCodes":
        """Return the codes of both, this one's first."""
        return GridCodes(self.codes + other.codes, self.sizes + other.sizes)

    @classmethod
    def none(cls) -> "GridCodes":
        """Return the codes of no picture."""
        return cls((), ())

    def rows(self) -> Array:
        """Return the numbers of all places, [Σ h · w, K], picture by picture and row by row."""
        if not self.codes:
            return np.empty((0, 0), np.uint8)
        return np.concatenate([code.reshape(-1, code.shape[2]) for code in self.codes])


def encode_grids(
    pictures: Sequence[Pixels], geometry: GridGeometry, code_dim: int, dtype: str, run: Run, batch_size: int
) -> GridCodes:
    """Encode pictures uint8 [H, W, C] of any sizes to codes of `dtype`, in their order. `run` runs the encoder."""
    codes: list[Array] = [np.empty((*geometry.code_shape(*picture.shape[:2]), code_dim), dtype) for picture in pictures]
    for rows in _groups([geometry.padded(*picture.shape[:2]) for picture in pictures], batch_size):
        padded = np.stack([_padded(pictures[row], geometry) for row in rows])
        if _is_tiled(padded.shape[1:3]):
            for row, picture in zip(rows, padded, strict=True):
                _encode_tiles(picture, codes[row], geometry, run)
            continue
        out = np.empty((len(rows), *codes[rows[0]].shape), dtype)
        run(padded, out)
        for row, code in zip(rows, out, strict=True):
            codes[row] = code
    return GridCodes(tuple(codes), tuple((picture.shape[0], picture.shape[1]) for picture in pictures))


def decode_grids(codes: GridCodes, geometry: GridGeometry, run: Run, batch_size: int) -> list[Pixels]:
    """Decode codes to pictures uint8 [H, W, C] of their sizes, in their order. `run` runs the decoder.

    Raises ShapeError if a code's shape does not belong to its picture's size.
    """
    for code, size in zip(codes.codes, codes.sizes, strict=True):
        if code.shape[:2] != geometry.code_shape(*size):
            expected = f"{geometry.code_shape(*size)} places for {size[0]}x{size[1]} pixels"
            raise ShapeError("a grid code", expected=expected, found=str(code.shape[:2]))
    stride, pictures = geometry.stride, list[Pixels]([np.empty((0, 0, 0), np.uint8)] * len(codes))
    whole = [(code.shape[0] * stride, code.shape[1] * stride) for code in codes.codes]
    for rows in _groups(whole, batch_size):
        height, width = whole[rows[0]]
        if _is_tiled((height, width)):
            for row in rows:
                pictures[row] = _decode_tiles(codes[row], codes.sizes[row], geometry, run)
            continue
        out = np.empty((len(rows), height, width, geometry.channels), np.uint8)
        run(np.stack([codes[row] for row in rows]), out)
        for row, picture in zip(rows, out, strict=True):
            rows_kept, columns_kept = codes.sizes[row]
            pictures[row] = np.ascontiguousarray(picture[:rows_kept, :columns_kept])
    return pictures


def _groups(sizes: Sequence[Size], batch_size: int) -> Iterator[list[int]]:
    """Yield the places of pictures of one padded size: at most `batch_size`, and about RUN_PIXELS, at a time."""
    by_size: dict[Size, list[int]] = {}
    for row, size in enumerate(sizes):
        by_size.setdefault(size, []).append(row)
    for (height, width), rows in by_size.items():
        most = max(1, min(batch_size, RUN_PIXELS // (height * width)))
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def _padded(picture: Pixels, geometry: GridGeometry) -> Pixels:
    """Repeat the last row and column until both sides are multiples of the stride, as the encoder itself does."""
    height, width = picture.shape[:2]
    rows, columns = geometry.padded(height, width)
    if (rows, columns) == (height, width):
        return picture
    return np.pad(picture, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")


def _is_tiled(size: tuple[int, ...]) -> bool:
    return size[0] * size[1] > WHOLE_PIXELS


@dataclass(frozen=True)
class _Span:
    """A part of a side of a code, in places: the inner part, and the part with its margin."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def inner(self) -> slice:
        """The inner part, within the part with its margin."""
        return slice(self.start - self.first, self.stop - self.first)


def _spans(places: int, tile: int, halo: int) -> list[_Span]:
    """Divide a side of so many places into spans of `tile` places with margins of `halo`."""
    starts = range(0, places, tile)
    return [
        _Span(start, stop, max(start - halo, 0), min(stop + halo, places))
        for start, stop in ((start, min(start + tile, places)) for start in starts)
    ]


def _tiles(shape: tuple[int, ...], geometry: GridGeometry, halo: int) -> Iterator[tuple[_Span, _Span]]:
    tile = max(TILE_PIXELS // geometry.stride, 1)
    columns = _spans(shape[1], tile, halo)
    for row in _spans(shape[0], tile, halo):
        for column in columns:
            yield row, column


def _encode_tiles(picture: Pixels, code: Array, geometry: GridGeometry, run: Run) -> None:
    stride = geometry.stride
    for row, column in _tiles(code.shape, geometry, geometry.encoder_halo):
        part = picture[row.first * stride : row.last * stride, column.first * stride : column.last * stride]
        out = np.empty((1, row.last - row.first, column.last - column.first, code.shape[2]), code.dtype)
        run(part[None], out)
        code[row.start : row.stop, column.start : column.stop] = out[0, row.inner, column.inner]


def _decode_tiles(code: Array, size: Size, geometry: GridGeometry, run: Run) -> Pixels:
    stride, picture = geometry.stride, np.empty((*size, geometry.channels), np.uint8)
    for row, column in _tiles(code.shape, geometry, geometry.decoder_halo):
        part = code[row.first : row.last, column.first : column.last]
        out = np.empty((1, part.shape[0] * stride, part.shape[1] * stride, geometry.channels), np.uint8)
        run(part[None], out)
        place = picture[row.start * stride : row.stop * stride, column.start * stride : column.stop * stride]
        inner = out[0, row.inner.start * stride :, column.inner.start * stride :]
        place[...] = inner[: place.shape[0], : place.shape[1]]
    return picture
