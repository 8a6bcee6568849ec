"""Sets of pictures at their own sizes, with fixed splits, that grid codes are measured on.

Sources that are JPEG files are halved first by a box filter, for us and for the codecs alike, so that nobody is paid
for reproducing JPEG's artefacts. The sets lie in tar files in AEKIT_DATA_DIR.
"""

import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import data_dir
from PIL import Image

from aekit.evaluation.codecs import as_image
from aekit.images.decode import Pixels

Picture = Pixels
"""One picture, uint8 [H, W, C] with C = 1 or 3."""

MARKS = {"blood-cells": (0.0008, 0.0003, 0.00015), "tiles": (0.0010, 0.0005, 0.0003), "gtsrb": (0.0050, 0.0030, 0.0014)}
"""Errors, pixels in [0, 1], that the targets of each set stand at."""
REACH = {"blood-cells": 0.75, "tiles": 0.85, "gtsrb": 0.50}
"""Largest share of the envelope's bytes that meets the target."""
AIM = {"blood-cells": 0.55, "tiles": 0.65, "gtsrb": 0.35}
"""Share of the envelope's bytes to aim for."""


@dataclass(frozen=True)
class PictureSet:
    """A set of pictures in a tar file, and how it is split."""

    file: str
    """Path below the data folder."""
    suffix: str
    """End of the names that are pictures."""
    mode: str
    """Pillow's mode: `L` or `RGB`."""
    group: str
    """Regular expression whose first group names what must not be divided among splits, such as a track."""
    is_test: Callable[[str], bool]
    """Tells by a group's name whether its pictures belong to the test split."""

    @property
    def is_halved(self) -> bool:
        """Whether pictures are halved by a box filter, as JPEG sources are."""
        return self.suffix == ".jpg"

    def split(self, name: str) -> str:
        """Return the split of a picture by its name: `test`, `validation` (a tenth of the rest) or `training`."""
        match = re.search(self.group, name)
        assert match is not None, name
        if self.is_test(match[1]):
            return "test"
        return "validation" if _first_byte("validation", match[1]) < 256 // 10 else "training"

    def read(self, split: str) -> Iterator[Picture]:
        """Yield the pictures of one split in the order of their names."""
        return (picture for _, picture in self.named(split))

    def named(self, split: str) -> Iterator[tuple[str, Picture]]:
        """Yield the names and the pictures of one split in the order of their names."""
        with tarfile.open(data_dir() / self.file) as tar:
            members = [member for member in tar if member.isfile() and member.name.endswith(self.suffix)]
            for member in sorted(members, key=lambda member: member.name):
                if self.split(member.name) == split:
                    data = tar.extractfile(member)
                    assert data is not None
                    pixels = np.asarray(Image.open(io.BytesIO(data.read())).convert(self.mode))
                    picture = pixels.reshape(*pixels.shape[:2], -1)
                    yield member.name, halved(picture) if self.is_halved else picture

    def unpack(self, folder: Path) -> None:
        """Write the pictures as PNG files: `train` has training and validation pictures, `test` the others."""
        for split in ("training", "validation", "test"):
            for name, picture in self.named(split):
                file = folder / ("test" if split == "test" else "train") / Path(name).with_suffix(".png")
                file.parent.mkdir(parents=True, exist_ok=True)
                as_image(picture).save(file)


def _first_byte(salt: str, group: str) -> int:
    return hashlib.sha256((salt + group).encode()).digest()[0]


def _is_sixth(group: str) -> bool:
    return zlib.crc32(group.encode()) % 6 == 0


def _is_gtsrb_test(group: str) -> bool:
    # The split of benchmarks/learning.py, so that figures at 32x32 and at own size belong to the same pictures.
    return _first_byte("test", group) < 256 // 5


SETS = {
    "blood-cells": PictureSet("blood-cells/blood-cells.tar", ".jpg", "RGB", r"([^/]*)$", _is_sixth),
    "tiles": PictureSet("magnetic-tile/magnetic-tile.tar", ".jpg", "L", r"num_(\d+)", _is_sixth),
    "gtsrb": PictureSet("gtsrb/gtsrb-png.tar", ".png", "RGB", r"^(\d+/\d+)_", _is_gtsrb_test),
}


def halved(picture: Picture) -> Picture:
    """Return the means of 2×2 pixels, rounded, halves up; an odd last row or column is left out."""
    height, width, channels = picture.shape
    even = picture[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, channels)
    return ((even.sum((1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def spread(pictures: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many pictures, evenly spaced; all of them if `most` is 0."""
    count = min(most or len(pictures), len(pictures))
    return [pictures[index] for index in np.linspace(0, len(pictures) - 1, count).astype(int)]
