"""Runs of a graph on pictures of any sizes: in groups of one size, and in tiles.

pictures ─ repeat edges to the stride ─ group by padded size ─▶ encoder ─▶ codes [h, w, K]
codes ─ group by shape ─▶ decoder ─▶ whole blocks ─ crop ─▶ pictures

A large picture is run in tiles (aekit.model.tiles). Groups and tiles are independent runs of a graph. A codec of
several parallel batches runs several of them at a time, but never of more than FLIGHT_PIXELS.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from aekit.errors import ShapeError
from aekit.images.decode import Pixels
from aekit.model.grids import Array, GridCodes, Qualities, Size
from aekit.model.tiles import Tile, is_tiled, tiles_of
from aekit.spec import GridGeometry

Task = Callable[[], None]
"""One run of a graph, and the writing of its results to their places."""

RUN_PIXELS = 2**19
"""Largest number of pixels in one run of a graph, unless one picture has more."""
FLIGHT_PIXELS = 2**22
"""Largest number of pixels in all runs at a time, however many cores there are, unless one picture has more."""


class Runs:
    """How a graph is run on pictures: which graph, on how many of them at a time."""

    def __init__(
        self,
        run: Callable[[Array, Array, Sequence[int]], None],
        each: Callable[[Sequence[Task]], None],
        parallel: int,
        batch_size: int,
    ) -> None:
        """Store the functions and limits that the runs use.

        Args:
            run: runs the graph on a batch [n, …], writes its output into an array [n, …], and takes the quality of each
                picture in the batch, or nothing for a model without qualities.
            each: does all tasks, `parallel` of them at a time.
            parallel: number of tasks that `each` does at a time.
            batch_size: largest number of pictures in one run.
        """
        self._run, self.each, self.parallel, self.batch_size = run, each, parallel, batch_size
        self._changed, self._in_flight = threading.Condition(), 0

    def run(self, batch: Array, out: Array, pixels: int, quality: Sequence[int]) -> None:
        """Run the graph on a batch of so many pixels, once the other runs leave room for it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight or self._in_flight + pixels <= FLIGHT_PIXELS)
            self._in_flight += pixels
        try:
            self._run(batch, out, quality)
        finally:
            with self._changed:
                self._in_flight -= pixels
                self._changed.notify_all()


def encode_grids(
    pictures: Sequence[Pixels], geometry: GridGeometry, code_dim: int, dtype: str, runs: Runs, qualities: Qualities = ()
) -> GridCodes:
    """Encode pictures uint8 [H, W, C] of any sizes to codes of `dtype`, in their order. `runs` runs the encoder.

    `qualities` holds the quality of each picture, for a model that has qualities.
    """
    codes: list[Array] = [np.empty((*geometry.code_shape(*picture.shape[:2]), code_dim), dtype) for picture in pictures]
    tasks: list[Task] = []
    for rows in _groups([geometry.padded(*picture.shape[:2]) for picture in pictures], runs):
        if is_tiled(geometry.padded(*pictures[rows[0]].shape[:2])):
            for row in rows:
                tiles = tiles_of(codes[row].shape, geometry, geometry.encoder_halo)
                given = geometry, runs, qualities[row : row + 1]
                tasks += [partial(_encode_tile, pictures[row], codes[row], tile, *given) for tile in tiles]
        else:
            parts = [pictures[row] for row in rows], [codes[row] for row in rows]
            tasks.append(partial(_encode_group, *parts, geometry, runs, _of(qualities, rows)))
    runs.each(tasks)
    sizes = tuple((picture.shape[0], picture.shape[1]) for picture in pictures)
    return GridCodes(tuple(codes), sizes, tuple(qualities))


