"""Messages: the code of one image as bytes that stand alone, for devices that send images one at a time.

    kind │ model │ quality │ size of the picture │ codes, entropy-coded │ check

    kind    1 byte: version, entropy coder, and whether a side of the picture is 4,096 pixels or more
    model   2 bytes of the digest of the model's identity and entropy models
    quality 1 byte, for a model of several qualities; else absent
    size    3 bytes, or 4 for large pictures: width and height in 12 or 16 bits each; absent for vector codes
    check   2 bytes of the CRC-32 of everything before the codes, and of all numbers

A message holds no path. It is decoded by the model folder that made it, and by no other.
"""

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aekit.codes.archive.parts import Part, parts_of
from aekit.codes.checksums import crc_of
from aekit.codes.entropy import MAX_SYMBOLS
from aekit.codes.grid_coders import CONTEXT, STATIC, GridCoders
from aekit.codes.tables import read_tables
from aekit.errors import CodesError, ModelMismatch, ShapeError
from aekit.images.decode import Pixels
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes

U8 = npt.NDArray[np.uint8]

_VERSION = 1
_LARGE = 0x08
"""Bit of the kind: the sides take 16 bits each."""
_SMALL_SIDE = 1 << 12
_MODEL, _CHECK = 2, 2
"""Bytes of the model's mark and of the check."""
_CODERS = {STATIC: "static tables", CONTEXT: "a context model"}


@dataclass(frozen=True)
class MessageHead:
    """What a message says to a reader who does not have its model."""

    coder: str
    """The entropy coder, in words."""
    mark: str
    """The model's mark, in hexadecimal digits."""


def read_head(message: bytes) -> MessageHead:
    """Read the head of a message. Raises CodesError if it is too short, of a newer aekit, or has an unknown coder."""
    if len(message) <= 1 + _MODEL + _CHECK:
        raise CodesError("a message", expected="a whole message", found=f"{len(message)} bytes")
    version, mode = message[0] >> 4, message[0] & (_LARGE - 1)
    if version != _VERSION or mode not in _CODERS:
        found, fix = f"version {version}, entropy coder {mode}", "update aekit, if this is a message"
        raise CodesError("a message", expected=f"version {_VERSION}", found=found, fix=fix)
    return MessageHead(_CODERS[mode], message[1 : 1 + _MODEL].hex())


