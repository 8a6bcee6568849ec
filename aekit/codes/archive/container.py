"""The bytes of an archive, as ARCHIVE.md specifies them: frames with checksums, the header, the footer.

    magic, version │ header │ block │ block │ … │ footer │ footer's length

The content of blocks is in vector_blocks.py (version 1), grid_blocks.py (versions 2 and 3) and vector_context_blocks.py
(version 4). A file is untrusted: every count is checked against the bytes that are there before memory is taken for it.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO, Self

from aekit.codes.entropy import MAX_SYMBOLS
from aekit.codes.tables import read_tables
from aekit.errors import CodesError, reason
from aekit.model.bundle import Bundle
from aekit.spec import ModelSpec

MAGIC = b"\x89AEK\r\n\x1a\n"
"""First bytes of an archive, made as PNG's are: the first is no text, and a transfer as text changes the line ends."""
VECTORS, GRIDS, GRIDS_OF_QUALITIES, VECTORS_IN_CONTEXT = 1, 2, 3, 4
"""Versions: archives of vector codes, of grid codes, of grid codes of a model with several qualities, and of vector
codes of a model that has a context model."""
NEWEST = 4
"""Newest version that this aekit reads."""
MAX_INPUTS = 4096
"""Largest number of inputs of a block, read or failed."""

_LEAD = struct.Struct("<8sHI")  # magic, version, length of the header
_FRAME = struct.Struct("<BI")  # kind, length of the body
_CRC = struct.Struct("<I")
_COUNTS = struct.Struct("<HH")  # inputs and rows, with which every block begins
_ENTRY = struct.Struct("<IHH")  # of the footer, for each block: bytes of its frame, inputs, rows
_TAIL = struct.Struct("<I")
FRAME_BYTES = _FRAME.size + _CRC.size
BLOCK, FOOTER = ord("B"), ord("F")
_MIN_BLOCK = 9
"""Fewest bytes that the body of a block has."""
_MAX_HEADER = 1 << 16
_MAX_BODY = 1 << 30
"""Largest body of a frame in bytes. A block with the code of one very large picture stays below it."""


@dataclass(frozen=True)
class Header:
    """What an archive holds, and which model decodes it."""

    model_id: str
    variant: str
    """Precision of the graphs that made the codes."""
    spec: ModelSpec
    tables: str
    """Digest of the frequency tables that the codes are coded with, `ModelTables.digest`."""
    named: bool
    """Whether the images have paths."""
    version: int
    """Version of the archive: VECTORS, GRIDS, GRIDS_OF_QUALITIES or VECTORS_IN_CONTEXT."""

    @classmethod
    def of(cls, bundle: Bundle, *, named: bool) -> Self:
        """Return the header of an archive of `bundle`'s codes. Raises BundleError if it has no frequency tables."""
        models = read_tables(bundle)
        if bundle.spec.is_grid:
            version = GRIDS_OF_QUALITIES if bundle.spec.has_qualities else GRIDS
        else:
            version = VECTORS if models.context is None else VECTORS_IN_CONTEXT
        return cls(bundle.model_id, bundle.variant, bundle.spec, models.digest, named, version)

    def to_bytes(self) -> bytes:
        """Return the start of the file, up to the first block."""
        facts = {
            "model_id": self.model_id,
            "variant": self.variant,
            "spec": self.spec.to_dict(),
            "tables": self.tables,
            "named": self.named,
        }
        body = zlib.compress(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode("ascii"), 9)
        return _sealed(_LEAD.pack(MAGIC, self.version, len(body)) + body)


@dataclass(frozen=True)
class BlockPlace:
    """Where a block lies, and how much it holds."""

    offset: int
    """First byte of its frame, from the start of the file."""
    size: int
    """Bytes of its frame."""
    inputs: int
    """Inputs in the block, those that could not be read included."""
    rows: int
    """Codes in the block."""


