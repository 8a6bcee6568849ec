"""Entropy coder for codes: integer frequency tables, one a dimension, and rANS. It uses integers only.

    codes uint8 [n, D] ──encode──▶ header │ lane states │ 16-bit words │ escaped bytes ──decode──▶ codes uint8 [n, D]

A block of 4,096 codes takes less than 1 % more than its entropy, from one bit a value upwards. The coder of a sequence
of symbols is rans.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aekit.codes.lanes import U32
from aekit.codes.rans import PRECISION, TOTAL, Reader, encode_symbols
from aekit.errors import CodesError, ShapeError, TablesError

U8 = NDArray[np.uint8]
Sets = NDArray[np.int64] | None
"""Number of the set of tables of each code, from 0; None if there is one set."""

ESCAPE = 256
"""Symbol for a value without a frequency. The value itself follows as 8 raw bits. Symbols 0 to 255 are values."""
MAX_SYMBOLS = 1 << 22
"""Most values, n * D, in a block. It bounds the memory of a call: about 32 bytes a value."""


@dataclass(frozen=True, eq=False)
class FrequencyTables:
    """Expected frequency of each value in each dimension, as integers that sum to 2**PRECISION.

    Values too rare for a slot share one *escape* symbol and cost 8 more raw bits. A frequency of at least 1 for each
    value would also make every value codable. But that takes up to 6 % of the slots, or 0.09 bits from every symbol.

    There may be several *sets* of D tables, one for each quality of a model. A code is then coded with one of them.

    Raises TablesError when it is made from an array that is not of this form.
    """

    frequencies: NDArray[np.uint16]
    """uint16 [D, 257], D >= 1; column 256 is the escape. Each row sums to 4096; its escape is 1 to 4095. With several
    sets it is [sets · D, 257]."""
    sets: int = 1
    """Number of sets."""

    def __post_init__(self) -> None:
        table = self.frequencies
        if self.sets < 1 or len(table) % self.sets:
            raise TablesError("frequencies", expected=f"{self.sets} sets of equal size", found=f"{len(table)} rows")
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
        return cls.of_counts(np.stack([np.bincount(column, minlength=256) for column in codes.T]))

    @classmethod
    def of_counts(cls, counts: NDArray[np.int64]) -> FrequencyTables:
        """Fit tables to counts of the values, int64 [D, 256] with at least one count a dimension."""
        return cls(np.stack([_normalise(each) for each in counts]))

    @classmethod
    def joined(cls, sets: Sequence[FrequencyTables]) -> FrequencyTables:
        """Return tables of several sets, from tables of one set each."""
        return cls(np.concatenate([each.frequencies for each in sets]), len(sets))

    @property
    def dimensions(self) -> int:
        """Dimensions of a code, D."""
        return len(self.frequencies) // self.sets

    def to_dict(self) -> dict[str, Any]:
        """Return a form for JSON: each dimension's first value that has a frequency, the frequencies from there to the
        last such value, and the frequency of the escape. The number of sets is not part of it."""
        dimensions = []
        for *row, escape in self.frequencies.tolist():
            used = [value for value in range(ESCAPE) if row[value]]  # never empty, as the escape is below 4096
            dimensions.append({"first": used[0], "frequencies": row[used[0] : used[-1] + 1], "escape": escape})
        return {"precision": PRECISION, "dimensions": dimensions}

    @classmethod
    def from_dict(cls, data: dict[str, Any], sets: int = 1) -> FrequencyTables:
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
        return cls(table, sets)

    def entropy_bits(self, codes: U8, sets: Sets = None) -> float:
        """Return the ideal size of codes, uint8 [n, D], under these tables, in bits. Raw escaped values are included.

        The size is computed in floats, for reports; nothing in coding depends on it. Raises ShapeError if `codes` does
        not fit the tables or has over MAX_SYMBOLS values.
        """
        freq, start = (table.take(_flat_index(codes, self, sets)) for table in self.of_values)
        return float(np.sum(PRECISION - np.log2(freq)) + 8 * np.count_nonzero(freq + start == TOTAL))

    @cached_property
    def _expected_bits(self) -> NDArray[np.int64]:
        """Expected bits of a code of each set, with each logarithm rounded up to 1/16 bit. Integers, because the bytes
        that `encode` writes depend on them."""
        each = [f * (193 - (f**16).bit_length()) for f in self.frequencies.ravel().tolist()]
        return np.array(each, np.int64).reshape(self.sets, -1).sum(1) // (16 * TOTAL)

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Dimensions in coding order, int64 [D]: the most predictable first, by the sum over sets. The encoder starts
        with the last ones, whose bits it needs to open lanes."""
        greatest = self.frequencies.max(axis=1).astype(np.int64)
        return np.argsort(-greatest.reshape(self.sets, -1).sum(0), kind="stable")

    @cached_property
    def of_values(self) -> tuple[U32, U32]:
        """Frequency and first slot of the symbol that codes each value, uint32 [D * 256] each. The symbol is the
        value's own or the escape."""
        symbols = np.where(self.frequencies[:, :ESCAPE] > 0, np.arange(ESCAPE), ESCAPE)
        starts = np.cumsum(self.frequencies, axis=1, dtype=np.uint32) - self.frequencies
        # The escape's slots come last. So frequency + first slot is 4096 for escaped values only.
        freq, start = (np.take_along_axis(table, symbols, 1).ravel() for table in (self.frequencies, starts))
        return freq.astype(np.uint32), start.astype(np.uint32)

    @cached_property
    def of_slots(self) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        """Symbol of each slot, uint16 [D * 4096]; and its frequency and rank, uint64 [D * 4096]. The two are packed as
        uint32 into one number, so that one lookup fetches both."""
        flat = self.frequencies.ravel()
        symbols = np.repeat(np.tile(np.arange(ESCAPE + 1, dtype=np.uint16), len(self.frequencies)), flat)
        ranks = np.arange(symbols.size) - np.repeat(np.cumsum(flat, dtype=np.int64) - flat, flat)
        return symbols, np.stack([np.repeat(flat, flat), ranks], axis=1).astype(np.uint32).view(np.uint64).ravel()


