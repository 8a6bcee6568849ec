"""Run a plain function over pieces of work: in this thread, in threads or in processes; ordered, in bounded memory.

pieces ──▶ function in `count` workers ──▶ results, in the order of the pieces

When a process dies (the system may kill it for its memory), only the piece that it worked on is affected. A new process
tries that piece once more. If it dies too, WorkerError names the piece and the signal.
"""

import contextlib
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol

from aekit.errors import OptionError, WorkerError
from aekit.signals import signals_delayed

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor
    from multiprocessing.connection import Connection

_AHEAD = 2
"""Number of pieces that a worker is given at a time. It starts on the second while the result of the first is used."""
_DYING = 5.0
"""Time in seconds that a process may take to end after it closed its pipe."""
MAX_WORKERS = 1024
"""Largest number of workers in a pool. More workers would exhaust the system's processes and not be faster."""

Kind = Literal["here", "threads", "processes"]


@dataclass(frozen=True)
class Plan:
    """How a pool works on pieces."""

    kind: Kind
    """Where the function runs: in this thread, in threads or in processes."""
    count: int = 1
    """Number of workers."""
    method: str = ""
    """How processes start: `fork` or `spawn`; if empty, `fork` where that is safe."""


HERE = Plan("here")
"""The plan to work in the calling thread."""


class Pool(Protocol):
    """Workers that have been started and know their function."""

    def map(self, pieces: Iterator[Any]) -> Iterator[Any]:
        """Yield the function's results in the order of the pieces. Errors of the function are raised here."""
        ...


def worth(seconds: float) -> bool:
    """Return whether work that takes this many seconds is worth starting processes for.

    A fork takes milliseconds. A new Python, which systems without fork need, takes most of a second.
    """
    return seconds > (0.1 if _may_fork() else 1.0)


@contextlib.contextmanager
def pool(function: Callable[[Any], Any], plan: Plan, naming: Callable[[Any], str] = str) -> Iterator[Pool]:
    """Start workers for `function`. They end when the `with` block ends. `naming` returns a piece's name for errors.

    Processes start at once, before the first piece is known, so that they are forked before any threads exist.
    With processes, `function`, pieces and results must be picklable.

    Raises OptionError if `plan` has more than MAX_WORKERS workers, or none. `map` raises WorkerError if two processes
    die on the same piece.
    """
    if not 1 <= plan.count <= MAX_WORKERS:
        raise OptionError("workers", expected=f"1 to {MAX_WORKERS:,}", found=f"{plan.count:,}"[:80])
    if plan.kind == "here":
        yield _Here(function)
    elif plan.kind == "threads":
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(plan.count) as executor:
            yield _Threads(function, executor, plan.count)
    else:
        with contextlib.ExitStack() as stack:
            with signals_delayed():  # until all processes are known, so that none is left behind
                processes = stack.enter_context(contextlib.closing(_Processes(function, plan, naming)))
            yield processes


class _Here:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def map(self, pieces: Iterator[Any]) -> Iterator[Any]:
        return map(self._function, pieces)


class _Threads:
    def __init__(self, function: Callable[[Any], Any], executor: "ThreadPoolExecutor", count: int) -> None:
        self._function, self._executor, self._most = function, executor, count * _AHEAD

    def map(self, pieces: Iterator[Any]) -> Iterator[Any]:
        futures = deque(self._executor.submit(self._function, piece) for piece in islice(pieces, self._most))
        try:
            while futures:
                yield futures.popleft().result()
                futures.extend(self._executor.submit(self._function, piece) for piece in islice(pieces, 1))
        finally:
            for future in futures:
                future.cancel()