def inputs_per_block(code_dim: int) -> int:
    """Return how many inputs fill a block of vector codes of `code_dim` numbers."""
    return min(MAX_INPUTS, MAX_SYMBOLS // code_dim)


def frame(kind: int, body: bytes) -> bytes:
    """Return a frame: kind, length, body, and the CRC-32 of all three."""
    return _sealed(_FRAME.pack(kind, len(body)) + body)


def footer(places: list[BlockPlace]) -> bytes:
    """Return the end of a file that holds these blocks, in their order."""
    whole = frame(FOOTER, b"".join(_ENTRY.pack(place.size, place.inputs, place.rows) for place in places))
    return whole + _TAIL.pack(len(whole))


def read_header(file: BinaryIO, where: str) -> tuple[Header, int]:
    """Return the header, and where the first block begins. Raises CodesError or SpecError if it is not whole."""
    file.seek(0)
    lead = file.read(_LEAD.size)
    if lead[: len(MAGIC)] != MAGIC[: len(lead)] or not lead:
        raise CodesError(
            where, expected="an archive, which begins with its mark", found="an empty file or another kind"
        )
    if len(lead) < _LEAD.size:
        raise CodesError(where, expected="an archive", found=f"{len(lead)} bytes, cut short in its header")
    _, version, size = _LEAD.unpack(lead)
    if version > NEWEST:
        found = f"format {version}, or damage"
        raise CodesError(where, expected=f"format {NEWEST} or older", found=found, fix="update aekit")
    body = file.read(size + _CRC.size) if size <= _MAX_HEADER else b""
    damaged = CodesError(f"{where}: the header is damaged or cut short", fix="use another copy of the archive")
    if version < 1 or len(body) < size + _CRC.size or not _is_sealed(lead + body):
        raise damaged
    try:
        facts = json.loads(inflate(body[: -_CRC.size], _MAX_HEADER, zlib.MAX_WBITS))
        spec = ModelSpec.from_dict(facts["spec"], where)
        texts = [facts[name] for name in ("model_id", "variant", "tables")]
        named = facts["named"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged from error
    if not all(isinstance(text, str) and 0 < len(text) <= 64 for text in texts) or not isinstance(named, bool):
        raise damaged
    if version not in _versions_of(spec):
        raise damaged
    return Header(texts[0], texts[1], spec, texts[2], named, version), _LEAD.size + len(body)


def _versions_of(spec: ModelSpec) -> tuple[int, ...]:
    """Return the versions that an archive of this model's codes may have."""
    if spec.is_grid:
        return (GRIDS_OF_QUALITIES if spec.has_qualities else GRIDS,)
    return VECTORS, VECTORS_IN_CONTEXT


def read_frame(file: BinaryIO, offset: int, end: int) -> tuple[int, bytes, int] | None:
    """Return kind, body and size of the frame at `offset`, or None if no whole frame lies there and ends by `end`."""
    file.seek(offset)
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    kind, size = _FRAME.unpack(head)
    if size > min(_MAX_BODY, end - offset - FRAME_BYTES):
        return None
    rest = file.read(size + _CRC.size)
    if len(rest) < size + _CRC.size or not _is_sealed(head + rest):
        return None
    return kind, rest[: -_CRC.size], size + FRAME_BYTES


def read_footer(file: BinaryIO, begin: int, end: int) -> list[BlockPlace] | None:
    """Return the blocks of a file of `end` bytes, the first at byte `begin`, or None if it has no whole footer."""
    tail = end - _TAIL.size
    if tail < begin + FRAME_BYTES:
        return None
    file.seek(tail)
    (size,) = _TAIL.unpack(file.read(_TAIL.size))
    found = read_frame(file, tail - size, tail) if begin <= tail - size else None
    if found is None or found[0] != FOOTER or found[2] != size or len(found[1]) % _ENTRY.size:
        return None
    places, offset = [], begin
    for length, inputs, rows in _ENTRY.iter_unpack(found[1]):
        if length < FRAME_BYTES + _MIN_BLOCK or not rows <= inputs <= MAX_INPUTS:
            return None  # no block is that small or counts so: a hostile footer could claim any number of images
        places.append(BlockPlace(offset, length, inputs, rows))
        offset += length
    return places if offset == tail - size else None


def scan(file: BinaryIO, begin: int, end: int, *, past_damage: bool = False) -> list[BlockPlace]:
    """Return the whole blocks from `begin` on: what a file without a footer still holds.

    The first frame that is no whole block ends the search. With `past_damage` its length, if there is room for it,
    leads to the next frame. Every byte is read at most once, whatever the lengths say.
    """
    places, offset = list[BlockPlace](), begin
    while True:
        block = read_frame(file, offset, end)
        if block is not None and block[0] == BLOCK and len(block[1]) >= _MIN_BLOCK:
            inputs, rows = _COUNTS.unpack_from(block[1])
            places.append(BlockPlace(offset, block[2], inputs, rows))
            offset += block[2]
        elif past_damage and (size := _claimed_size(file, offset, end)):
            offset += size
        else:
            return places


def _claimed_size(file: BinaryIO, offset: int, end: int) -> int:
    """Return the size of a damaged frame by its head; 0 if no block has that size, or it would not end by `end`."""
    file.seek(offset)
    head = file.read(_FRAME.size)
    size = FRAME_BYTES + _FRAME.unpack(head)[1] if len(head) == _FRAME.size else 0
    return size if FRAME_BYTES + _MIN_BLOCK <= size <= min(FRAME_BYTES + _MAX_BODY, end - offset) else 0


_OTHER_COPY = "use another copy of the archive, and the model folder that made it"
"""What to do about a block whose codes do not decode."""


def undecodable(where: str, error: CodesError) -> CodesError:
    """Return the error of a block whose codes the entropy coder refused; its own error does not name the file."""
    return CodesError(f"{where}: the codes can't be decoded", found=reason(error), fix=_OTHER_COPY)


def other_numbers(where: str) -> CodesError:
    """Return the error of a block whose codes decode to numbers with another CRC-32 than the block has."""
    return CodesError(f"{where}: the codes decode to other numbers than were stored", fix=_OTHER_COPY)


def inflate(data: bytes, most: int, bits: int) -> bytes:
    """Decompress `data`. Raises ValueError if it is not one whole stream, or holds more than `most` bytes."""
    stream = zlib.decompressobj(bits)
    try:
        out = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not stream.eof or stream.unused_data or len(out) > most:
        raise ValueError(f"a compressed stream that is cut short, or holds over {most} bytes")
    return out


def _sealed(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def _is_sealed(data: bytes) -> Any:
    return _CRC.unpack(data[-_CRC.size :])[0] == zlib.crc32(data[: -_CRC.size])
