"""What makes a run repeatable and interruptible: chance by place in the run, and signals that wait for a step's end."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

StopSignal = threading.Event


def generator(*key: int) -> torch.Generator:
    """Chance that depends on the seed and the place in the run alone, so that resuming needs no saved state."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Denormal floats count as zero inside: as weights and moments they make the CPU several times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def stop_on_signal() -> Iterator[StopSignal]:
    """An event that SIGINT or SIGTERM sets, so that a step is never cut in two; a second signal acts as usual."""
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
