"""Training pictures of any sizes: a source read as a list of uint8 pictures, and a part of it held out."""

import numpy as np

from aekit.errors import SourceError
from aekit.images.decode import Pixels
from aekit.images.held_out import hold_out
from aekit.images.named_sets import load_named_set
from aekit.images.sources import ArraySource, Source, fingerprint, read_all
from aekit.spec import GridGeometry
from aekit.training.data import SplitData, check_groups, split_in_words


class PictureData(SplitData[GridGeometry, list[Pixels]]):
    """Pictures of any sizes: lists of uint8 [H, W, channels]."""


def load_pictures(source: Source, geometry: GridGeometry, group_by: str = "") -> PictureData:
    """Read a source, opened for its training split, and hold a part of it out.

    Args:
        source: a folder, an array or a named set.
        geometry: channels of the pictures, and the longest side to shrink them to.
        group_by: regular expression on paths; pictures with the same match are held out together.

    Raises:
        SourceError: the source has too few pictures, or all its pictures are the same.
        OptionError: `group_by` is malformed or can't apply to this source.
    """
    check_groups(source, group_by)
    if isinstance(source, ArraySource) and source.is_named_set:
        other = ArraySource(source.name, load_named_set(source.name, "validation"))
        train, validation = (read_all(part, geometry)[0] for part in (source, other))
        return PictureData(source.name, geometry, train, validation, f"{source.name}'s own", "", source.name)
    pictures, names, skipped = read_all(source, geometry)
    if len(pictures) < 2:
        raise SourceError(source.name, expected="at least 2 readable images", found=str(len(pictures)))
    if all(np.array_equal(picture, pictures[0]) for picture in pictures):
        what = "of one constant colour" if (pictures[0] == pictures[0][0, 0]).all() else "the same"
        raise SourceError(source.name, expected="images that differ", found=f"{len(pictures):,} that are all {what}")
    held_out = hold_out(names, group_by)
    train = [picture for picture, is_held in zip(pictures, held_out, strict=True) if not is_held]
    validation = [picture for picture, is_held in zip(pictures, held_out, strict=True) if is_held]
    split, digest = split_in_words(held_out, group_by), fingerprint(pictures, names)
    kind = "array" if source.paths is None else "folder"
    return PictureData(kind, geometry, train, validation, split, group_by, digest, tuple(skipped))
