"""Hold images out for validation: the same ones on every machine, found again from names alone.

Evaluation uses the same rule to find which images of a folder the model was never trained on.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aekit.errors import OptionError, SourceError

FRACTION = 0.1
"""Share of a source that is held out."""
MOST = 5_000
"""Most images held out, however large the source is."""


def hold_out(names: Sequence[str], group_by: str = "") -> npt.NDArray[np.bool_]:
    """Which images validate: a boolean per name, about FRACTION of them true.

    `group_by` is a regular expression; images for which it matches the same text stay on the same side (frames of one
    video, parts of one batch). Without it each image is its own group. Groups are taken in the order of their hashes,
    so that the choice depends on nothing else.

    Raises OptionError if the expression is malformed or misses a name, SourceError if no group is left to train on.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        groups[_group(name, group_by)].append(row)
    if len(groups) < 2:
        what = f"groups by {group_by!r}" if group_by else "images"
        raise SourceError(
            "the images", expected=f"at least 2 {what}, one to train on and one to validate on", found=f"{len(groups)}"
        )
    wanted = min(max(1, round(FRACTION * len(names))), MOST)
    held = np.zeros(len(names), np.bool_)
    order = sorted(groups, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())
    for key in order[:-1]:  # the last group is always left to train on
        if held.sum() >= wanted:
            break
        held[groups[key]] = True
    return held


def _group(name: str, pattern: str) -> str:
    if not pattern:
        return name
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise OptionError("--group-by", expected="a regular expression", found=f"{pattern!r} ({error})") from None
    if match is None:
        raise OptionError("--group-by", expected=f"{pattern!r} to match every path", found=f"{name!r}, which it misses")
    return "\0".join(match.groups(default="")) or match.group()
