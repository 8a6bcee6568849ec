"""Messages in files: one file for each image, in a folder tree.

codes, records ── write_messages ──▶ a/000.aem, a/001.aem, …
                                     a/000.aem, a/001.aem, … ── reading_messages ──▶ (inputs done, CodeBlock)
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from aekit.codes.formats import MESSAGE_SUFFIX, Description
from aekit.codes.messages import Messages, read_head
from aekit.cores import cores
from aekit.errors import AekitError, CodesError, SourceError
from aekit.files import read_regular
from aekit.images.folder_writer import FilesWritten, Piece, write_each
from aekit.images.opening import MAX_PIXELS
from aekit.images.paths import FILE, FOLDER, find_files, kind_of, system_reason
from aekit.images.reading import BLOCK_PIXELS
from aekit.images.records import Record
from aekit.images.sources import FileTree
from aekit.model.bundle import MANIFEST
from aekit.model.codec import Codec, Codes
from aekit.model.grids import GridCodes
from aekit.workers import HERE, Plan, pool, worth

MAX_MESSAGE_BYTES = 2**24
"""Largest message file accepted, in bytes. A message has at most 4 million numbers."""
_GRID_COST, _VECTOR_COST = 5e-3, 3e-4
"""Approximate time to code one message, in seconds: of a grid code and of a vector code."""
_PIECE_SECONDS = 0.02
"""Approximate work in one piece for a process, in seconds."""


@dataclass(frozen=True)
class CodeBlock:
    """Messages that were read."""

    codes: Codes | GridCodes
    """The codes of the messages that could be read: uint8 [k, D], or k grid codes."""
    records: tuple[Record, ...]
    """A record of each message, in order."""


def open_messages(path: Path) -> FileTree:
    """Open a folder of messages, or one message. Raises SourceError if there is none."""
    kind = kind_of(path)
    if kind == FILE and path.suffix == MESSAGE_SUFFIX:
        return FileTree(path.parent, (path.name,), given=str(path))
    if kind != FOLDER:
        raise SourceError(str(path), expected=f"a message, NAME{MESSAGE_SUFFIX}, or a folder of messages", found=kind)
    return FileTree(path, tuple(find_files(path, "messages", (MESSAGE_SUFFIX,))), (path,))


def describe_message(path: Path, model: Path) -> Description:
    """Describe a message. If the model folder `model` made it, describe its picture too. No graph is read.

    Raises CodesError if the file is missing or is no message, or if a message of this model is damaged.
    """
    try:
        data = read_regular(path, MAX_MESSAGE_BYTES)
    except OSError as error:
        raise CodesError(str(path), expected="a message", found=system_reason(error)) from error
    try:
        head = read_head(data)
        codec = Codec.load(model) if (model / MANIFEST).exists() else None
        messages = Messages(codec) if codec else None
        code = messages.unpack_code(data) if messages and messages.mark.hex() == head.mark else None
    except CodesError as error:
        raise CodesError(f"{path} is damaged, or no message: {error}") from error
    facts = {"path": str(path), "bytes": len(data), "entropy_coder": head.coder, "model_mark": head.mark}
    first = f"{path}: a message of {len(data):,} bytes, coded with {head.coder}"
    if code is None or codec is None:
        made = f"another model than {model} made it" if codec else f"no model at {model}: --model names one"
        return Description(facts, (first, f"  model mark {head.mark}; {made}"))
    height, width = code.sizes[0] if isinstance(code, GridCodes) else codec.spec.fixed.shape[:2]
    facts |= {"model_id": codec.model_id, "width": width, "height": height}
    rate = f"{8 * len(data) / (width * height):.3f} bits a pixel"
    made = f"  model mark {head.mark}, of the model {codec.model_id} in {model}"
    quality = ""
    if isinstance(code, GridCodes) and code.qualities:
        facts["quality"], quality = code.qualities[0], f", quality {code.qualities[0]}"
    return Description(facts, (first, f"  {width}x{height} pixels{quality}, {rate}, undamaged", made))


def seconds_of(count: int, codec: Codec) -> float:
    """Return the approximate time, in seconds, that one process takes to code so many messages."""
    return count * (_GRID_COST if codec.spec.is_grid else _VECTOR_COST)


def write_messages(messages: Messages, folder: Path, piece: Piece) -> FilesWritten:
    """Write the messages of a piece of codes below `folder`. This is what a process does with one piece.

    The records give the path of each message. If `piece` is about files that are written already, it is returned.
    """
    if isinstance(piece, FilesWritten):
        return piece
    codes, records = piece
    parts: Iterable[Any] = (
        codes if isinstance(codes, np.ndarray) else (codes[row : row + 1] for row in range(len(codes)))
    )
    files = map(messages.pack_code, parts)
    return write_each(folder, files, records)


@contextlib.contextmanager
def reading_messages(
    folder: FileTree, messages: Messages, codec: Codec, batch: int, workers: int | None = None, first: int = 0
) -> Iterator[Iterator[tuple[int, CodeBlock]]]:
    """Yield the messages from number `first` on, in blocks. Each block comes with the number of messages read so far.

    A block has `batch` codes, or fewer: the last one, and one whose pictures have more than BLOCK_PIXELS together.
    Messages that could not be read do not count. If `first` is the end of a block, the blocks from there on are the
    same as from the start. `workers` processes read; 0 stands for none, None chooses.

    Raises WorkerError, while blocks are taken, if a process dies twice on the same files.
    """
    if workers is None:
        workers = cores() if worth(seconds_of(len(folder), codec)) else 0
    size = max(1, min(batch, int(_PIECE_SECONDS / seconds_of(1, codec))))
    pieces = (folder.paths[start : start + size] for start in range(first, len(folder), size))
    plan = Plan("processes", workers) if workers else HERE
    with pool(partial(_read, folder.root, messages), plan, lambda piece: f"{folder.root}/{piece[0]}") as readers:
        yield _blocks(readers.map(pieces), codec, batch, first)


_Read = tuple[Record, Any]
"""A record, and the code of the message or None: uint8 [D], or GridCodes of one picture."""


def _read(root: Path, messages: Messages, paths: Iterable[str]) -> list[_Read]:
    return [_read_one(root, messages, path) for path in paths]


def _read_one(root: Path, messages: Messages, path: str) -> _Read:
    try:
        data = read_regular(Path(os.path.join(root, path)), MAX_MESSAGE_BYTES)
        code = messages.unpack_code(data)
    except AekitError as error:
        # The coder's errors do not mention messages.
        where = "" if str(error).startswith("a message") else "a damaged message: "
        return Record(path, error=f"{where}{error}"), None
    except (OSError, ValueError) as error:
        return Record(path, error=system_reason(error)), None
    height, width = code.sizes[0] if isinstance(code, GridCodes) else (0, 0)
    if height * width > MAX_PIXELS:
        return Record(path, error=f"a picture of {width}x{height} pixels, more than {MAX_PIXELS:,}"), None
    return Record(path, width, height), code


def _blocks(read: Iterator[list[_Read]], codec: Codec, batch: int, first: int) -> Iterator[tuple[int, CodeBlock]]:
    taken, codes, pixels = list[_Read](), 0, 0
    for done, (record, code) in enumerate(chain.from_iterable(read), first + 1):
        area = record.width * record.height
        if pixels and pixels + area > BLOCK_PIXELS:
            yield done - 1, _block(taken, codec)
            taken, codes, pixels = [], 0, 0
        taken.append((record, code))
        codes, pixels = codes + (code is not None), pixels + area
        if codes == batch or pixels >= BLOCK_PIXELS:
            yield done, _block(taken, codec)
            taken, codes, pixels = [], 0, 0
    if taken:
        yield done, _block(taken, codec)


def _block(taken: list[_Read], codec: Codec) -> CodeBlock:
    records = tuple(record for record, _ in taken)
    codes = [code for _, code in taken if code is not None]
    if codec.spec.is_grid:
        return CodeBlock(GridCodes.joined(codes), records)
    return CodeBlock(np.stack(codes) if codes else np.empty((0, codec.spec.code_dim), np.uint8), records)
