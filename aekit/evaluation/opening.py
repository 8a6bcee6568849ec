"""Open the images to evaluate on: never those that the model was trained on, if these are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aekit.errors import OptionError
from aekit.images.decode import Pixels
from aekit.images.held_out import hold_out
from aekit.images.records import Record
from aekit.images.sources import ArraySource, Source, fingerprint, open_source, read_all
from aekit.model.bundle import Bundle


@dataclass(frozen=True)
class TestImages:
    """Images to evaluate on, and where they come from."""

    images: Pixels | list[Pixels]
    """uint8 [n, H, W, C]; for a model of grid codes a list of pictures, uint8 [H, W, C] each."""
    description: str
    """Name of the set or folder, which part of it is used, and whether the model was trained on any of it, in words."""
    skipped: tuple[Record, ...] = ()
    """Files that could not be read, with the reason."""
    paths: tuple[str, ...] = ()
    """The images' paths; empty for arrays."""

    @property
    def records(self) -> list[Record]:
        """A record of each image, with the size at which it is coded; empty for arrays."""
        return [
            Record(path, image.shape[1], image.shape[0])
            for path, image in zip(self.paths, self.images if self.paths else (), strict=True)
        ]


def open_test_images(given: str | Sequence[str] | Source, bundle: Bundle, group_by: str | None = None) -> TestImages:
    """Read the images that a user named, without the images that the model was trained on, if these are known.

    `given` is what `open_source` takes, or a source that it opened for the test split.

    A named set gives its test split. A folder or array with the same content as the training data gives the part that
    was held out. Any other source gives all its images. A model of grid codes gets every picture at its own size.

    `group_by` is the regular expression that split the training images into groups, from a run that the user trusts.
    It is empty if no expression split them, and None if that is unknown. The expression in model.json is not used: an
    expression from a stranger can take hours.

    Raises SourceError if the source can't be read; OptionError if the training images were split by groups and
    `group_by` is None or malformed.
    """
    source = open_source(given, "test") if isinstance(given, str | Sequence) else given
    geometry = bundle.spec.geometry
    if isinstance(source, ArraySource) and source.is_named_set:
        return TestImages(source.read(0, len(source), geometry).images, f"the test split of {source.name}")
    images, names, skipped = read_all(source, geometry)
    paths = tuple(names) if source.paths is not None else ()
    training = bundle.manifest.get("training", {})
    if training.get("fingerprint") != fingerprint(images, names):
        what = f"all of {source.name}, which is not what the model was trained on as a whole"
        return TestImages(images, what, tuple(skipped), paths)
    stored = str(training.get("group_by", ""))
    if group_by is None and stored:
        raise OptionError(
            "--group-by",
            expected="the expression that split these images in training",
            found=f"{stored[:80]!r} in model.json only",
            fix="name the model's run with --run, or give --group-by if you trust that expression",
        )
    held_out = hold_out(names, group_by or "")
    what = f"the held-out part of {source.name}; the model was trained on the other {int((~held_out).sum()):,}"
    rows = np.flatnonzero(held_out)
    chosen = images[rows] if isinstance(images, np.ndarray) else [images[row] for row in rows]
    return TestImages(chosen, what, tuple(skipped), tuple(paths[row] for row in rows if paths))
