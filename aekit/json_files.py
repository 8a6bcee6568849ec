"""JSON files that carry a format_version: read them with every check that an untrusted file needs; write them whole.

A caller names the error class that a bad file raises, and says in `what` what the file should be:

    values = read_json(path, BundleError, "a model description", newest=1)
"""

import contextlib
import json
import math
import os
import secrets
from pathlib import Path
from typing import Any

from aekit.errors import AekitError, OutputError, reason
from aekit.files import read_regular

MAX_BYTES = 16 * 2**20
"""Largest file that read_json accepts, in bytes."""
MAX_VALUES = 100_000
"""Most commas and brackets accepted in one text. An empty list is 2 bytes of JSON and 64 bytes of memory, so the size
of a text alone does not bound the memory that its values take."""
MAX_DEPTH = 100
"""Most lists and objects inside each other accepted in one text. Code that walks the values recurses."""


def read_json(
    path: Path,
    error: type[AekitError],
    what: str,
    *,
    newest: int,
    most: int = MAX_BYTES,
    fix: str = "",
) -> dict[str, Any]:
    """Read the JSON object in a regular file; its `format_version` is a whole number from 1 to `newest`.

    `most` bounds the file's size in bytes. `fix` is what the user can do about a file that is not JSON.

    Raises FileNotFoundError or NotADirectoryError if there is no such file, since the caller knows best what to say.
    Raises `error`, which names the file, if it can't be read, is too large, is not a regular file, is not such an
    object or has a newer format. Raises MemoryError if there is not enough memory.
    """
    try:
        data = read_regular(path, most)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as problem:
        raise error(str(path), expected=what, found=problem.strerror or reason(problem)) from problem
    return versioned(parse_json(data, error, str(path), fix=fix), error, str(path), what, newest=newest)


def parse_json(
    data: bytes | str, error: type[AekitError], where: str, *, most_values: int = MAX_VALUES, fix: str = ""
) -> Any:
    """Parse an untrusted JSON text; `where` names its file in errors.

    Raises `error` if the text is not JSON, is nested more than MAX_DEPTH deep, holds a number of too many digits, or
    holds more than `most_values` commas and brackets.
    """
    text = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    count = sum(map(text.count, (b",", b"[", b"{")))
    if count > most_values:
        raise error(where, expected=f"JSON of at most {most_values:,} values", found="more", fix=fix)
    try:
        values = json.loads(data)
        if _is_deep(values):
            raise RecursionError
    except RecursionError as problem:
        raise error(where, expected="JSON", found="values nested too deeply", fix=fix) from problem
    except ValueError as problem:  # JSONDecodeError, UnicodeDecodeError, or a number of too many digits
        raise error(where, expected="JSON", found=reason(problem), fix=fix) from problem
    return values


def _is_deep(values: Any) -> bool:
    """Whether lists and objects lie more than MAX_DEPTH deep inside each other."""
    level = [values]
    for _ in range(MAX_DEPTH + 1):
        inside = [list(part.values()) if isinstance(part, dict) else part for part in level]
        level = [part for parts in inside if isinstance(parts, list) for part in parts]
        if not level:
            return False
    return True


def versioned(values: Any, error: type[AekitError], where: str, what: str, *, newest: int) -> dict[str, Any]:
    """Return `values` if they are a JSON object whose `format_version` is a whole number from 1 to `newest`.

    Raises `error` if they are not. `where` names their file and `what` says what it should be.
    """
    version = values.get("format_version") if isinstance(values, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise error(where, expected=f"{what} with format_version", found=repr(version)[:80])
    if version > newest:
        raise error(where, expected=f"format {newest} or older", found=str(version)[:80], fix="update aekit")
    return dict(values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as JSON, with NaN and infinities as null; the file takes its name in one step, once it is whole.

    Raises OutputError, which names the file, if it can't be written. Nothing is left behind then.
    """
    data = (json.dumps(finite(values), indent=1) + "\n").encode("utf-8")
    # A random name, never opened if something has it: a link that lies there can't lead the write elsewhere.
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    try:
        with contextlib.ExitStack() as undo:
            with part.open("xb") as file:
                undo.callback(part.unlink, missing_ok=True)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may keep the name and lose the bytes
            os.replace(part, path)
            undo.pop_all()
    except OSError as problem:
        found = problem.strerror or reason(problem)
        raise OutputError(f"{path} could not be written", found=found) from problem


def finite(values: Any) -> Any:
    """Return the values with NaN and infinities, which JSON can't express, replaced by None."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
