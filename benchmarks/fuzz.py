"""Fuzz every file that aekit reads: changed ones must be read right or refused by a named error, in bounded time and
memory.

    pip install 'aekit[train,fuzz]'
    python benchmarks/fuzz.py [--only image,npz] [--inputs 10000] [--seed 0] [--engine auto]

Each target of fuzz_targets.py gets its inputs in processes of its own, under a limit of memory and a timeout an input.
Where atheris is installed it guides the changes by the lines of aekit and Pillow that they reach; elsewhere a
seeded mutator makes them, so that a run can be repeated. A finding is any exception but an AekitError, a wrong answer,
a hang, a crash, or memory beyond the limit; its input is kept in --work. Writes benchmarks/results/fuzz.json and .md.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import load, machine, save, table

SECONDS = 10
"""Processor time an input may take."""
STALL = 120
"""Seconds without a sign of a process after which it is killed: C code does not hear the alarm, nor does who waits."""
RESIDENT = 2560 * 2**20
"""Memory an input may take, bytes: the largest image that is decoded takes 2 GB."""
ADDRESSES = 8 * 2**30
"""Address space of a process, bytes; torch alone takes much of it."""
INSTRUMENTED = ["aekit", "PIL", "zipfile", "gzip"]
ODD = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
TOKENS = [b"null", b"true", b"[]", b"{}", b'""', b"-1", b"0", b"1e999", b"NaN", b"1e308", b"9" * 400, b'"\\ud800"']
TOKENS += [b'"../x"', b'"/x"', b'"a\\u0000"', b"[" * 5000, b'{"a":' * 2000, b"1.0", b"65537", b'"' + b"x" * 9000 + b'"']
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|true|false|null')


class Hang(BaseException):
    """An input took longer than SECONDS; no `except Exception` swallows it."""


class Hunt:
    """The inputs of one target so far, and what they came to."""

    def __init__(self, target: Any, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.inputs = 0
        self.outcomes: Counter[str] = Counter()
        """`read`, or the class of the AekitError."""
        self.findings: dict[str, str] = {}
        """By what is wrong and where: the file that holds the input."""
        self.resident = resident()

    def feed(self, data: bytes) -> None:
        """Give the target one input, with its checksums repaired if the number of it is odd."""
        from aekit.errors import AekitError

        data = self.target.repair(data) if self.inputs % 2 else data
        (self.folder / "input").write_bytes(data)  # so that it is known if the process dies of it
        self.inputs += 1
        try:
            with alarm():
                self.target.run(data)
            self.outcomes["read"] += 1
        except AekitError as error:
            self.outcomes[type(error).__name__] += 1
            if "\n" in str(error) or len(str(error)) > 2000:
                self.note("an error that is not one line", data)
        except (Exception, Hang) as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in frames if "aekit" in Path(frame.filename).parts] or frames
            self.note(
                f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}: {error}"[:200], data
            )
        if (now := resident()) > self.resident + RESIDENT:
            self.note(f"memory: {(now - self.resident) >> 20} MiB", data)
            self.resident = now

    def note(self, what: str, data: bytes) -> None:
        key = what.split(": ")[0]
        if key not in {known.split(": ")[0] for known in self.findings}:
            file = self.folder / f"finding-{len(self.findings)}-{self.inputs}"
            file.write_bytes(data)
            self.findings[what] = str(file)

    def report(self) -> None:
        facts = {"inputs": self.inputs, "outcomes": self.outcomes, "findings": self.findings}
        part = self.folder / "report.part"
        part.write_text(json.dumps(facts), encoding="utf-8")
        part.replace(self.folder / "report.json")


def resident() -> int:
    """The most memory this process ever took, bytes; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the process had taken that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024  # type: ignore[index]
    if importlib.util.find_spec("resource") is None:
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Hang(f"over {SECONDS} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def mutated(seeds: list[bytes], rng: random.Random) -> bytes:
    """A good file with one to four changes: of bits, bytes, numbers in either order, JSON values, or whole pieces."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice([1, 1, 1, 2, 2, 4])):
        place = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:
            place = min(place, rng.randrange(200))  # the headers, where most can go wrong
        size = rng.choice([1, 1, 2, 4, 8, rng.randrange(1, 64)])
        match rng.randrange(8):
            case 0 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place : place + size] = rng.randbytes(size)
            case 2:
                value, width = rng.choice(ODD), rng.choice([1, 2, 4, 8])
                order: Any = rng.choice(["little", "big"])
                data[place : place + width] = (value % 256**width).to_bytes(width, order)
            case 3:
                del data[place : place + size]
            case 4:
                data[place:place] = data[place : place + size] * rng.choice([1, 2, 100])
            case 5:
                del data[place:]
            case 6:
                other = rng.choice(seeds)
                start = rng.randrange(len(other))
                data[place : place + size] = other[start : start + size]
            case 7:
                found = list(_TOKEN.finditer(bytes(data)))
                if found:
                    chosen = rng.choice(found)
                    data[chosen.start() : chosen.end()] = rng.choice([*TOKENS, rng.choice(found)[0]])
    return bytes(data)


def hunt(make: Callable[[Path], Any], folder: Path, inputs: int, seed: int) -> Hunt:
    """Give a target this many inputs of the mutator."""
    made = Hunt(make(folder), folder)
    rng = random.Random(seed)
    for data in made.target.seeds:  # good ones first: the target has to take them
        made.feed(data)
    while made.inputs < inputs:
        made.feed(mutated(made.target.seeds, rng))
        if made.inputs % 100 == 0:
            made.report()
    made.report()
    return made


def guided_hunt(name: str, folder: Path, inputs: int, seed: int) -> None:
    """Give a target this many inputs of atheris, and end the process, which atheris does not let go on."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from fuzz_targets import TARGETS
    made = Hunt(TARGETS[name](folder), folder)
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(made.target.seeds):
        (corpus / str(number)).write_bytes(data)

    def feed(data: bytes) -> None:
        made.feed(data)
        if made.inputs % 100 == 0 or made.inputs >= inputs:
            made.report()
        if made.inputs >= inputs:
            os._exit(0)

    longest = 2 * max(map(len, made.target.seeds))
    # Time and memory are watched here, with other limits than libFuzzer's, whose clock counts pauses too.
    options = [
        f"-max_len={longest}",
        "-timeout=1000000",
        "-rss_limit_mb=0",
        "-verbosity=0",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup(["fuzz", f"-seed={seed + 1}", *options, str(corpus)], feed)
    atheris.Fuzz()


def child(name: str, folder: Path, inputs: int, seed: int, engine: str) -> None:
    """The process of one target."""
    if importlib.util.find_spec("resource") is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    import warnings

    warnings.simplefilter("ignore")
    if engine == "atheris":
        guided_hunt(name, folder, inputs, seed)
    else:
        from fuzz_targets import TARGETS

        hunt(TARGETS[name], folder, inputs, seed)


def examine(name: str, work: Path, inputs: int, seed: int, engine: str) -> dict[str, Any]:
    """Give a target its inputs in processes of their own, a new one after each that died; a row of the report."""
    began, done, outcomes, findings = time.monotonic(), 0, Counter[str](), dict[str, str]()
    for attempt in range(20):
        folder = work / f"{name}-{attempt}"
        folder.mkdir(parents=True)
        arguments = ["--child", name, "--work", folder, "--inputs", inputs - done, "--seed", seed + attempt]
        command = [sys.executable, __file__, *map(str, arguments), "--engine", engine]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
            seen, waited = b"", 0
            while running.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(1)
                now = (folder / "input").read_bytes() if (folder / "input").exists() else b""
                seen, waited = now, waited + 1 if now == seen else 0
                if waited > STALL:
                    running.kill()
        report = folder / "report.json"
        facts = json.loads(report.read_bytes()) if report.exists() else {"inputs": 0, "outcomes": {}, "findings": {}}
        done += facts["inputs"]
        outcomes.update(facts["outcomes"])
        findings |= facts["findings"]
        if done >= inputs:
            break
        tail = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
        findings[f"the process ended with {running.returncode}: {' '.join(tail)[:120]}"] = str(folder / "input")
    accepted = outcomes.pop("read", 0)
    row = {"target": name, "engine": engine, "inputs": done, "read": accepted, "refused": sum(outcomes.values())}
    return {**row, "findings": sorted(findings), "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="targets, by comma (default: all)")
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs a target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["auto", "atheris", "mutator"], default="auto")
    parser.add_argument("--work", type=Path, help="folder to work in (default: a temporary one, in memory)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    engine = arguments.engine
    if engine == "auto":
        engine = "atheris" if importlib.util.find_spec("atheris") else "mutator"
    if arguments.child:
        child(arguments.child, arguments.work, arguments.inputs, arguments.seed, engine)
        return
    from fuzz_targets import TARGETS

    memory = Path("/dev/shm")  # a disk would take most of the time: each input is written to a file
    folder = arguments.work or (memory if memory.is_dir() else None)
    work = Path(tempfile.mkdtemp(prefix="aekit-fuzz-", dir=folder))
    results = load("fuzz")  # of targets that this call leaves out
    rows = {row["target"]: row for row in results.get("targets", [])}
    for name in arguments.only.split(",") if arguments.only else TARGETS:
        rows[name] = examine(name, work, arguments.inputs, arguments.seed, engine)
        print(json.dumps(rows[name]), flush=True)
        kept = [rows[target] for target in TARGETS if target in rows]
        total = {name: sum(row[name] for row in kept) for name in ("inputs", "read", "refused", "seconds")}
        total |= {"targets": len(kept), "findings": sum(len(row["findings"]) for row in kept)}
        results = {"targets": kept, "total": total, "machine": machine()}
        where = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
        shown = [{**row, "findings": len(row["findings"])} for row in kept]
        head = f"# Fuzzing\n\nMade by `python benchmarks/fuzz.py` on: {where}."
        said = "\n".join(f"- {row['target']}: {finding}" for row in kept for finding in row["findings"])
        save("fuzz", results, f"{head}\n\n{table(shown)}" + (f"\n\nFound:\n\n{said}" if said else ""))
    print(f"inputs: {work}")


if __name__ == "__main__":
    main()
