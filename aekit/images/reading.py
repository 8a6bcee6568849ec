"""Read a source ahead of what encodes it: batches filled to the last image, in order, in bounded memory.

files ─▶ read_files in workers ─▶ blocks of pieces ─▶ one buffer of `batch` images ─▶ (inputs done, ImageBlock)

Who reads is chosen from the files themselves. Small files cost the interpreter more than their pixels, so they want
processes; a large JPEG is decoded outside the interpreter, so threads do, and cost nothing to start; a few files, and
arrays, are read where they are wanted. What is read, and in which batches, does not depend on it.
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

from aekit.images.decode import Pixels
from aekit.images.records import ImageBlock, Record
from aekit.images.sources import ArraySource, FolderSource, Source
from aekit.spec import Geometry
from aekit.workers import HERE, Kind, Plan, cores, pool, worth

_SAMPLED = 32
"""Files looked at."""
_FILE_COST, _BYTE_COST = 20e-6, 10e-9
"""Seconds to read a file: a share a file, and a share a byte of it."""
_LARGE_FILE = 50_000
"""Mean bytes of a file from which decoding happens outside the interpreter, mostly."""
_MOST_AHEAD = 2**24
"""Bytes of pixels, about, that are read at most before the model is open."""
_PIECE_SECONDS, _PIECE_BYTES = 0.02, 2**17
"""What a worker is given at a time: about this much work, and results that fit into a pipe."""


def plan_reading(source: Source, workers: int | None = None) -> Plan:
    """Who reads the source's images; `workers` is how many do, 0 for nobody but the caller, None to choose."""
    if not isinstance(source, FolderSource) or workers == 0:
        return HERE
    size = _mean_bytes(source)
    kind: Kind = "threads" if size >= _LARGE_FILE else "processes"
    if workers is None:
        if not worth(len(source) * (_FILE_COST + size * _BYTE_COST)):
            return HERE
        workers = cores()
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
    geometry: Geometry,
    batch: int,
    workers: int | None = None,
    first: int = 0,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Iterator[tuple[int, ImageBlock]]]:
    """Yield the source's blocks from input `first` on, each with the number of inputs read by its end.

    Every block but the last has `batch` images, whatever was skipped between them; its array is used again for the
    next. Workers start when the context is entered, and end with it; while they begin, `meanwhile` is called, in a
    thread, which opens what the blocks are for.

    Raises WorkerError, while blocks are taken, if a process dies twice on the same files.
    """
    if not isinstance(source, FolderSource):
        meanwhile()
        yield _array_blocks(source, geometry, batch, first)
        return
    plan = plan_reading(source, workers)
    size = _piece_size(source, geometry, batch)
    pieces = ((start, min(start + size, len(source))) for start in range(first, len(source), size))
    with pool(partial(_read, source, geometry), plan, partial(_name, source)) as readers:
        blocks = _filled(readers.map(pieces), np.empty((batch, *geometry.shape), np.uint8), first)
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
        while not opening.done() and size < _MOST_AHEAD and (found := next(blocks, None)):
            stop, block = found
            taken.append((stop, replace(block, images=block.images.copy())))
            size += block.images.nbytes
        opening.result()
    return _emptied(taken)


def _emptied(taken: deque[tuple[int, ImageBlock]]) -> Iterator[tuple[int, ImageBlock]]:
    while taken:
        yield taken.popleft()


def _read(source: FolderSource, geometry: Geometry, piece: tuple[int, int]) -> ImageBlock:
    return source.read(*piece, geometry)


def _name(source: FolderSource, piece: tuple[int, int]) -> str:
    first, last = source.paths[piece[0]], source.paths[piece[1] - 1]
    return f"{source.root}/{first}" + (f" to {last}" if last != first else "")


def _piece_size(source: FolderSource, geometry: Geometry, batch: int) -> int:
    seconds = _FILE_COST + _mean_bytes(source) * _BYTE_COST
    return max(1, min(int(_PIECE_SECONDS / seconds), _PIECE_BYTES // geometry.pixels, batch))


def _filled(blocks: Iterator[ImageBlock], buffer: Pixels, first: int) -> Iterator[tuple[int, ImageBlock]]:
    """The blocks' images poured into the buffer, which is handed on whenever it is full, with their records."""
    rows, done, held = 0, first, list[Record]()
    for block in blocks:
        images, records = block.images, list(block.records)
        while len(images) >= (room := len(buffer) - rows):
            buffer[rows:] = images[:room]
            cut = _records_of(records, room)
            done += cut
            yield done, ImageBlock(buffer, (*held, *records[:cut]))
            images, records, held, rows = images[room:], records[cut:], [], 0
        buffer[rows : rows + len(images)] = images
        rows += len(images)
        done += len(records)
        held += records
    if held:
        yield done, ImageBlock(buffer[:rows], tuple(held))


def _records_of(records: list[Record], images: int) -> int:
    """How many of the records, from the first on, hold that many images."""
    for count, record in enumerate(records, 1):
        images -= not record.error
        if not images:
            return count
    return len(records)


def _array_blocks(source: Source, geometry: Geometry, batch: int, first: int) -> Iterator[tuple[int, ImageBlock]]:
    for start in range(first, len(source), batch):
        stop = min(start + batch, len(source))
        yield stop, source.read(start, stop, geometry)
        if isinstance(source, ArraySource):
            _let_go(source.array)


def _let_go(array: Pixels) -> None:
    """Let go of a mapped file's pages that were read: a large array would else count as ours, all of it, in the end."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    # Of an array that can be written, the pages may be the caller's own changes.
    if isinstance(base, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
