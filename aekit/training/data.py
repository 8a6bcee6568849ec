"""Training data: read a whole source as uint8, in memory or in a mapped file, and hold a part of it out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from aekit.errors import OptionError, SourceError
from aekit.images.decode import Pixels
from aekit.images.held_out import hold_out
from aekit.images.named_sets import load_named_set
from aekit.images.records import Record
from aekit.images.sources import ArraySource, Source, fingerprint, open_source, read_all
from aekit.spec import MAX_SIDE, MIN_SIDE, Geometry, GridGeometry

_G = TypeVar("_G", Geometry, GridGeometry)
_I = TypeVar("_I", Pixels, list[Pixels])


@dataclass(frozen=True)
class SplitData(Generic[_G, _I]):
    """Images to learn from and images to validate on."""

    kind: str
    """A named set's name, `folder` or `array`."""
    geometry: _G
    train: _I
    """The images to learn from."""
    validation: _I
    """Images that are never trained on."""
    split: str
    """How the held-out images were chosen, in words."""
    group_by: str
    """The regular expression that grouped the images; empty if none did."""
    fingerprint: str
    """SHA-256 over the source's decoded images, or the name of a named set. Evaluation recognises the source by it."""
    skipped: tuple[Record, ...] = ()
    """Files that could not be read, with the reason."""

    def facts(self) -> dict[str, Any]:
        """Return the facts that a model keeps of its training data: counts, split, fingerprint; no pixels, no paths."""
        counts = {"train_images": len(self.train), "validation_images": len(self.validation)}
        split = {"split": self.split, "group_by": self.group_by, "fingerprint": self.fingerprint}
        return {"data": self.kind, **counts, **split}


class TrainingData(SplitData[Geometry, Pixels]):
    """Images of one size: arrays uint8 [n, height, width, channels]."""


@dataclass(frozen=True)
class Forms:
    """The forms of a source's images, as their headers tell."""

    sizes: frozenset[tuple[int, int]]
    """(height, width) in pixels of every image."""
    coloured: int
    """Images in colour."""
    gray: int
    """Gray images."""

    @classmethod
    def of(cls, source: Source) -> "Forms":
        """Read the headers. Raises SourceError if no image can be read."""
        sizes, (coloured, gray) = source.native_geometry()
        if not sizes:
            raise SourceError(source.name, expected="at least one readable image", found="none")
        return cls(frozenset(sizes), coloured, gray)

    def span(self) -> str:
        """Return the least and the largest height and width, in words."""
        heights, widths = zip(*self.sizes, strict=True)
        return f"{min(heights)}x{min(widths)} to {max(heights)}x{max(widths)}"

    def channels(self, name: str) -> int:
        """Return 1 if all images are gray, 3 if all are in colour. Raises OptionError, naming the source, if mixed."""
        if self.coloured and self.gray:
            raise OptionError(
                f"{name}: its images differ in colour",
                found=f"{self.coloured:,} in colour, {self.gray:,} gray",
                fix="say what to train on, --rgb or --gray",
            )
        return 3 if self.coloured else 1


