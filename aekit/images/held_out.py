"""Hold images out for validation: the same ones on every machine, found again from names alone.

Evaluation uses the same rule to find which images of a folder the model was never trained on.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aekit.errors import SourceError
from aekit.images.patterns import group_names

FRACTION = 0.1
"""Share of a source that is held out."""
MOST = 5_000
"""Most images held out, however large the source is."""


def hold_out(names: Sequence[str], group_by: str = "") -> npt.NDArray[np.bool_]:
    """Which images validate: a boolean per name, about FRACTION of them true.

    `group_by` is a regular expression; images for which it matches the same text stay on the same side (frames of one
    video, parts of one batch). Without it each image is its own group. Groups are taken in the order of their hashes,
    so that the choice depends on nothing else.

    Raises OptionError if the expression is malformed, takes too long or misses a name, and SourceError if no group is
    left to train on.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(group_names(group_by, names) if group_by else names):
        groups[group].append(row)
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
