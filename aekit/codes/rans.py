"""Interleaved rANS in numpy: a sequence of symbols, each with its own frequencies, to bytes and back. Integers only.

    frequency and start of each symbol ──encode──▶ header │ lane states │ 16-bit words ──Reader──▶ slots of each symbol

Each numpy call advances many rANS states, the *lanes*, together. More lanes are faster, but a lane usually costs about
three bytes to open and flush. So a block starts with few lanes. The encoder opens each later lane by popping its state
off the data coded so far, and closes it by pushing the state back. This costs no bits (ENTROPY.md).

The reader is asked for symbols in portions of any size. So the tables of a portion may depend on the symbols before it.

Sources: J. Duda, arXiv:1311.2540 (rANS); F. Giesen, arXiv:1402.3392 (interleaving); J. Townsend et al.,
arXiv:1901.04866 (bits back: a choice that is free to make can be popped from the data).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aekit.codes.lanes import FLOOR, U32, WORD, Stack, merge, split
from aekit.errors import CodesError

PRECISION = 12
"""Bits of a frequency: the frequencies of a table sum to 2**12. Its lookup table, 32 KiB, fits a first-level cache."""
TOTAL = 1 << PRECISION
MAX_LANES = 4096
"""Most lanes. With more, the cost of a numpy call is no longer noticeable."""
BITS_PER_FIRST_LANE = 6000
"""Expected bits of a block for each lane it starts with. Such a lane costs about 24 bits: 0.4 % of these."""
SYMBOLS_PER_FIRST_LANE = 1 << 15
"""Most symbols of a block for each lane it starts with. It adds lanes to blocks of very few bits."""
SYMBOLS_TO_DOUBLE = 2048
"""Symbols that must remain for the lanes to be doubled. With fewer, the byte it adds to the header costs too much."""
STEPS_TO_DOUBLE = 32
"""Steps that must remain for the lanes to be doubled. With fewer, doubling takes more time than it saves."""
STEP_COUNTS = range(4, 1024, 4)
"""Steps that may lie between two doublings: a byte of the header stores a fourth of the number."""
_FEW_SYMBOLS = 1 << 14
"""Symbols that are turned into Python's integers at a time."""
FEW_LANES = 16
"""Most lanes that Python's own integers advance faster than numpy does. The bytes are the same."""