def load_training_data(
    given: str | Sequence[str],
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    group_by: str = "",
    forms: Forms | None = None,
) -> TrainingData:
    """Read the source that the user named and hold a part of it out.

    Args:
        given: image files by one or more texts, an array, an idx file or a named set; see `open_source`.
        size: (height, width) in pixels to train at; None takes the images' own size.
        channels: 1 for gray, 3 for RGB; None takes what the images have.
        group_by: regular expression on paths; images with the same match are held out together.
        forms: the forms of the source's images if they are known; this spares reading their headers again.

    Raises:
        SourceError: the source can't be read, has too few images, or all its images are the same.
        OptionError: the images differ in size or colour and `size` or `channels` is None, `size` is out of range, or
            `group_by` is malformed or can't apply to this source.
    """
    source = open_source(given, "train")
    check_groups(source, group_by)
    geometry = choose_geometry(source, size, channels, forms)
    if isinstance(source, ArraySource) and source.is_named_set:
        other = ArraySource(source.name, load_named_set(source.name, "validation"))
        train, validation = (read_all(part, geometry)[0] for part in (source, other))
        return TrainingData(source.name, geometry, train, validation, f"{source.name}'s own", "", source.name)
    images, names, skipped = read_all(source, geometry)
    if len(images) < 2:
        raise SourceError(source.name, expected="at least 2 readable images", found=str(len(images)))
    if all((images[start : start + 1024] == images[0]).all() for start in range(0, len(images), 1024)):
        what = "of one constant colour" if (images[0] == images[0].flat[0]).all() else "the same"
        raise SourceError(source.name, expected="images that differ", found=f"{len(images):,} that are all {what}")
    held_out = hold_out(names, group_by)
    kind = "array" if source.paths is None else "folder"
    digest = fingerprint(images, names)
    return TrainingData(
        kind,
        geometry,
        *_partition(images, held_out),
        split_in_words(held_out, group_by),
        group_by,
        digest,
        tuple(skipped),
    )


def check_groups(source: Source, group_by: str) -> None:
    """Raise OptionError if the images of a source have no paths that `group_by` could be searched in."""
    if group_by and isinstance(source, ArraySource) and source.is_named_set:
        raise OptionError("--group-by", expected="a folder", found=f"the set {source.name}")
    if group_by and source.paths is None:
        raise OptionError("--group-by", expected="a folder, whose images have paths", found=source.name)


def split_in_words(held_out: npt.NDArray[np.bool_], group_by: str) -> str:
    """Say what share of the images was held out, and how it was chosen."""
    return f"{held_out.mean():.1%} held out by the hash of " + (f"{group_by!r} in the path" if group_by else "names")


def _partition(images: Pixels, held_out: npt.NDArray[np.bool_]) -> tuple[Pixels, Pixels]:
    """Split images into those to train on and those held out. The first are moved together in place, so that a large
    set is not copied."""
    validation, end = images[held_out], 0
    for start in range(0, len(images), 1024):
        kept = images[start : start + 1024][~held_out[start : start + 1024]]
        images[end : end + len(kept)] = kept
        end += len(kept)
    return images[:end], validation


def choose_geometry(
    source: Source, size: tuple[int, int] | None, channels: int | None, forms: Forms | None = None
) -> Geometry:
    """Choose the geometry to train at. None stands for the size or the channels that the images have.

    Raises SourceError if no image can be read, OptionError if the images differ in what is None or if the size is out
    of range.
    """
    if size is None or channels is None:
        forms = forms or Forms.of(source)
        if size is None:
            if len(forms.sizes) > 1:
                is_mixed = channels is None and bool(forms.coloured and forms.gray)
                raise OptionError(
                    f"{source.name}: its images differ in size{' and colour' if is_mixed else ''}",
                    found=forms.span() + (f", {forms.coloured:,} in colour, {forms.gray:,} gray" if is_mixed else ""),
                    fix=f"say what to train at, for example --size {_valid_size(forms)}{' --rgb' if is_mixed else ''}",
                )
            (size,) = forms.sizes
        if channels is None:
            channels = forms.channels(source.name)
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        nearest = _valid_size(Forms(frozenset({size}), 0, 0))
        raise OptionError(
            f"{source.name}: size {size[0]}x{size[1]}",
            expected=f"sides from {MIN_SIDE} to {MAX_SIDE} pixels for vector codes",
            fix=f"give for example --size {nearest}, or leave out what asks for vector codes, such as --code-dim",
        )
    return Geometry(*size, channels)


def _valid_size(forms: Forms) -> str:
    """Return a size for vector codes like the images' median size, in words: as large as they can be."""
    height, width = (float(np.median(sides)) for sides in zip(*forms.sizes, strict=True))
    scale = min(1.0, MAX_SIDE / max(height, width))
    return "x".join(str(min(max(round(side * scale), MIN_SIDE), MAX_SIDE)) for side in (height, width))