class Messages:
    """Packs images into messages and unpacks them, with one model. Raises BundleError if it has no entropy models."""

    def __init__(self, codec: Codec) -> None:
        """Use this codec, and the entropy models in its model.json."""
        self._codec, tables = codec, read_tables(codec.bundle)
        self._coders = GridCoders(tables)
        identity = f"{codec.model_id} {codec.bundle.variant} {tables.digest}"
        self.mark = hashlib.sha256(identity.encode()).digest()[:_MODEL]
        """The model's mark, which every message has."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._codec,)  # a process reads the entropy models of the codec's bundle again

    @classmethod
    def load(cls, path: str = "model") -> Self:
        """Open the model folder `path`. Raises BundleError or SpecError as Codec.load does."""
        return cls(Codec.load(path))

    def pack(self, image: Pixels, *, quality: int | None = None) -> bytes:
        """Encode an image uint8 [H, W, C] to a message, at this quality if the model has several.

        Raises ShapeError if the image does not fit the model, or is too large for a message. An archive takes such an
        image.
        BundleError, OptionError and ProviderError are as in Codec.encode.
        """
        image = np.asarray(image)
        if not self._codec.spec.is_grid:
            return self.pack_code(self._codec.encode(image[None], "uint8", quality=quality)[0])
        return self.pack_code(self._codec.encode([image], "uint8", quality=quality))

    def pack_code(self, code: U8 | GridCodes) -> bytes:
        """Return the message of a code: uint8 [D], or GridCodes of one picture, uint8 too.

        Raises ShapeError if the picture is too large for a message.
        """
        if not isinstance(code, GridCodes):
            coder = self._coders.best
            head = bytes([_VERSION << 4 | coder.mode]) + self.mark
            return head + coder.encode([code[None, None]]) + _check(head, code)
        codes = code
        if codes[0].size > MAX_SYMBOLS:
            expected = f"a code of at most {MAX_SYMBOLS:,} numbers"
            raise ShapeError("a message", expected=expected, found=f"{codes[0].size:,}", fix="write an archive instead")
        (height, width), coder = codes.sizes[0], self._coders.best
        is_large = max(height, width) >= _SMALL_SIDE
        size = (
            (width << 16 | height).to_bytes(4, "little") if is_large else (width << 12 | height).to_bytes(3, "little")
        )
        head = bytes([_VERSION << 4 | is_large * _LARGE | coder.mode]) + self.mark + bytes(codes.qualities) + size
        return head + coder.encode([codes[0]], codes.qualities) + _check(head, codes[0])

    def size(self, codes: GridCodes) -> int:
        """Return the size of the whole message of one picture, in bytes, from its code.

        The code may be too large for a message. It is then coded in parts, as an archive codes it.
        """
        code, quality = codes.codes[0], codes.qualities
        parts = parts_of([(code.shape[0], code.shape[1])], code.shape[2]) if code.size > MAX_SYMBOLS else [Part(0, 1)]
        coded = sum(len(self._coders.best.encode(part.grids([code]), quality)) for part in parts)
        return 1 + _MODEL + len(quality) + (4 if max(codes.sizes[0]) >= _SMALL_SIDE else 3) + coded + _CHECK

    def unpack(self, message: bytes) -> Pixels:
        """Decode a message to an image uint8 [H, W, C].

        Raises CodesError for a message that is damaged, cut short or of a newer aekit, ModelMismatch for the message of
        another model. BundleError and ProviderError are as in Codec.decode.
        """
        code = self.unpack_code(message)
        return self._codec.decode(code if isinstance(code, GridCodes) else code[None])[0]

    def unpack_code(self, message: bytes) -> U8 | GridCodes:
        """Return the code in a message: uint8 [D], or GridCodes of one picture.

        Raises CodesError and ModelMismatch as `unpack` does.
        """
        where, head = "a message", message[: 1 + _MODEL]
        if len(message) <= len(head) + _CHECK:
            raise CodesError(where, expected="a whole message", found=f"{len(message)} bytes")
        if head[0] >> 4 != _VERSION:
            raise CodesError(
                where, expected=f"version {_VERSION}", found=str(head[0] >> 4), fix="update aekit, if this is a message"
            )
        if head[1:] != self.mark:
            raise ModelMismatch(
                where, f"another model ({head[1:].hex()})", f"{self._codec.model_id} ({self.mark.hex()})"
            )
        body, check = message[len(head) : -_CHECK], message[-_CHECK:]
        if not self._codec.spec.is_grid:
            (grid,) = self._coders.of_mode(head[0] & 15, where).decode(body, [(1, 1)])
            _verify(head, grid, check)
            flat: U8 = grid[0, 0]
            return flat
        large, mode, qualities = bool(head[0] & _LARGE), head[0] & (_LARGE - 1), tuple[int, ...]()
        if self._codec.spec.has_qualities:
            head, body, qualities = head + body[:1], body[1:], tuple(body[:1])
            if not qualities or not 1 <= qualities[0] <= self._codec.spec.qualities:
                raise CodesError(where, expected="a quality of the model", found=str(list(qualities)))
        size = body[: 4 if large else 3]
        bits, head, body = (16 if large else 12), head + size, body[len(size) :]
        width, height = int.from_bytes(size, "little") >> bits, int.from_bytes(size, "little") & (1 << bits) - 1
        shape = self._codec.spec.grid.code_shape(height, width)
        if not (height and width) or shape[0] * shape[1] * self._codec.spec.code_dim > MAX_SYMBOLS:
            raise CodesError(where, expected="the size of a picture", found=f"{width}x{height} pixels")
        (code,) = self._coders.of_mode(mode, where).decode(body, [shape], qualities)
        _verify(head, code, check)
        return GridCodes((code,), ((height, width),), qualities)


def _check(head: bytes, code: U8) -> bytes:
    return crc_of([code], zlib.crc32(head)).to_bytes(4, "little")[:_CHECK]


def _verify(head: bytes, code: U8, check: bytes) -> None:
    if _check(head, code) != check:
        raise CodesError("a message", expected="numbers that fit its check", found="others: it was altered")
