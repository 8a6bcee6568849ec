"""Lanes of interleaved rANS and the stack of their words: how lanes double without a cost, and merge again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aekit.errors import CodesError

U32 = NDArray[np.uint32]

ONE, WORD, FLOOR = np.uint32(1), np.uint32(16), np.uint32(1 << 16)
# Between steps each lane is in [FLOOR, 2**32). A lane without room gives off a word of 16 bits; a low one takes a word.


@dataclass
class Stack:
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


def split(lanes: U32, stack: Stack) -> U32:
    """Double the lanes: pop the states of the new ones off these lanes and the stack. It undoes `merge`."""
    # States are about log-uniform. So 4 even bits for the bit length and the bits below the leading one waste nothing.
    lanes = lanes.copy()
    length = _pop_bits(lanes, np.uint32(4), stack)
    high = (ONE << length) + _pop_bits(lanes, length, stack)
    return np.concatenate([lanes, high << WORD | stack.pop(lanes.size)])


def merge(lanes: U32, stack: Stack) -> U32:
    """Close the upper half of the lanes: push their states onto the stack and the lower half."""
    lanes, closing = lanes[: lanes.size // 2].copy(), lanes[lanes.size // 2 :]
    stack.push(closing)
    high = closing >> WORD
    length = np.searchsorted(1 << np.arange(1, 16), high, side="right").astype(np.uint32)
    _push_bits(lanes, high - (ONE << length), length, stack)
    _push_bits(lanes, length, np.uint32(4), stack)
    return lanes


def _pop_bits(lanes: U32, bits: U32 | np.uint32, stack: Stack) -> U32:
    """Remove the low `bits` (0 to 15) of each lane, in place, and return them. Refill low lanes from the stack."""
    values = lanes & (ONE << bits) - ONE
    lanes >>= bits
    low = (lanes < FLOOR).nonzero()[0]
    lanes[low] = lanes[low] << WORD | stack.pop(low.size)
    return values


def _push_bits(lanes: U32, values: U32, bits: U32 | np.uint32, stack: Stack) -> None:
    """Add each value's `bits` (0 to 15) below its lane, in place. Lanes without room push a word first."""
    full = (lanes >> 32 - bits).nonzero()[0]  # for bits of 0 numpy defines the shift by 32: it leaves nothing
    stack.push(lanes[full])
    lanes[full] >>= WORD
    lanes[:] = lanes << bits | values
