"""Entropy coder for codes: integer frequency tables, and interleaved rANS in numpy. It uses integers only.

    codes uint8 [n, D] ──encode──▶ header │ lane states │ 16-bit words │ escaped bytes ──decode──▶ codes uint8 [n, D]

Each numpy call advances many rANS states, the *lanes*, together. More lanes are faster, but a lane usually costs about
three bytes to open and flush. So a block starts with few lanes. The encoder opens each later lane by popping its state
off the data coded so far, and closes it by pushing the state back. This costs no bits (ENTROPY.md). A block of 4,096
codes takes less than 1 % more than its entropy, from one bit a value upwards.

Sources: J. Duda, arXiv:1311.2540 (rANS); F. Giesen, arXiv:1402.3392 (interleaving); J. Townsend et al.,
arXiv:1901.04866 (bits back: a choice that is free to make can be popped from the data).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.errors import CodesError, ShapeError, TablesError

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

PRECISION = 12
"""Bits of a frequency: a dimension's frequencies sum to 2**12. Its lookup table, 32 KiB, fits a first-level cache."""
TOTAL = 1 << PRECISION
ESCAPE = 256
"""Symbol for a value without a frequency. The value itself follows as 8 raw bits. Symbols 0 to 255 are values."""
MAX_LANES = 4096
"""Most lanes. With more, the cost of a numpy call is no longer noticeable."""
MAX_SYMBOLS = 1 << 22
"""Most values, n * D, in a block. It bounds the memory of a call: about 32 bytes a value."""
BITS_PER_FIRST_LANE = 6000
"""Expected bits of a block for each lane it starts with. Such a lane costs about 24 bits: 0.4 % of these."""
SYMBOLS_PER_FIRST_LANE = 1 << 15
"""Most values of a block for each lane it starts with. It adds lanes to blocks of very few bits."""
SYMBOLS_TO_DOUBLE = 2048
"""Values that must remain for the lanes to be doubled. With fewer, the byte it adds to the header costs too much."""
STEPS_TO_DOUBLE = 32
"""Steps that must remain for the lanes to be doubled. With fewer, doubling takes more time than it saves."""
STEP_COUNTS = range(4, 1024, 4)
"""Steps that may lie between two doublings: a byte of the header stores a fourth of the number."""

