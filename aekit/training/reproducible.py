"""Make a run repeatable and interruptible: seeded chance for each step, and signals that wait for a step to end."""

import hashlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

StopSignal = threading.Event
"""An event that is set once the user asks a run to stop."""


def generator(*key: int) -> torch.Generator:
    """Return a random generator that depends on `key` alone, such as the seed and the step. So resuming a run needs no
    saved state of a generator."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Make torch treat denormal floats as zero inside. Denormal weights and averages slow the CPU several times."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def stop_on_signal() -> Iterator[StopSignal]:
    """Yield an event that SIGINT or SIGTERM sets, so that the current step can end. A second signal acts as usual.

    Outside the main thread no signal sets it: Python allows signal handlers only there.
    """
    stop = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask_to_stop(number: int, _: Any) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
