"""Read a source ahead of the job that uses its images: in order, in bounded memory, in blocks.

files ─▶ read_files in workers ─▶ pieces ─▶ blocks of `batch` images ─▶ (inputs done, ImageBlock)

The files decide who reads. For small files the interpreter takes longer than the pixels, so processes read them. A
large JPEG is decoded outside the interpreter, so threads do, and cost nothing to start. A few files, and arrays, are
read in the calling thread. Blocks and results do not depend on that choice.

A block for a model of vector codes is full by its number of images. A block for a model of grid codes is full by its
number of pictures or by its pixels, whichever comes first.
"""

import contextlib
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import numpy as np

from aekit.cores import cores
from aekit.images.decode import Pixels
from aekit.images.records import ImageBlock, Record
from aekit.images.sources import ArraySource, FolderSource, Source
from aekit.spec import Geometry, GridGeometry
from aekit.workers import HERE, Kind, Plan, pool, worth

BLOCK_PIXELS = 2**24
"""Largest number of pixels, width × height, in a block of pictures of any size, unless one picture has more."""

_SAMPLED = 32
"""Files whose sizes are looked at to choose who reads."""
_FILE_COST, _BYTE_COST = 20e-6, 10e-9
"""Time in seconds to read a file: per file, and per byte of it."""
_LARGE_FILE = 50_000
"""Mean bytes of a file from which most of the decoding happens outside the interpreter."""
_MOST_AHEAD = 2**24
"""Bytes of pixels, about, that are read at most before the model is open."""
_PIECE_SECONDS, _PIECE_BYTES = 0.02, 2**17
"""Work of one piece for a worker, in seconds and in bytes of results, about. The results fit into a pipe."""
_UNPACKED = 8
"""Bytes of pixels per byte of a file, about. Photographs have 4 to 20 as JPEG, 1.5 to 3 as PNG."""
_GRID_PIECE_BYTES, _MOST_READ = 2**20, 2**29
"""Bytes of pixels, about, of one piece of pictures of any size, and of all pieces that workers may hold at a time."""


def plan_reading(source: Source, workers: int | None = None, *, whole_pictures: bool = False) -> Plan:
    """Choose who reads the source's images. `workers` is their number, 0 for the calling thread, None to choose.

    `whole_pictures` says that pictures keep their own size, so that fewer are read at a time where they are large.
    """
    if not isinstance(source, FolderSource) or workers == 0:
        return HERE
    size = _mean_bytes(source)
    kind: Kind = "threads" if size >= _LARGE_FILE else "processes"
    if workers is None:
        if not worth(len(source) * (_FILE_COST + size * _BYTE_COST)):
            return HERE
        workers = cores()
        if whole_pictures and workers > (most := int(_MOST_READ / (2 * _UNPACKED * (size + 1)))):
            return Plan(kind, most) if most else HERE
    return Plan(kind, workers)


