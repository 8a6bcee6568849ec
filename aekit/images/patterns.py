"""Match a regular expression on many names, in a process that is stopped when it takes too long.

An expression may come from the config.json or model.json of a stranger. Python's matcher can need exponential time,
and nothing in the same process can stop it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence

from aekit.errors import OptionError

MAX_PATTERN = 1000
"""Longest expression accepted, in characters."""
SECONDS, SECONDS_PER_NAME = 10.0, 1e-4
"""Time limit: a fixed part, and a part for each name."""

_PROGRAM = """
import json, re, sys
pattern, names = json.load(sys.stdin)
groups = []
try:
    for name in names:
        match = re.search(pattern, name)
        groups.append(None if match is None else "\\0".join(match.groups(default="")) or match.group())
except (re.error, OverflowError, RecursionError) as error:
    groups = str(error)
json.dump(groups, sys.stdout)
"""


def group_names(pattern: str, names: Sequence[str]) -> list[str]:
    """The text by which each name is grouped: what the expression's groups match, or its whole match without any.

    Raises OptionError if the expression is too long or malformed, misses a name, or takes longer than SECONDS and
    SECONDS_PER_NAME for each name.
    """
    if len(pattern) > MAX_PATTERN:
        raise OptionError("--group-by", expected=f"at most {MAX_PATTERN} characters", found=f"{len(pattern):,}")
    limit = SECONDS + SECONDS_PER_NAME * len(names)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            input=json.dumps([pattern, list(names)]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        fix = "give a simpler one: repetition inside repetition takes exponential time"
        what = f"--group-by {pattern!r}"
        raise OptionError(
            what[:200], expected=f"an expression matched in {limit:.0f} s", found="one that takes longer", fix=fix
        ) from None
    found = json.loads(done.stdout) if done.returncode == 0 else "it could not be matched"
    if isinstance(found, str):
        raise OptionError("--group-by", expected="a regular expression", found=f"{pattern!r} ({found})")
    for name, group in zip(names, found, strict=True):
        if group is None:
            expected = f"{pattern!r} to match every path"
            raise OptionError("--group-by", expected=expected, found=f"{name!r}, which it misses")
    return [str(group) for group in found]
