"""Delay SIGINT and SIGTERM where Python or a library would lose the KeyboardInterrupt that their handlers raise."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def signals_delayed() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until the block ends; the first that arrived is then handled.

    Ignored signals stay ignored. Handlers run in the main thread alone, so in other threads nothing is delayed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived = list[int]()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    delayed = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in delayed:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in delayed.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