ONE, WORD, FLOOR = np.uint32(1), np.uint32(16), np.uint32(1 << 16)
# Between steps each lane is in [FLOOR, 2**32). A lane without room gives off a word of 16 bits; a low one takes a word.


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """Expected frequency of each value in each dimension, as integers that sum to 2**PRECISION.

    Values too rare for a slot share one *escape* symbol and cost 8 more raw bits. A frequency of at least 1 for each
    value would also make every value codable. But that takes up to 6 % of the slots, or 0.09 bits from every symbol.

    Raises TablesError when it is made from an array that is not of this form.
    """

    frequencies: NDArray[np.uint16]
    """uint16 [D, 257], D >= 1; column 256 is the escape. Each row sums to 4096; its escape is 1 to 4095."""

    def __post_init__(self) -> None:
        table = self.frequencies
        if table.dtype != np.uint16 or table.ndim != 2 or not len(table) or table.shape[1] != ESCAPE + 1:
            raise TablesError(f"frequencies must be uint16 [D, 257], D >= 1; found {table.dtype} {list(table.shape)}")
        sums, escapes = table.sum(axis=1, dtype=np.int64), table[:, ESCAPE]
        for d in np.flatnonzero((sums != TOTAL) | (escapes < 1) | (escapes == TOTAL)):
            raise TablesError(f"dimension {d} must sum to {TOTAL}, its escape 1 to 4095; found {sums[d]}, {escapes[d]}")

    @classmethod
    def fit(cls, codes: U8) -> FrequencyTables:
        """Fit tables to training codes, uint8 [n, D], with integer arithmetic.

        Raises TablesError if `codes` has another dtype or number of dimensions, or is empty.
        """
        if codes.dtype != np.uint8 or codes.ndim != 2 or not codes.size:
            raise TablesError(f"codes must be uint8 [n, D], n and D >= 1; found {codes.dtype} {list(codes.shape)}")
        return cls(np.stack([_normalise(np.bincount(column, minlength=256)) for column in codes.T]))

    def to_dict(self) -> dict[str, Any]:
        """Return a form for JSON: each dimension's first value that has a frequency, the frequencies from there to the
        last such value, and the frequency of the escape."""
        dimensions = []
        for *row, escape in self.frequencies.tolist():
            used = [value for value in range(ESCAPE) if row[value]]  # never empty, as the escape is below 4096
            dimensions.append({"first": used[0], "frequencies": row[used[0] : used[-1] + 1], "escape": escape})
        return {"precision": PRECISION, "dimensions": dimensions}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FrequencyTables:
        """Return the tables of which `data` is the `to_dict`. Raises TablesError if `data` has another form."""
        try:
            table = np.zeros((len(data["dimensions"]), ESCAPE + 1), np.uint16)
            for row, entry in zip(table, data["dimensions"], strict=True):
                first, run, escape = entry["first"], entry["frequencies"], entry["escape"]
                whole = all(type(v) is int and 0 <= v <= TOTAL for v in (first, escape, *run))
                if data["precision"] != PRECISION or not whole:
                    raise ValueError(f"expected a precision of {PRECISION} bits and integers of 0 to {TOTAL}")
                row[:ESCAPE][first : first + len(run)], row[ESCAPE] = run, escape
        except (KeyError, TypeError, ValueError) as error:  # numpy raises ValueError for a run beyond value 255
            raise TablesError(f"frequency tables must be as to_dict writes them; found {error!r}") from error
        return cls(table)

    def entropy_bits(self, codes: U8) -> float:
        """Return the ideal size of codes, uint8 [n, D], under these tables, in bits. Raw escaped values are included.

        The size is computed in floats, for reports; nothing in coding depends on it. Raises ShapeError if `codes` does
        not fit the tables or has over MAX_SYMBOLS values.
        """
        freq, start = (table.take(_flat_index(codes, self)) for table in self._of_values)
        return float(np.sum(PRECISION - np.log2(freq)) + 8 * np.count_nonzero(freq + start == TOTAL))

    @cached_property
    def _expected_bits(self) -> int:
        """Expected bits of a code, with each logarithm rounded up to 1/16 bit. An integer, because the bytes that
        `encode` writes depend on it."""
        return sum(f * (193 - (f**16).bit_length()) for f in self.frequencies.ravel().tolist()) // (16 * TOTAL)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Dimensions in coding order, int64 [D]: the most predictable first. The encoder starts with the last
        ones, whose bits it needs to open lanes."""
        return np.argsort(-self.frequencies.max(axis=1).astype(np.int64), kind="stable")

    @cached_property
    def _of_values(self) -> tuple[U32, U32]:
        """Frequency and first slot of the symbol that codes each value, uint32 [D * 256] each. The symbol is the
        value's own or the escape."""
        symbols = np.where(self.frequencies[:, :ESCAPE] > 0, np.arange(ESCAPE), ESCAPE)
        starts = np.cumsum(self.frequencies, axis=1, dtype=np.uint32) - self.frequencies
        # The escape's slots come last. So frequency + first slot is 4096 for escaped values only.
        freq, start = (np.take_along_axis(table, symbols, 1).ravel() for table in (self.frequencies, starts))
        return freq.astype(np.uint32), start.astype(np.uint32)

    @cached_property
    def _of_slots(self) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        """Symbol of each slot, uint16 [D * 4096]; and its frequency and rank, uint64 [D * 4096]. The two are packed as
        uint32 into one number, so that one lookup fetches both."""
        flat = self.frequencies.ravel()
        symbols = np.repeat(np.tile(np.arange(ESCAPE + 1, dtype=np.uint16), len(self.frequencies)), flat)
        ranks = np.arange(symbols.size) - np.repeat(np.cumsum(flat, dtype=np.int64) - flat, flat)
        return symbols, np.stack([np.repeat(flat, flat), ranks], axis=1).astype(np.uint32).view(np.uint64).ravel()


