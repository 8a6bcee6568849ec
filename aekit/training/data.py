"""Training data: a source read whole, as uint8 in memory or in a mapped file, a part of it held out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aekit.errors import OptionError, SourceError
from aekit.images.decode import Pixels
from aekit.images.held_out import hold_out
from aekit.images.named_sets import load_named_set
from aekit.images.records import Record
from aekit.images.sources import ArraySource, Source, fingerprint, open_source, read_all
from aekit.spec import MAX_SIDE, MIN_SIDE, Geometry


@dataclass(frozen=True)
class TrainingData:
    """Images to learn from and images to validate on, all of one geometry."""

    kind: str
    """A named set's name, `folder` or `array`."""
    geometry: Geometry
    train: Pixels
    """uint8 [n, height, width, channels]."""
    validation: Pixels
    """uint8 [m, height, width, channels], never trained on."""
    split: str
    """How the two were told apart, in words."""
    group_by: str
    """The expression that grouped them, if one did."""
    fingerprint: str
    """SHA-256 over the source's decoded images, by which evaluation knows the source again; of a named set its name."""
    skipped: tuple[Record, ...] = ()
    """Files that could not be read."""

    def facts(self) -> dict[str, Any]:
        """What a model keeps of its training data: counts and the fingerprint, no pixels and no paths."""
        counts = {"train_images": len(self.train), "validation_images": len(self.validation)}
        split = {"split": self.split, "group_by": self.group_by, "fingerprint": self.fingerprint}
        return {"data": self.kind, **counts, **split}


def load_training_data(
    text: str, size: tuple[int, int] | None = None, channels: int | None = None, group_by: str = ""
) -> TrainingData:
    """Read the source a user named, at `size` (height, width; None: the images' own) and `channels` (None: as found).

    Raises SourceError if the source can't be read or has too few images, OptionError if a geometry can't be derived.
    """
    source = open_source(text, "train")
    if isinstance(source, ArraySource) and source.is_named_set:
        if group_by:
            raise OptionError("--group-by", expected="a folder", found=f"the set {text}")
        geometry = choose_geometry(source, size, channels)
        held = ArraySource(text, load_named_set(text, "validation"))
        train, validation = (s.read(0, len(s), geometry).images for s in (source, held))
        return TrainingData(text, geometry, train, validation, f"{text}'s own", "", text)
    if group_by and source.paths is None:
        raise OptionError("--group-by", expected="a folder, whose images have paths", found=text)
    geometry = choose_geometry(source, size, channels)
    images, names, skipped = read_all(source, geometry)
    if len(images) < 2:
        raise SourceError(text, expected="at least 2 readable images", found=str(len(images)))
    if all((images[start : start + 1024] == images[0]).all() for start in range(0, len(images), 1024)):
        what = "of one constant colour" if (images[0] == images[0].flat[0]).all() else "the same"
        raise SourceError(text, expected="images that differ", found=f"{len(images):,} that are all {what}")
    held_out = hold_out(names, group_by)
    split = f"{held_out.mean():.1%} held out by the hash of " + (f"{group_by!r} in the path" if group_by else "names")
    kind = "array" if source.paths is None else "folder"
    mark = fingerprint(images, names)
    return TrainingData(kind, geometry, *_partition(images, held_out), split, group_by, mark, tuple(skipped))


def _partition(images: Pixels, held_out: npt.NDArray[np.bool_]) -> tuple[Pixels, Pixels]:
    """The images to train on, moved together in place so that a large set needs its room once, and those held out."""
    validation, end = images[held_out], 0
    for start in range(0, len(images), 1024):
        kept = images[start : start + 1024][~held_out[start : start + 1024]]
        images[end : end + len(kept)] = kept
        end += len(kept)
    return images[:end], validation


def choose_geometry(source: Source, size: tuple[int, int] | None, channels: int | None) -> Geometry:
    """The geometry to train at, from what was asked for and what the images have."""
    if size is None or channels is None:
        sizes, (coloured, gray) = source.native_geometry()
        if not sizes:
            raise SourceError(source.name, expected="at least one readable image", found="none")
        if size is None:
            heights, widths = zip(*sizes, strict=True)
            if len(sizes) > 1:
                raise OptionError(
                    f"{source.name}: its images differ in size",
                    found=f"{min(heights)}x{min(widths)} to {max(heights)}x{max(widths)}",
                    fix="say what to train at, for example --size 32x32",
                )
            size = heights[0], widths[0]
        if channels is None:
            if coloured and gray:
                raise OptionError(
                    f"{source.name}: its images differ in colour",
                    found=f"{coloured:,} in colour, {gray:,} gray",
                    fix="say what to train on, --rgb or --gray",
                )
            channels = 3 if coloured else 1
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise OptionError(
            f"{source.name}: size {size[0]}x{size[1]}",
            expected=f"sides from {MIN_SIDE} to {MAX_SIDE} pixels",
            fix="give a --size within them",
        )
    return Geometry(*size, channels)