def encode_symbols(freq: U32, start: U32, expected_bits: int) -> bytes:
    """Encode symbols by their frequencies and first slots, uint32 [n] each, n >= 1.

    `expected_bits` decides with how many lanes the block starts. It must be an integer that is the same everywhere.
    """
    stop = freq.size
    limit, spare = freq << 32 - PRECISION, TOTAL - freq
    stack = Stack(
        np.empty(stop + 3 * MAX_LANES, np.uint32), stacked=0
    )  # at most: a word a symbol, three to close a lane
    first = max(expected_bits // BITS_PER_FIRST_LANE, stop // SYMBOLS_PER_FIRST_LANE, 1)
    first = 1 << min(first, MAX_LANES).bit_length() - 1
    lanes, runs, steps = np.full(first, FLOOR), list[int](), 0
    while stop:  # from the end, because rANS is last in, first out: so the decoder goes upwards
        if lanes.size <= FEW_LANES:
            stop, steps = _push_few(lanes, freq, start, stop, steps, stack)
        else:
            x = lanes[:stop]
            step = slice(stop - x.size, stop)
            full = (x >= limit[step]).nonzero()[0]
            overflow = x.take(full)
            stack.push(overflow)
            x[full] = overflow >> WORD
            x += x // freq[step] * spare[step] + start[step]  # (x // f) * 4096 + x % f + start, without a remainder
            stop, steps = step.start, steps + 1
        if _pays(lanes.size, stop, steps, stack.stacked):
            runs.append(steps // 4)
            lanes, steps = split(lanes, stack), 0
    while lanes.size > first:
        lanes = merge(lanes, stack)
    header = np.array([first.bit_length() - 1 | len(runs) << 4, *runs], np.uint8)
    parts = (header, lanes.astype("<u4"), stack.pop(stack.stacked).astype("<u2"))
    return b"".join(part.tobytes() for part in parts)


def _pays(width: int, stop: int, steps: int, stacked: int) -> bool:
    """Tell whether the encoder doubles its lanes. Opening a lane can take three words."""
    left = stop >= SYMBOLS_TO_DOUBLE and stop >= STEPS_TO_DOUBLE * width
    return left and 2 * width <= MAX_LANES and stacked >= 3 * width and steps in STEP_COUNTS


def _push_few(lanes: U32, freq: U32, start: U32, stop: int, steps: int, stack: Stack) -> tuple[int, int]:
    """Encode symbols with few lanes until no symbol is left or doubling pays; return `stop` and `steps` then."""
    states, width = lanes.tolist(), lanes.size
    words, top = stack.words.data, stack.words.size - stack.stacked
    least, ready = max(SYMBOLS_TO_DOUBLE, STEPS_TO_DOUBLE * width), stack.words.size - 3 * width  # see _pays
    lane, pays = min(width, stop), False
    while stop and not pays:
        begin = max(stop - _FEW_SYMBOLS, 0)  # Python reads its own lists faster than arrays
        for f, first in zip(freq[begin:stop][::-1].tolist(), start[begin:stop][::-1].tolist(), strict=True):
            lane -= 1
            stop -= 1
            x = states[lane]
            if x >> 32 - PRECISION >= f:
                top -= 1
                words[top] = x & 0xFFFF
                x >>= 16
            states[lane] = x + x // f * (TOTAL - f) + first
            if not lane:
                lane = width if width < stop else stop
                steps += 1
                if top <= ready and stop >= least and steps in STEP_COUNTS:
                    pays = True
                    break
    lanes[:], stack.stacked = states, stack.words.size - top
    return stop, steps


class Reader:
    """Decoder of the bytes that `encode_symbols` made of `size` symbols, with any bytes of the caller after them.

    Raises CodesError for a header that `encode_symbols` can't have written.
    """

    def __init__(self, data: bytes, size: int) -> None:
        head = data[0] if size and data else 255  # 255 means too many lanes, so it is refused as bytes for no codes are
        first, doublings = 1 << (head & 15), head >> 4
        self._body = 1 + doublings + 4 * first
        if first << doublings > MAX_LANES or first << 16 < size or len(data) < self._body:  # at most 65,536 steps
            raise CodesError(f"{first} lanes doubled {doublings} times don't fit {len(data)} bytes of {size} symbols")
        runs = [4 * steps for steps in data[1 : 1 + doublings]]
        self._left = size - sum(steps * (first << doubled) for doubled, steps in enumerate(runs))
        self._lanes = np.frombuffer(data, "<u4", first, self._body - 4 * first).astype(np.uint32)
        if self._left < 0 or (self._lanes < FLOOR).any():
            raise CodesError("the header counts more symbols than there are, or a lane's state is below 65536")
        words = (len(data) - self._body) // 2  # the last ones may be bytes of the caller
        self._stack = Stack(np.frombuffer(data, "<u2", words, self._body).astype(np.uint32), words)
        self._runs, self._lane = runs, 0
        for _ in runs:
            self._lanes = split(self._lanes, self._stack)

    def read(self, slots: NDArray[np.int64], updates: NDArray[np.uint64]) -> None:
        """Decode the next `slots.size` symbols.

        `slots`, int64 [n], holds the first row of each symbol's table in `updates`; the symbol's slot is added in
        place. A row of `updates` is the frequency and the rank of a slot, two uint32 packed as one uint64.
        Raises CodesError if the words end before the symbols do.
        """
        begin = 0
        while begin < slots.size:
            while not self._left:
                self._next_run()
            part = slots[begin : begin + self._left]
            (self._read_few if self._lanes.size <= FEW_LANES else self._read_many)(part, updates)
            begin += part.size
            self._left -= part.size

    def _read_many(self, part: NDArray[np.int64], updates: NDArray[np.uint64]) -> None:
        lanes, lane, stack = self._lanes, self._lane, self._stack
        # Only the first step of a run is short. A portion may end and the next one begin within a step.
        end = self._left % lanes.size or lanes.size
        done = 0
        while done < part.size:
            x = lanes[lane : lane + min(end, part.size) - done]
            slot = part[done : done + x.size]
            slot += x & TOTAL - 1
            freq_and_rank = updates.take(slot).view(np.uint32)
            x >>= PRECISION
            x *= freq_and_rank[::2]
            x += freq_and_rank[1::2]
            low = (x < FLOOR).nonzero()[0]
            x[low] = x.take(low) << WORD | stack.pop(low.size)
            done, lane = done + x.size, lane + x.size
            if done == end:
                lane, end = 0, end + lanes.size
        self._lane = lane

    def _read_few(self, part: NDArray[np.int64], updates: NDArray[np.uint64]) -> None:
        """Do the same one symbol at a time."""
        states, lane, width = self._lanes.tolist(), self._lane, self._lanes.size
        slots, words = part.tolist(), self._stack.words.data
        freq_and_rank = updates.view(np.uint32).data
        last = lane + (self._left % width or width)
        top = len(words) - self._stack.stacked
        for index, row in enumerate(slots):
            x = states[lane]
            slots[index] = slot = row + (x & TOTAL - 1)
            x = freq_and_rank[2 * slot] * (x >> PRECISION) + freq_and_rank[2 * slot + 1]
            if x < 1 << 16:
                if top == len(words):
                    raise CodesError("the words end before the codes do")
                x = x << 16 | words[top]
                top += 1
            states[lane] = x
            lane += 1
            if lane == last:
                lane, last = 0, width
        part[:] = slots
        self._lanes[:], self._lane, self._stack.stacked = states, lane, len(words) - top

    def _next_run(self) -> None:
        if not self._runs:
            raise CodesError("more symbols were asked for than there are")
        steps = self._runs.pop()
        self._lanes = merge(self._lanes, self._stack)
        self._left = steps * self._lanes.size

    def end(self) -> int:
        """Check that all symbols were read and the lanes are as the encoder began; return where the words end in
        `data`. Raises CodesError otherwise."""
        while self._runs and not self._left:
            self._next_run()
        if self._left or (self._lanes != FLOOR).any():
            raise CodesError("the lanes or the bytes don't end where the encoder began")
        return self._body + 2 * (self._stack.words.size - self._stack.stacked)