def encode(codes: U8, tables: FrequencyTables, sets: Sets = None) -> bytes:
    """Encode codes, uint8 [n, D], into bytes. The bytes are the same on every machine.

    `sets` is the set of tables of each code, int64 [n]; None for tables of one set. Raises ShapeError if `codes` has
    another dtype, does not fit the tables, or has over MAX_SYMBOLS values.
    """
    index = _flat_index(codes, tables, sets)
    if not index.size:
        return b""
    freq, start = (table.take(index) for table in tables.of_values)
    escaped = index[freq + start == TOTAL].astype(np.uint8)
    expected = tables._expected_bits[0] * len(codes) if sets is None else tables._expected_bits[sets].sum()
    return encode_symbols(freq, start, int(expected)) + escaped.tobytes()


def decode(data: bytes, n: int, tables: FrequencyTables, sets: Sets = None) -> U8:
    """Decode the bytes that `encode` made from n codes. Returns uint8 [n, D]. It uses integer arithmetic only.

    `sets` is the set of tables of each code, as `encode` was given it.

    Raises CodesError for bytes that `encode` can't have written, and ShapeError for n < 0 or n * D > MAX_SYMBOLS.
    Altered bytes can also decode to wrong codes without an error, so the container must have a checksum.
    """
    dimensions, size = tables.dimensions, n * tables.dimensions
    if not 0 <= size <= MAX_SYMBOLS:
        raise ShapeError(f"a block must have 0 to {MAX_SYMBOLS} symbols; found {n} codes of {dimensions}")
    if not size and not data:
        return np.empty((0, dimensions), np.uint8)
    reader = Reader(data, size)
    slots = np.repeat(tables._order * TOTAL, n)
    if sets is not None:
        slots += np.tile(sets * (dimensions * TOTAL), dimensions)
    reader.read(slots, tables.of_slots[1])
    symbols = tables.of_slots[0].take(slots)
    escaped = (symbols == ESCAPE).nonzero()[0]
    raw = np.frombuffer(data, np.uint8, offset=reader.end())
    if raw.size != escaped.size:
        raise CodesError("the lanes or the bytes don't end where the encoder began")
    symbols[escaped] = raw
    codes = np.empty((n, dimensions), np.uint8)
    for d, column in zip(tables._order, symbols.reshape(dimensions, n), strict=True):
        codes[:, d] = column  # four times as fast as numpy's own copy of a transposed array
    return codes


def _flat_index(codes: U8, tables: FrequencyTables, sets: Sets) -> NDArray[np.int64]:
    """Return table * 256 + value for each symbol in coding order, int64 [D * n]. Symbols of one dimension are
    neighbours, so that its table stays in the cache."""
    if codes.dtype != np.uint8 or codes.shape[1:] != (tables.dimensions,) or codes.size > MAX_SYMBOLS:
        expected = f"uint8 [n, {tables.dimensions}] with at most {MAX_SYMBOLS} values"
        raise ShapeError(f"codes must be {expected}; found {codes.dtype} {list(codes.shape)}")
    index = codes.T[tables._order] + tables._order[:, None] * 256
    if sets is not None:
        index += sets * (tables.dimensions * 256)
    return index.ravel()


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
