"""ENTROPY.md's section on context, in Python integers: a symbol at a time, from the JSON form of a model."""

import base64
import zlib
from collections.abc import Iterator
from typing import Any

Grid = list[list[list[int]]]
"""A code as nested lists, [h][w][K]."""


def integers(text: str, size: int, signed: bool) -> list[int]:
    """Integers of `size` bytes, little-endian, in base64."""
    data = base64.b64decode(text)
    return [int.from_bytes(data[i : i + size], "little", signed=signed) for i in range(0, len(data), size)]


class PlainReader:
    """rANS as ENTROPY.md has it, one symbol at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        first, doublings = 1 << (data[0] & 15), data[0] >> 4
        at = 1 + doublings
        self.lanes = [int.from_bytes(data[at + 4 * i : at + 4 * i + 4], "little") for i in range(first)]
        at += 4 * first
        self.stack = [int.from_bytes(data[i : i + 2], "little") for i in range(at, len(data) - 1, 2)][::-1]
        self.at, self.words = at, len(self.stack)
        steps = [4 * quad for quad in data[1 : 1 + doublings]]
        for _ in range(doublings):
            lengths = self._pop_bits([4] * len(self.lanes))
            lower = self._pop_bits(lengths)
            self.lanes += [((1 << k | v) << 16) | self.stack.pop() for k, v in zip(lengths, lower, strict=True)]
        self.lane = self._lanes(size, first, steps)

    def _lanes(self, size: int, first: int, steps: list[int]) -> Iterator[int]:
        """The lane of each symbol in turn; merges the lanes where a run ends."""
        lasts = [count * (first << i) for i, count in enumerate(steps)]
        left = size - sum(lasts)
        while True:
            width = len(self.lanes)
            while left:
                step = left % width or width
                left -= step
                yield from range(step)
            if not lasts:
                return
            left = lasts.pop()
            self._merge()

    def _merge(self) -> None:
        width = len(self.lanes) // 2
        closing = self.lanes[width:]
        del self.lanes[width:]
        self.stack += [x & 0xFFFF for x in reversed(closing)]
        lengths = [(x >> 16).bit_length() - 1 for x in closing]
        self._push_bits([(x >> 16) - (1 << k) for x, k in zip(closing, lengths, strict=True)], lengths)
        self._push_bits(lengths, [4] * width)

    def _refill(self, i: int) -> None:
        if self.lanes[i] < 1 << 16:
            self.lanes[i] = self.lanes[i] << 16 | self.stack.pop()

    def _pop_bits(self, bits: list[int]) -> list[int]:
        values = [self.lanes[i] % (1 << b) for i, b in enumerate(bits)]
        for i, b in enumerate(bits):
            self.lanes[i] >>= b
            self._refill(i)
        return values

    def _push_bits(self, values: list[int], bits: list[int]) -> None:
        for i in [i for i, b in enumerate(bits) if self.lanes[i] >= 1 << (32 - b)][::-1]:
            self.stack.append(self.lanes[i] & 0xFFFF)
            self.lanes[i] >>= 16
        for i, b in enumerate(bits):
            self.lanes[i] = self.lanes[i] << b | values[i]

    def symbol(self, table: list[tuple[int, int]]) -> int:
        """The next symbol, by a table of (symbol, frequency)."""
        i, start = next(self.lane), 0
        slot, owners = self.lanes[i] % 4096, iter(table)
        symbol, frequency = next(owners)
        while slot >= start + frequency:
            start += frequency
            symbol, frequency = next(owners)
        self.lanes[i] = frequency * (self.lanes[i] >> 12) + slot - start
        self._refill(i)
        return symbol

    def end(self) -> int:
        """Where the words end."""
        for _ in self.lane:
            raise AssertionError("symbols are left")
        assert all(x == 1 << 16 for x in self.lanes)
        return self.at + 2 * (self.words - len(self.stack))


def plain_decode(
    data: bytes,
    shapes: list[tuple[int, int]],
    model: dict[str, Any],
    check: int = 4,
    qualities: list[int] | None = None,
) -> list[Grid]:
    """Decode a block of codes with so many places each, of these qualities, and a check of `check` bytes."""
    order, tables = model["order"], model["tables"]["dimensions"]
    owners = [
        [(entry["first"] + i, f) for i, f in enumerate(entry["frequencies"]) if f] + [(256, entry["escape"])]
        for entry in tables
    ]
    places = [(picture, y, x) for picture, (h, w) in enumerate(shapes) for y in range(h) for x in range(w)]
    values: dict[tuple[int, int, int, int], int] = {}  # (picture, y, x, channel in coding order): value, 128 less
    body, wanted = data[:-check], data[-check:]
    reader, escapes, before = PlainReader(body, len(places) * len(order)), 0, 0
    for group in model["groups"]:
        count, hidden, outputs = group["channels"], group["hidden"], 2 * group["channels"]
        weights = integers(group["weights"], 2, True)
        out_weights = integers(group["out_weights"], 2, True)
        hidden_bias, out_bias = (integers(group[name], 4, True) for name in ("hidden_bias", "out_bias"))
        hidden_shift, out_shift = (integers(group[name], 1, False) for name in ("hidden_shift", "out_shift"))
        for number, (step, y0, x0) in enumerate(group["lattices"]):
            held = {
                (dy, dx)
                for dy, dx in group["own"]
                if all(
                    any((y + dy - b) % s == 0 and (x + dx - c) % s == 0 for s, b, c in group["lattices"][:number])
                    for y in range(y0, 4, step)
                    for x in range(x0, 4, step)
                )
            }
            for picture, y, x in places:
                if y % step != y0 or x % step != x0:
                    continue
                h, w = shapes[picture]
                inputs = []
                for dy, dx in group["window"]:
                    inputs.append(16 if 0 <= y + dy < h and 0 <= x + dx < w else 0)
                    inputs += [values.get((picture, y + dy, x + dx, c), 0) for c in range(before)]
                for dy, dx in group["own"]:
                    for c in range(before, before + count):
                        is_held = (dy, dx) in held
                        inputs.append(values.get((picture, y + dy, x + dx, c), 0) if is_held else 0)
                width = hidden + outputs
                row = number + (qualities[picture] - 1) * len(group["lattices"]) if qualities else number
                sums = [sum(v * weights[i * width + j] for i, v in enumerate(inputs)) for j in range(width)]
                units = [
                    min(255, max(0, sums[j] + hidden_bias[row * hidden + j] >> hidden_shift[j])) for j in range(hidden)
                ]
                found = [
                    sums[hidden + k] + out_bias[row * outputs + k]
                    + sum(v * out_weights[j * outputs + k] for j, v in enumerate(units)) >> out_shift[k]
                    for k in range(outputs)
                ]  # fmt: skip
                for c in range(count):
                    mean = min(1023, max(-1024, found[c]))
                    scale = min(len(tables) // 8 - 1, max(0, found[count + c]))
                    residual = reader.symbol(owners[8 * scale + mean % 8])
                    if residual == 256:
                        escapes += 1
                        residual = body[-escapes]
                    symbol = (residual - 128 + (mean + 4 >> 3)) % 256
                    values[picture, y, x, before + c] = symbol - 256 if symbol > 127 else symbol
        before += count
    assert reader.end() + escapes == len(body)
    place_of = [order.index(channel) for channel in range(len(order))]
    codes = [
        [[[values[picture, y, x, place] + 128 for place in place_of] for x in range(w)] for y in range(h)]
        for picture, (h, w) in enumerate(shapes)
    ]
    flat = bytes(value for code in codes for row in code for place in row for value in place)
    assert zlib.crc32(flat).to_bytes(4, "little")[:check] == wanted
    return codes
