"""The image formats that are read: one entry each, with every fact that other modules need.

A new format is one more entry of FORMATS. Suffixes, messages and help texts are made from them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aekit.images.layouts import check_jpeg, check_png, check_tiff

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile


def _accept(image: "ImageFile") -> None:
    """The check of a format whose files Pillow always reads right."""


@dataclass(frozen=True)
class ImageFormat:
    """A file format."""

    name: str
    """Pillow's name of the format, which messages use too."""
    suffixes: tuple[str, ...]
    """Suffixes of its files, in lower case, with their dots."""
    check: "Callable[[ImageFile], None]" = _accept
    """Raises ImageError for an opened file that Pillow would misread, or that would take too long."""
    drafts: bool = False
    """Whether its decoder can give a picture at 1/2, 1/4 or 1/8 scale."""
    opens_upright: bool = False
    """Whether Pillow turns the size of an opened file by its EXIF orientation."""
    is_mapped: bool = False
    """Whether its decoder maps a file into memory. A map of a file that another program cuts short kills the process,
    so such a file is read into memory first."""


FORMATS = (
    ImageFormat("PNG", (".png",), check_png),
    ImageFormat("JPEG", (".jpg", ".jpeg"), check_jpeg, drafts=True),
    ImageFormat("WEBP", (".webp",)),
    ImageFormat("BMP", (".bmp",)),
    ImageFormat("TIFF", (".tif", ".tiff"), check_tiff, opens_upright=True, is_mapped=True),
)
BY_NAME = {entry.name: entry for entry in FORMATS}
"""The formats by Pillow's names."""
SUFFIXES = frozenset(suffix for entry in FORMATS for suffix in entry.suffixes)
"""Suffixes of the files that are found in folders, in lower case."""
NAMES = ", ".join(BY_NAME)
"""The formats' names, for messages."""
