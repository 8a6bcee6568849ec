"""What commands print: results on stdout; notes, errors and progress on stderr."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

from aekit.errors import AekitError, OutputError, one_line

if TYPE_CHECKING:
    from aekit.jobs.job import Summary
    from aekit.spec import ModelSpec


BEGAN = time.monotonic()
"""Approximate start of the command, in seconds of time.monotonic(). Commands import this module first."""


def report_error(error: AekitError) -> int:
    """Print the error as one line and return the exit status, 1."""
    with contextlib.suppress(OSError):
        print(f"aekit: {error}", file=sys.stderr)
    return 1


def phase(what: str) -> None:
    """Say on stderr which step begins, if stderr is a terminal. Logs and programs do not need it."""
    if sys.stderr.isatty():
        note(f"{what} …")


def note(text: str) -> None:
    """Print a line for the person at the terminal. It goes to stderr, so that stdout has only results."""
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # removes a progress line
    with contextlib.suppress(OSError):  # the work continues even if stderr is closed
        print(clear + one_line(text), file=sys.stderr, flush=True)


def emit(result: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Print a command's result: as a JSON object if `as_json`, else as lines.

    Raises OutputError if stdout can't be written. A closed pipe (`| head`) is not an error.
    """
    import json

    from aekit.json_files import finite

    # Lines quote file names, which may contain control characters for the terminal.
    text = json.dumps(finite(result)) if as_json else "\n".join(map(one_line, lines))
    try:
        print(text, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python reports it again as it ends
        if not isinstance(error, BrokenPipeError):
            raise OutputError("stdout could not be written", found=error.strerror or str(error)) from error


def counted(count: int, one: str) -> str:
    """Return a count with its noun, such as `1 image` or `1,200 images`."""
    return f"{count:,} {one}" if count == 1 else f"{count:,} {one}s"


def code_in_words(spec: "ModelSpec") -> str:
    """Return the numbers of a code, and for a grid code the pixels that they stand for."""
    where = f"for each {spec.grid.stride}x{spec.grid.stride} pixels" if spec.is_grid else "a code"
    return f"{counted(spec.code_dim, 'number')} {where}"


def kmac_in_words(manifest: dict[str, Any]) -> str:
    """Return the work a pixel of a grid model, by its model.json; empty if it has no such figures."""
    match manifest.get("kmac_per_pixel"):
        case {"encoder": int() | float() as encoder, "decoder": int() | float() as decoder}:
            return f"thousands of multiplications a pixel: encoder {encoder:.3g}, decoder {decoder:.3g}"
    return ""


def finish(summary: "Summary", what: str, as_json: bool) -> None:
    """Print the summary of a job. `what` names one of its results. Exit with status 3 if the job skipped inputs."""
    for record in summary.skipped:
        note(f"skipped {record.path}: {record.error}")
    inputs = summary.images + len(summary.skipped) - summary.resumed
    rate = inputs / summary.seconds if summary.seconds else math.inf
    total = summary.images + summary.count_before
    each = summary.bytes / max(total, 1)
    result = {
        "out": str(summary.out),
        "images": summary.images,
        "skipped": [{"path": record.path, "error": record.error} for record in summary.skipped],
        "present": summary.present,
        "total": total,
        "resumed": summary.resumed,
        "bytes": summary.bytes,
        "seconds": round(summary.seconds, 3),
        "provider": summary.provider,
    }
    if summary.oversized:
        result["oversized"] = summary.oversized
    holds = f"now {total:,}, " if summary.count_before else ""
    size = f"{summary.bytes:,} bytes, {each:.1f} an image"
    if summary.index is not None:
        result |= {"index": str(summary.index), "index_bytes": summary.index_bytes}
        size += f"; its index {summary.index.name} {summary.index_bytes:,} bytes"
    lines = [
        f"{counted(summary.images, what)} -> {summary.out} ({holds}{size}) "
        f"in {summary.seconds:.1f} s, {rate:,.0f} images/s on {summary.provider}"
    ]
    if summary.resumed:
        lines.append(f"{counted(summary.resumed, 'input')} had been finished before the interruption")
    if summary.present:
        lines.append(f"{counted(summary.present, 'image')} left unchanged: the archive already has their paths")
    if summary.skipped:
        lines.append(f"{len(summary.skipped):,} skipped, listed above")
    emit(result, lines, as_json)
    if summary.skipped:
        raise typer.Exit(3)


@contextlib.contextmanager
def progress_line(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows how many of `total` are done, on one line of stderr, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    began = drawn = time.monotonic()

    def show(done: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < 0.1:
            return
        drawn = now
        left = (now - began) * (total - done) / max(done, 1)
        with contextlib.suppress(OSError):
            print(f"\r{what} {done:,}/{total:,}, {duration(left)} left \x1b[K", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        with contextlib.suppress(OSError):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return seconds as text, h:mm:ss or m:ss."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def qualities_in_words(figures: Any) -> list[str]:
    """Return a line on each quality of a grid model: bits a pixel, error and PSNR. Values of another form give no line.

    `figures` comes from model.json, which is untrusted.
    """
    lines = []
    for entry in figures if isinstance(figures, list) else []:
        match entry:
            case {"quality": int() as quality, "bits_per_pixel": float() as rate, "mse": float() as error}:
                ratio = f", PSNR {-10 * math.log10(error):.2f} dB" if 0 < error < math.inf else ""
                lines.append(f"quality {quality}: {rate:.4f} bits a pixel, MSE {error:.5f}{ratio}")
    return lines


def _rate(value: Any) -> str:
    """Return a rate as text, or the rates of the lowest and the highest quality. Values of another form give ""."""
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(each, float) for each in several):
        return ""
    return " to ".join(f"{each:.4f}" for each in dict.fromkeys((several[0], several[-1])))


def entropy_in_words(figures: Any) -> str:
    """Return which entropy model is kept, and the rate of each on held-out images. Values of another form give "".

    `figures` comes from model.json, which is untrusted.
    """
    if not isinstance(figures, dict):
        return ""
    for key, unit in (("bits_per_pixel", "bits a pixel"), ("bytes_per_image", "bytes an image")):
        static, context = (_rate(figures.get(f"{kind}_{key}")) for kind in ("static", "context"))
        if static and context:
            kept = str(figures.get("kept"))[:20]
            return f"{static} {unit} with static tables, {context} with a context model; {kept} kept"
        if static:
            return f"{static} {unit} with static tables"
    return ""
