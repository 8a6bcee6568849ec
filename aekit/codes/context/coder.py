"""Codes of pictures to bytes and back, with a context model.

    codes uint8 [h, w, K], several ──encode──▶ rANS │ escaped bytes, the first one last │ check ──decode──▶ codes

The encoder computes the tables of all symbols first, because it knows all symbols, and codes them backwards. The
decoder computes the tables of a pass from the symbols of earlier passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from aekit.codes.checksums import crc_of
from aekit.codes.context.model import ContextModel, in_passes
from aekit.codes.context.places import ZERO, Canvas, Codes
from aekit.codes.entropy import ESCAPE, MAX_SYMBOLS
from aekit.codes.rans import PRECISION, TOTAL, Reader, encode_symbols
from aekit.errors import CodesError, ShapeError

CHECK = 4
"""Bytes of the check at the end: the low bytes of the CRC-32 of all codes, little-endian."""
_BITS = np.array([0, *(193 - (f**16).bit_length() for f in range(1, TOTAL))], np.int64)
"""Bits of a symbol by its frequency, in sixteenths, rounded up. Integers, as the encoder's bytes depend on them."""


def encode(codes: Sequence[Codes], model: ContextModel, check: int = CHECK, qualities: Sequence[int] = ()) -> bytes:
    """Encode the codes of several pictures, uint8 [h, w, K] each. The bytes are the same on every machine.

    `check` is the number of bytes of the check, 2 to 4. `qualities` holds the quality of each picture, for a model
    that has several. Raises ShapeError if a code has another dtype or number of channels, or no place, or if there are
    over MAX_SYMBOLS symbols.
    """
    index, end = symbol_index(codes, model, qualities), _crc(codes, check)
    if not index.size:
        return end
    freq, start = (table.take(index) for table in model.tables.of_values)
    escaped = index[freq + start == TOTAL].astype(np.uint8)
    bits = int(_BITS.take(freq).sum()) // 16
    return encode_symbols(freq, start, bits) + escaped[::-1].tobytes() + end


def symbol_index(codes: Sequence[Codes], model: ContextModel, qualities: Sequence[int] = ()) -> NDArray[np.int64]:
    """Return table * 256 + value for each symbol in coding order, int64 [symbols].

    Raises ShapeError as `encode` does.
    """
    for code in codes:
        if code.dtype != np.uint8 or code.ndim != 3 or code.shape[2] != model.channels:
            raise ShapeError(
                "code", expected=f"uint8 [h, w, {model.channels}]", found=f"{code.dtype} {list(code.shape)}"
            )
    canvas = _canvas([code.shape[:2] for code in codes], model, qualities)
    if canvas is None:
        return np.empty(0, np.int64)
    canvas.fill(codes, model.order)
    parts = []
    for each, rows, pitch in in_passes(model, canvas):
        means, tables = each.predict(canvas, rows, pitch)
        values = canvas.planes[rows, each.planes].view(np.uint8) - means + np.uint8(ZERO)
        parts.append((tables * 256 + values).ravel())
    return np.concatenate(parts)


def entropy_bits(codes: Sequence[Codes], model: ContextModel, qualities: Sequence[int] = ()) -> float:
    """Return the ideal size of codes under the model, in bits, raw bytes of escapes included. For reports."""
    index = symbol_index(codes, model, qualities)
    freq, start = (table.take(index) for table in model.tables.of_values)
    return float(np.sum(PRECISION - np.log2(freq)) + 8 * np.count_nonzero(freq + start == TOTAL))


def decode(
    data: bytes,
    shapes: Sequence[tuple[int, int]],
    model: ContextModel,
    check: int = CHECK,
    qualities: Sequence[int] = (),
) -> list[Codes]:
    """Decode the bytes that `encode` made of codes with so many places, (h, w) each. Returns uint8 [h, w, K] each.

    Raises CodesError for damaged bytes or another model, and ShapeError for shapes that `encode` refuses.
    """
    canvas = _canvas(shapes, model, qualities)
    body = len(data) - check
    if body < 0 or (not canvas and body):
        raise CodesError("a block of codes", expected=f"{check} bytes of check at its end", found=f"{len(data)} bytes")
    codes = list[Codes]()
    if canvas is not None:
        _decode_planes(canvas, data[:body], model)
        flat, begin = canvas.codes(model.order), 0
        for h, w in shapes:
            codes.append(flat[begin : begin + h * w].reshape(h, w, model.channels))
            begin += h * w
    if _crc(codes, check) != data[body:]:
        raise CodesError(
            "a block of codes", expected="symbols that fit its check", found="others",
            fix="its bytes are damaged, or another context model made them",
        )  # fmt: skip
    return codes


def _decode_planes(canvas: Canvas, data: bytes, model: ContextModel) -> None:
    """Decode all passes of the canvas, in order."""
    reader, escapes = Reader(data, canvas.count * model.channels), 0
    of_symbol, updates = model.tables.of_slots
    for each, rows, pitch in in_passes(model, canvas):
        means, tables = each.predict(canvas, rows, pitch)
        slots = tables.ravel() * TOTAL
        reader.read(slots, updates)
        values = of_symbol.take(slots)
        escaped = (values == ESCAPE).nonzero()[0]
        if escaped.size:
            escapes += escaped.size
            if escapes > len(data):
                raise CodesError("a block of codes holds fewer escaped bytes than escapes")
            begin = len(data) - escapes
            values[escaped] = np.frombuffer(data, np.uint8, escaped.size, begin)[::-1]
        symbols = values.astype(np.uint8).reshape(means.shape) + means - np.uint8(ZERO)
        canvas.planes[rows, each.planes] = symbols.view(np.int8)
    if reader.end() + escapes != len(data):
        raise CodesError("the words and the escaped bytes of a block of codes don't meet")


def _canvas(shapes: Sequence[tuple[int, int]], model: ContextModel, qualities: Sequence[int]) -> Canvas | None:
    """Return an empty canvas for these pictures, or None if the list is empty."""
    if len(qualities) != (len(shapes) if model.qualities > 1 else 0):
        expected = "one for each picture" if model.qualities > 1 else "none: the model has one quality"
        raise ShapeError("qualities of a block of codes", expected=expected, found=str(len(qualities)))
    symbols = sum(h * w for h, w in shapes) * model.channels
    if symbols > MAX_SYMBOLS:
        raise ShapeError("a block of codes", expected=f"at most {MAX_SYMBOLS} symbols", found=str(symbols))
    return Canvas(shapes, model.channels, model.margin, qualities) if shapes else None


def _crc(codes: Iterable[Codes], size: int) -> bytes:
    return crc_of(codes).to_bytes(4, "little")[:size]