def encode(codes: U8, tables: FrequencyTables) -> bytes:
    """Encode codes, uint8 [n, D], into bytes. The bytes are the same on every machine.

    Raises ShapeError if `codes` has another dtype, does not fit the tables, or has over MAX_SYMBOLS values.
    """
    index = _flat_index(codes, tables)
    if not (stop := index.size):
        return b""
    freq, start = (table.take(index) for table in tables._of_values)
    limit, spare = freq << 32 - PRECISION, TOTAL - freq
    escaped = index[freq + start == TOTAL].astype(np.uint8)
    stack = _Stack(
        np.empty(stop + 3 * MAX_LANES, np.uint32), stacked=0
    )  # at most: a word a symbol, three to close a lane
    first = max(tables._expected_bits * len(codes) // BITS_PER_FIRST_LANE, stop // SYMBOLS_PER_FIRST_LANE, 1)
    first = 1 << min(first, MAX_LANES).bit_length() - 1
    lanes, runs, steps = np.full(first, FLOOR), list[int](), 0
    while stop:  # from the end, because rANS is last in, first out: so the decoder goes upwards
        x = lanes[:stop]
        step = slice(stop - x.size, stop)
        full = (x >= limit[step]).nonzero()[0]
        overflow = x.take(full)
        stack.push(overflow)
        x[full] = overflow >> WORD
        x += x // freq[step] * spare[step] + start[step]  # (x // f) * 4096 + x % f + start, without a remainder
        stop, steps = step.start, steps + 1
        pays = 2 * lanes.size <= MAX_LANES and stop >= max(SYMBOLS_TO_DOUBLE, STEPS_TO_DOUBLE * lanes.size)
        if pays and stack.stacked >= 3 * lanes.size and steps in STEP_COUNTS:  # opening a lane can take three words
            runs.append(steps // 4)
            lanes, steps = _split(lanes, stack), 0
    while lanes.size > first:
        lanes = _merge(lanes, stack)
    header = np.array([first.bit_length() - 1 | len(runs) << 4, *runs], np.uint8)
    parts = (header, lanes.astype("<u4"), stack.pop(stack.stacked).astype("<u2"), escaped)
    return b"".join(part.tobytes() for part in parts)


def decode(data: bytes, n: int, tables: FrequencyTables) -> U8:
    """Decode the bytes that `encode` made from n codes. Returns uint8 [n, D]. It uses integer arithmetic only.

    Raises CodesError for bytes that `encode` can't have written, and ShapeError for n < 0 or n * D > MAX_SYMBOLS.
    Altered bytes can also decode to wrong codes without an error, so the container must have a checksum.
    """
    dimensions, size = len(tables.frequencies), n * len(tables.frequencies)
    if not 0 <= size <= MAX_SYMBOLS:
        raise ShapeError(f"a block must have 0 to {MAX_SYMBOLS} symbols; found {n} codes of {dimensions}")
    if not size and not data:
        return np.empty((0, dimensions), np.uint8)
    head = data[0] if size and data else 255  # 255 means too many lanes, so it is refused as bytes for no codes are
    first, doublings = 1 << (head & 15), head >> 4
    body = 1 + doublings + 4 * first
    if first << doublings > MAX_LANES or first << 16 < size or len(data) < body:  # so no block takes over 65,536 steps
        raise CodesError(f"{first} lanes doubled {doublings} times don't fit {len(data)} bytes of {size} symbols")
    runs = [4 * steps for steps in data[1 : 1 + doublings]]
    begin = size - sum(steps * (first << doubled) for doubled, steps in enumerate(runs))
    lanes = np.frombuffer(data, "<u4", first, body - 4 * first).astype(np.uint32)
    if begin < 0 or (lanes < FLOOR).any():
        raise CodesError("the header counts more symbols than there are, or a lane's state is below 65536")
    word_count = (len(data) - body) // 2  # the last ones may be bytes of escaped values
    stack = _Stack(np.frombuffer(data, "<u2", word_count, body).astype(np.uint32), word_count)
    for _ in runs:
        lanes = _split(lanes, stack)
    slots = np.repeat(tables._order * TOTAL, n)
    _decode_run(lanes, slots[:begin], tables, stack)
    for steps in reversed(runs):
        lanes = _merge(lanes, stack)
        _decode_run(lanes, slots[begin : begin + steps * lanes.size], tables, stack)
        begin += steps * lanes.size
    symbols = tables._of_slots[0].take(slots)
    escaped = (symbols == ESCAPE).nonzero()[0]
    raw = np.frombuffer(data, np.uint8, offset=body + 2 * (word_count - stack.stacked))
    if (lanes != FLOOR).any() or raw.size != escaped.size:
        raise CodesError("the lanes or the bytes don't end where the encoder began")
    symbols[escaped] = raw
    codes = np.empty((n, dimensions), np.uint8)
    for d, column in zip(tables._order, symbols.reshape(dimensions, n), strict=True):
        codes[:, d] = column  # four times as fast as numpy's own copy of a transposed array
    return codes


def _decode_run(lanes: U32, slots: NDArray[np.int64], tables: FrequencyTables, stack: _Stack) -> None:
    """Decode one symbol for each slot, `lanes.size` in a step; the first step takes the remainder. Adds the slots'
    numbers to `slots` in place."""
    updates, begin, end = tables._of_slots[1], 0, (slots.size - 1) % lanes.size + 1
    while begin < slots.size:
        x, slot = lanes[: end - begin], slots[begin:end]
        slot += x & TOTAL - 1
        freq_and_rank = updates.take(slot).view(np.uint32)
        x >>= PRECISION
        x *= freq_and_rank[::2]
        x += freq_and_rank[1::2]
        low = (x < FLOOR).nonzero()[0]
        x[low] = x.take(low) << WORD | stack.pop(low.size)
        begin, end = end, end + lanes.size


@dataclass
class _Stack:
    """Stack of 16-bit words, each in a uint32. It is the last `stacked` elements of `words`, the top first."""

    words: U32
    stacked: int

    def push(self, values: U32) -> None:
        end = self.words.size - self.stacked
        if values.size > end:
            raise CodesError("closing lanes gives back more words than were read")
        np.bitwise_and(values, FLOOR - ONE, self.words[end - values.size : end])
        self.stacked += values.size

    def pop(self, count: int) -> U32:
        begin = self.words.size - self.stacked
        if count > self.stacked:
            raise CodesError("the words end before the codes do")
        self.stacked -= count
        return self.words[begin : begin + count]


def _split(lanes: U32, stack: _Stack) -> U32:
    """Double the lanes: pop the states of the new ones off these lanes and the stack. It undoes `_merge`."""
    # States are about log-uniform. So 4 even bits for the bit length and the bits below the leading one waste nothing.
    lanes = lanes.copy()
    length = _pop_bits(lanes, np.uint32(4), stack)
    high = (ONE << length) + _pop_bits(lanes, length, stack)
    return np.concatenate([lanes, high << WORD | stack.pop(lanes.size)])


def _merge(lanes: U32, stack: _Stack) -> U32:
    """Close the upper half of the lanes: push their states onto the stack and the lower half."""
    lanes, closing = lanes[: lanes.size // 2].copy(), lanes[lanes.size // 2 :]
    stack.push(closing)
    high = closing >> WORD
    length = np.searchsorted(1 << np.arange(1, 16), high, side="right").astype(np.uint32)
    _push_bits(lanes, high - (ONE << length), length, stack)
    _push_bits(lanes, length, np.uint32(4), stack)
    return lanes


def _pop_bits(lanes: U32, bits: U32 | np.uint32, stack: _Stack) -> U32:
    """Remove the low `bits` (0 to 15) of each lane, in place, and return them. Refill low lanes from the stack."""
    values = lanes & (ONE << bits) - ONE
    lanes >>= bits
    low = (lanes < FLOOR).nonzero()[0]
    lanes[low] = lanes[low] << WORD | stack.pop(low.size)
    return values


def _push_bits(lanes: U32, values: U32, bits: U32 | np.uint32, stack: _Stack) -> None:
    """Add each value's `bits` (0 to 15) below its lane, in place. Lanes without room push a word first."""
    full = (lanes >> 32 - bits).nonzero()[0]  # for bits of 0 numpy defines the shift by 32: it leaves nothing
    stack.push(lanes[full])
    lanes[full] >>= WORD
    lanes[:] = lanes << bits | values


def _flat_index(codes: U8, tables: FrequencyTables) -> NDArray[np.int64]:
    """Return dimension * 256 + value for each symbol in coding order, int64 [D * n]. Symbols of one dimension are
    neighbours, so that its table stays in the cache."""
    if codes.dtype != np.uint8 or codes.shape[1:] != tables.frequencies.shape[:1] or codes.size > MAX_SYMBOLS:
        expected = f"uint8 [n, {len(tables.frequencies)}] with at most {MAX_SYMBOLS} values"
        raise ShapeError(f"codes must be {expected}; found {codes.dtype} {list(codes.shape)}")
    return (codes.T[tables._order] + tables._order[:, None] * 256).ravel()


def _normalise(counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Turn counts, int64 [256], into frequencies, uint16 [257], that sum to 4096, by the largest-remainder method."""
    total = int(counts.sum())
    # A slot costs every symbol log2(e) / 4096 bits, and saves its value about 8 bits each time. Rarer values escape.
    weights = np.append(np.where(16 * TOTAL * counts >= 3 * total, counts, 0), 0)
    # Good and Turing: unseen values are together as likely as the values seen once. Unseen values are escaped too.
    weights[ESCAPE] = max(1, total - int(weights.sum()) + int(np.count_nonzero(counts == 1)))
    shares, remainders = np.divmod(weights * TOTAL, weights.sum())
    frequencies = np.where(weights > 0, np.maximum(shares, 1), 0)
    missing = TOTAL - int(frequencies.sum())
    frequencies[np.argsort(-remainders, kind="stable")[: max(missing, 0)]] += 1
    for _ in range(-missing):
        frequencies[frequencies.argmax()] -= 1  # losing a slot costs the most frequent value least
    return frequencies.astype(np.uint16)