def decode_grids(codes: GridCodes, geometry: GridGeometry, runs: Runs) -> list[Pixels]:
    """Decode codes to pictures uint8 [H, W, C] of their sizes, in their order. `runs` runs the decoder.

    Raises ShapeError if a code's shape does not belong to its picture's size.
    """
    for code, size in zip(codes.codes, codes.sizes, strict=True):
        if code.shape[:2] != geometry.code_shape(*size):
            expected = f"{geometry.code_shape(*size)} places for {size[0]}x{size[1]} pixels"
            raise ShapeError("a grid code", expected=expected, found=str(code.shape[:2]))
    pictures: list[Pixels] = [np.empty((*size, geometry.channels), np.uint8) for size in codes.sizes]
    tasks: list[Task] = []
    for rows in _groups([geometry.padded(*size) for size in codes.sizes], runs):
        if is_tiled(geometry.padded(*codes.sizes[rows[0]])):
            for row in rows:
                tiles = tiles_of(codes[row].shape, geometry, geometry.decoder_halo)
                given = geometry, runs, codes.qualities[row : row + 1]
                tasks += [partial(_decode_tile, codes[row], pictures[row], tile, *given) for tile in tiles]
        else:
            parts = [codes[row] for row in rows], [pictures[row] for row in rows]
            tasks.append(partial(_decode_group, *parts, geometry, runs, _of(codes.qualities, rows)))
    runs.each(tasks)
    return pictures


def _of(qualities: Qualities, rows: Sequence[int]) -> list[int]:
    """Return the qualities of some rows, or an empty sequence for a model without qualities."""
    return [qualities[row] for row in rows] if qualities else []


def _encode_group(
    pictures: list[Pixels], codes: list[Array], geometry: GridGeometry, runs: Runs, quality: Qualities
) -> None:
    """Encode pictures of one padded size into `codes`."""
    padded = np.stack([_padded(picture, geometry) for picture in pictures])
    out = np.empty((len(codes), *codes[0].shape), codes[0].dtype)
    runs.run(padded, out, padded[..., 0].size, quality)
    for place, code in zip(codes, out, strict=True):
        place[...] = code


def _decode_group(
    codes: list[Array], pictures: list[Pixels], geometry: GridGeometry, runs: Runs, quality: Qualities
) -> None:
    """Decode codes of one shape into `pictures`."""
    height, width = (side * geometry.stride for side in codes[0].shape[:2])
    out = np.empty((len(codes), height, width, geometry.channels), np.uint8)
    runs.run(np.stack(codes), out, out[..., 0].size, quality)
    for place, picture in zip(pictures, out, strict=True):
        place[...] = picture[: place.shape[0], : place.shape[1]]


def _groups(sizes: Sequence[Size], runs: Runs) -> Iterator[list[int]]:
    """Yield the places of pictures of one padded size, as many as one run takes: about RUN_PIXELS of pixels.

    Pictures of one size are spread over the parallel runs.
    """
    by_size: dict[Size, list[int]] = {}
    for row, size in enumerate(sizes):
        by_size.setdefault(size, []).append(row)
    for (height, width), rows in by_size.items():
        most = max(1, min(runs.batch_size, RUN_PIXELS // (height * width), -(-len(rows) // runs.parallel)))
        for start in range(0, len(rows), most):
            yield rows[start : start + most]


def _padded(picture: Pixels, geometry: GridGeometry) -> Pixels:
    """Repeat the last row and column until both sides are multiples of the stride, as the encoder itself does."""
    height, width = picture.shape[:2]
    rows, columns = geometry.padded(height, width)
    if (rows, columns) == (height, width):
        return picture
    return np.pad(picture, ((0, rows - height), (0, columns - width), (0, 0)), mode="edge")


def _encode_tile(
    picture: Pixels, code: Array, tile: Tile, geometry: GridGeometry, runs: Runs, quality: Qualities
) -> None:
    (row, column), stride = tile, geometry.stride
    # The last tiles may be cut off by the picture's edges, which the encoder repeats.
    part = picture[row.first * stride : row.last * stride, column.first * stride : column.last * stride]
    out = np.empty((1, row.last - row.first, column.last - column.first, code.shape[2]), code.dtype)
    runs.run(part[None], out, part[..., 0].size, quality)
    code[row.start : row.stop, column.start : column.stop] = out[0, row.inner, column.inner]


def _decode_tile(
    code: Array, picture: Pixels, tile: Tile, geometry: GridGeometry, runs: Runs, quality: Qualities
) -> None:
    (row, column), stride = tile, geometry.stride
    part = code[row.first : row.last, column.first : column.last]
    out = np.empty((1, part.shape[0] * stride, part.shape[1] * stride, picture.shape[2]), np.uint8)
    runs.run(part[None], out, out[..., 0].size, quality)
    place = picture[row.start * stride : row.stop * stride, column.start * stride : column.stop * stride]
    inner = out[0, row.inner.start * stride :, column.inner.start * stride :]
    place[...] = inner[: place.shape[0], : place.shape[1]]