class _Process:
    """A worker process, our end of its pipe, and the numbered pieces that it has not answered yet, in order."""

    def __init__(self, context: Any, function: Callable[[Any], Any]) -> None:
        self.pipe, theirs = context.Pipe()
        self.given: deque[tuple[int, Any]] = deque()
        self.process = context.Process(target=_work, args=(theirs, self.pipe, function), daemon=True)
        # Python runs its own functions after a fork, and drops what a signal's handler raises in them.
        with signals_delayed():
            self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def send(self, number: int, piece: Any) -> None:
        self.given.append((number, piece))
        with contextlib.suppress(OSError):  # it died: the next recv finds out, and another gets the piece
            self.pipe.send(piece)

    def end(self) -> None:
        """Kill the process: its answers have been read or are no longer wanted.

        A stopped process (SIGSTOP) takes no notice of SIGTERM, only of SIGKILL: join would wait for ever.
        """
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Processes:
    def __init__(self, function: Callable[[Any], Any], plan: Plan, naming: Callable[[Any], str]) -> None:
        import multiprocessing

        self._context = multiprocessing.get_context(plan.method or ("fork" if _may_fork() else "spawn"))
        self._function, self._naming = function, naming
        self._workers = [_Process(self._context, function) for _ in range(plan.count)]

    def map(self, pieces: Iterator[Any]) -> Iterator[Any]:
        from multiprocessing.connection import wait

        fresh, most = enumerate(pieces), len(self._workers) * (_AHEAD + 1)
        again: deque[tuple[int, Any]] = deque()
        done: dict[int, Any] = {}
        following = started = 0
        retried: set[int] = set()
        while True:
            while (again or started < following + most) and (worker := self._freest()):
                numbered = again.popleft() if again else next(fresh, None)
                if numbered is None:
                    break
                started = max(started, numbered[0] + 1)
                worker.send(*numbered)
            if following in done:
                yield done.pop(following)
                following += 1
                continue
            busy = [worker for worker in self._workers if worker.given]
            if not busy:
                return
            ready = wait([worker.pipe for worker in busy])
            for worker in busy:
                if worker.pipe in ready and not self._hear(worker, done):
                    again.extend(self._replaced(worker, retried))

    def _freest(self) -> _Process | None:
        worker = min(self._workers, key=lambda worker: len(worker.given))
        return worker if len(worker.given) < _AHEAD else None

    def _hear(self, worker: _Process, done: dict[int, Any]) -> bool:
        """Receive an answer. Returns False if none can come, because the process died."""
        try:
            error, result = worker.pipe.recv()
        except (EOFError, OSError):
            return False
        if error is not None:
            raise error
        done[worker.given.popleft()[0]] = result
        return True

    def _replaced(self, worker: _Process, retried: set[int]) -> list[tuple[int, Any]]:
        """Put a new process in the place of a dead one. Returns the pieces to give out again."""
        worker.process.join(_DYING)
        worker.process.kill()  # its pipe is broken, so it is of no use even if it lives
        worker.process.join()
        number, piece = worker.given[0]
        if number in retried:
            raise WorkerError(self._naming(piece), _ending(worker.process.exitcode or 0))
        retried.add(number)
        self._workers[self._workers.index(worker)] = _Process(self._context, self._function)
        worker.pipe.close()
        return list(worker.given)

    def close(self) -> None:
        for worker in self._workers:
            worker.end()


def _work(pipe: "Connection", other_end: "Connection", function: Callable[[Any], Any]) -> None:
    """Run in a worker process: answer pieces until the pipe ends."""
    other_end.close()  # otherwise the pipe would stay open when the parent ends
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler raises, and code could swallow that
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the parent ends us
    warnings.simplefilter("ignore")  # as in the command: an image's record says why it could not be read
    answer: tuple[Exception | None, Any]
    while True:
        try:
            piece = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = None, function(piece)
        except Exception as error:  # raised again in the parent, by `map`
            answer = error, None
        try:
            _answer(pipe, answer)
        except BrokenPipeError:
            return


def _answer(pipe: "Connection", answer: tuple[Exception | None, Any]) -> None:
    try:
        pipe.send(answer)
    except MemoryError as error:  # raised by pickling, before any byte was sent
        answer = error, None
        pipe.send(answer)


def _may_fork() -> bool:
    """Return whether a fork is safe: this process has no threads of its own, of onnxruntime or of torch."""
    return (
        sys.platform == "linux"
        and threading.active_count() == 1
        and not {"onnxruntime", "torch"}.intersection(sys.modules)
    )


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