def _mean_bytes(source: FolderSource) -> float:
    sizes = []
    for path in islice(source.paths, 0, None, max(len(source) // _SAMPLED, 1)):
        with contextlib.suppress(OSError):  # it is reported when it is read
            sizes.append(os.stat(f"{source.root}/{path}").st_size)
    return sum(sizes) / max(len(sizes), 1)


@contextlib.contextmanager
def reading(
    source: Source,
    geometry: Geometry | GridGeometry,
    batch: int,
    workers: int | None = None,
    first: int = 0,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Iterator[tuple[int, ImageBlock]]]:
    """Yield the source's blocks from input `first` on, each with the number of inputs read by its end.

    Every block but the last is full: it has `batch` images, or the next picture would exceed BLOCK_PIXELS. Inputs that
    could not be read do not count. A block's array is used again for the next block. If `first` is the end of a block,
    the blocks from there on are the same as from the start.

    Workers start when the context is entered, and end with it. While they start, `meanwhile` is called in a thread; it
    opens what the blocks are for.

    Raises WorkerError, while blocks are taken, if a process dies twice on the same files.
    """
    if not isinstance(source, FolderSource):
        meanwhile()
        yield _array_blocks(source, geometry, batch, first)
        return
    plan = plan_reading(source, workers, whole_pictures=isinstance(geometry, GridGeometry))
    size = _piece_size(source, geometry, batch)
    pieces = ((start, min(start + size, len(source))) for start in range(first, len(source), size))
    with pool(partial(_read, source, geometry), plan, partial(_name, source)) as readers:
        read = readers.map(pieces)
        if isinstance(geometry, GridGeometry):
            blocks = _gathered(read, batch, first)
        else:
            blocks = _filled(read, np.empty((batch, *geometry.shape), np.uint8), first)
        if plan.kind == "here":
            meanwhile()
            yield blocks
        else:
            yield chain(_taken_ahead(blocks, meanwhile), blocks)


def _taken_ahead(
    blocks: Iterator[tuple[int, ImageBlock]], meanwhile: Callable[[], object]
) -> Iterator[tuple[int, ImageBlock]]:
    """Call `meanwhile` in a thread, and take the blocks that are read until it is done, as far as memory allows."""
    from concurrent.futures import ThreadPoolExecutor

    taken, size = deque[tuple[int, ImageBlock]](), 0
    with ThreadPoolExecutor(1) as executor:
        opening = executor.submit(meanwhile)
        while not opening.done() and size < _MOST_AHEAD and (numbered := next(blocks, None)):
            stop, block = numbered
            images = block.images
            if isinstance(images, np.ndarray):  # the array is used again for the next block
                block = replace(block, images=images.copy())
                size += images.nbytes
            else:
                size += sum(picture.nbytes for picture in images)
            taken.append((stop, block))
        opening.result()
    return _emptied(taken)


def _emptied(taken: deque[tuple[int, ImageBlock]]) -> Iterator[tuple[int, ImageBlock]]:
    while taken:
        yield taken.popleft()


def _read(source: FolderSource, geometry: Geometry | GridGeometry, piece: tuple[int, int]) -> ImageBlock:
    return source.read(*piece, geometry)


def _name(source: FolderSource, piece: tuple[int, int]) -> str:
    first, last = source.paths[piece[0]], source.paths[piece[1] - 1]
    return f"{source.root}/{first}" + (f" to {last}" if last != first else "")


def _piece_size(source: FolderSource, geometry: Geometry | GridGeometry, batch: int) -> int:
    size = _mean_bytes(source)
    by_time = int(_PIECE_SECONDS / (_FILE_COST + size * _BYTE_COST))
    if isinstance(geometry, GridGeometry):
        by_memory = int(_GRID_PIECE_BYTES / (_UNPACKED * (size + 1)))
    else:
        by_memory = _PIECE_BYTES // geometry.pixels
    return max(1, min(by_time, by_memory, batch))


def _filled(pieces: Iterator[ImageBlock], buffer: Pixels, first: int) -> Iterator[tuple[int, ImageBlock]]:
    """Copy images into the buffer, and yield it with their records whenever it is full."""
    rows, done, pending = 0, first, list[Record]()
    for piece in pieces:
        images, records = piece.images, list(piece.records)
        while len(images) >= (room := len(buffer) - rows):
            buffer[rows:] = images[:room]
            cut = _records_of(records, room)
            done += cut
            yield done, ImageBlock(buffer, (*pending, *records[:cut]))
            images, records, pending, rows = images[room:], records[cut:], [], 0
        buffer[rows : rows + len(images)] = images
        rows += len(images)
        done += len(records)
        pending += records
    if pending:
        yield done, ImageBlock(buffer[:rows], tuple(pending))


def _records_of(records: list[Record], images: int) -> int:
    """Return how many of the records, from the first on, belong to that many images."""
    for count, record in enumerate(records, 1):
        images -= not record.error
        if not images:
            return count
    return len(records)


def _gathered(pieces: Iterator[ImageBlock], batch: int, first: int) -> Iterator[tuple[int, ImageBlock]]:
    """Gather pictures of any size, and yield them with their records whenever a block is full."""
    pictures, records, pixels, done = list[Pixels](), list[Record](), 0, first
    for piece in pieces:
        readable = deque(piece.images)
        piece = replace(piece, images=[])  # so that a picture is let go with its block
        for record in piece.records:
            if not record.error:
                picture = readable.popleft()
                area = picture.shape[0] * picture.shape[1]
                if pictures and pixels + area > BLOCK_PIXELS:
                    yield done, ImageBlock(pictures, tuple(records))
                    pictures, records, pixels = [], [], 0
                pictures.append(picture)
                pixels += area
                del picture
            records.append(record)
            done += 1
            if len(pictures) == batch or pixels >= BLOCK_PIXELS:
                yield done, ImageBlock(pictures, tuple(records))
                pictures, records, pixels = [], [], 0
    if records:
        yield done, ImageBlock(pictures, tuple(records))


def _array_blocks(
    source: Source, geometry: Geometry | GridGeometry, batch: int, first: int
) -> Iterator[tuple[int, ImageBlock]]:
    if isinstance(geometry, GridGeometry) and isinstance(source, ArraySource):
        height, width = source.array.shape[1:3]
        batch = max(1, min(batch, BLOCK_PIXELS // (height * width)))
    for start in range(first, len(source), batch):
        stop = min(start + batch, len(source))
        yield stop, source.read(start, stop, geometry)
        if isinstance(source, ArraySource):
            _let_go(source.array)


def _let_go(array: Pixels) -> None:
    """Give back a mapped file's pages that were read. Otherwise a large array would in the end fill the memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    # Of an array that can be written, the pages may be the caller's own changes.
    if isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
