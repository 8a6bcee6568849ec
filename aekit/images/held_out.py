"""Hold images out for validation. The names alone decide which ones, so every machine holds out the same images.

Evaluation uses the same rule to find the images of a folder that the model was never trained on.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aekit.errors import SourceError
from aekit.images.patterns import group_names

FRACTION = 0.1
"""Share of the images that are held out."""
MOST = 5_000
"""Largest number of images that are held out."""


def hold_out(names: Sequence[str], group_by: str = "") -> npt.NDArray[np.bool_]:
    """Return which images are held out: a boolean for each name, about FRACTION of them true.

    `group_by` is a regular expression. Images for which it matches the same text, such as the frames of one video, stay
    on the same side. Without it, each image is a group of its own. Groups are held out in the order of their hashes, so
    the choice depends on the names alone.

    Raises OptionError if the expression is malformed, takes too long or does not match a name; SourceError if there are
    fewer than two groups.
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
    is_held_out = np.zeros(len(names), np.bool_)
    order = sorted(groups, key=lambda key: hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest())
    for key in order[:-1]:  # the last group is always left to train on
        if is_held_out.sum() >= wanted:
            break
        is_held_out[groups[key]] = True
    return is_held_out
