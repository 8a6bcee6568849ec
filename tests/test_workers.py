"""workers: results in order by every kind of worker; a process that dies takes nothing with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from aekit.errors import OptionError, WorkerError
from aekit.workers import HERE, Plan, pool

PLANS = [HERE, Plan("threads", 3), Plan("processes", 2, "fork"), Plan("processes", 2, "spawn")]


def slow_square(number: int) -> int:
    time.sleep(0.003 * (number % 3))  # so that pieces are not finished in their order
    return number * number


def die_once(marker: Path, number: int) -> int:
    """Kill the process on piece 5, the first time alone."""
    if number == 5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(number: int) -> int:
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave(number: int) -> int:
    os._exit(7)


def fail(number: int) -> int:
    if number == 3:
        raise OSError(28, "No space left on device")
    return number


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_results_come_in_order_whoever_makes_them(plan: Plan) -> None:
    with pool(slow_square, plan) as workers:
        assert list(workers.map(iter(range(40)))) == [number * number for number in range(40)]


@pytest.mark.parametrize("plan", PLANS[:3], ids=str)
def test_few_pieces_are_taken_ahead_of_the_results(plan: Plan) -> None:
    taken = 0

    def pieces() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with pool(slow_square, plan) as workers:
        results = workers.map(pieces())
        for done in range(1, 50):
            next(results)
            assert taken - done <= 3 * plan.count


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_that_is_killed_costs_nothing(method: str, tmp_path: Path) -> None:
    with pool(partial(die_once, tmp_path / "died"), Plan("processes", 2, method)) as workers:
        assert list(workers.map(iter(range(20)))) == list(range(20))
    assert (tmp_path / "died").exists()


def test_a_piece_that_kills_twice_is_named_with_the_signal() -> None:
    with (
        pool(die, Plan("processes", 2, "fork"), lambda piece: f"file {piece}") as workers,
        pytest.raises(WorkerError, match="on file 5 was killed by SIGKILL"),
    ):
        list(workers.map(iter(range(20))))
    with (
        pool(leave, Plan("processes", 1, "fork")) as workers,
        pytest.raises(WorkerError, match="on 0 ended with status 7"),
    ):
        list(workers.map(iter(range(2))))


@pytest.mark.parametrize("plan", PLANS[:3], ids=str)
def test_an_error_of_the_function_is_raised_where_results_are_taken(plan: Plan) -> None:
    with pool(fail, plan) as workers, pytest.raises(OSError, match="No space left") as caught:
        list(workers.map(iter(range(9))))
    assert caught.value.errno == 28


def test_no_process_is_left_when_work_is_given_up() -> None:
    with pool(slow_square, Plan("processes", 2, "fork")) as workers:
        processes = [worker.process for worker in workers._workers]  # type: ignore[attr-defined]
        next(workers.map(iter(range(100))))
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)


def stop(number: int) -> int:
    """Stop this process, as Ctrl-Z or a debugger would, on piece 1."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number


@pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")
def test_a_stopped_process_does_not_hold_up_the_end() -> None:
    began = time.monotonic()
    with pool(stop, Plan("processes", 2, "fork")) as workers:
        processes = [worker.process for worker in workers._workers]  # type: ignore[attr-defined]
        assert next(workers.map(iter(range(9)))) == 0
    assert time.monotonic() - began < 2
    assert not any(process.is_alive() for process in processes)


def exhaust(number: int) -> bytes:
    raise MemoryError


@pytest.mark.parametrize("plan", PLANS[:3], ids=str)
def test_no_memory_in_a_worker_is_a_memory_error_here(plan: Plan) -> None:
    with pool(exhaust, plan) as workers, pytest.raises(MemoryError):
        list(workers.map(iter(range(3))))


@pytest.mark.parametrize("count", [0, 1025, 10**30])
def test_a_number_of_workers_beyond_reason_starts_none(count: int) -> None:
    with pytest.raises(OptionError, match="workers: expected 1 to 1,024"), pool(exhaust, Plan("processes", count)):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_signal_during_a_fork_is_not_lost() -> None:
    """Python drops an exception that a function registered for forks raises, as logging's own is."""
    program = """
import multiprocessing, os, signal
from aekit.workers import Plan, pool

def shout():
    if not told:
        told.append(True)
        signal.raise_signal(signal.SIGTERM)

told = []
signal.signal(signal.SIGTERM, signal.default_int_handler)
os.register_at_fork(after_in_parent=shout)
try:
    with pool(abs, Plan("processes", 2, "fork")) as workers:
        print("lost")
except KeyboardInterrupt:
    print("raised", len(multiprocessing.active_children()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "raised 0\n", "")
