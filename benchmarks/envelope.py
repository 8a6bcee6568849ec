"""Lower envelope of WebP, AVIF and JPEG XL over scales and qualities: the peer that grid codes are measured against.

Each test picture is shrunk by a factor of 1 to 12 (Lanczos), written as one file, read again and enlarged to its own
size (bicubic). A setting is a codec, a factor and a quality; it has a mean file size and a mean squared error over the
test pictures. The envelope holds the settings that no other setting beats in both. Between two of its points the
logarithm of the bytes is interpolated over the logarithm of the error.

Sources that are JPEG files are halved first by a box filter, so that no codec is paid for reproducing JPEG's artefacts.
Sizes count whole files; `payload` counts what is left without the container's own bytes: AVIF's mdat box, WebP's data
behind its 20 bytes of headers, all of a bare JPEG XL codestream.

    AEKIT_DATA_DIR=data python benchmarks/envelope.py --images 40

writes results/envelope-SET.json for each set.
"""

import argparse
import hashlib
import io
import json
import math
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from common import RESULTS, data_dir, machine, save, table
from PIL import Image

import aekit.evaluation.codecs as codecs

Picture = npt.NDArray[np.uint8]
"""One picture, uint8 [H, W, C] with C = 1 or 3."""

FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0)
"""Factors that both sides of a picture are divided by before it is written."""
QUALITIES = {
    "WebP": (0, 2, 5, 10, 20, 35, 50, 65, 80, 92),
    "AVIF": (5, 15, 25, 35, 45, 55, 65, 75, 85, 93),
    "JPEG XL": (1, 5, 10, 20, 35, 50, 65, 80, 90, 96),
}
"""Settings of `quality` tried with each codec."""
MARKS = {"blood": (0.0008, 0.0003, 0.00015), "tiles": (0.0010, 0.0005, 0.0003), "gtsrb": (0.0050, 0.0030, 0.0014)}
"""Errors, pixels in [0, 1], at which the envelope is printed for each set."""


@dataclass(frozen=True)
class Setting:
    """What test pictures needed with one codec, factor and quality."""

    codec: str
    factor: float
    """Both sides were divided by this."""
    quality: int
    chroma: str
    """Resolution of the colour planes, such as `4:2:0`; empty where the codec has no such setting."""
    bytes: float
    """Mean size of a file."""
    payload: float
    """Mean size without the container's own bytes."""
    mse: float
    """Mean over the pictures of their mean squared error, pixels in [0, 1]; small pictures count as large ones do."""


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
        with tarfile.open(data_dir() / self.file) as tar:
            members = [member for member in tar if member.isfile() and member.name.endswith(self.suffix)]
            for member in sorted(members, key=lambda member: member.name):
                if self.split(member.name) == split:
                    data = tar.extractfile(member)
                    assert data is not None
                    pixels = np.asarray(Image.open(io.BytesIO(data.read())).convert(self.mode))
                    picture = pixels.reshape(*pixels.shape[:2], -1)
                    yield halved(picture) if self.is_halved else picture


def _first_byte(salt: str, group: str) -> int:
    return hashlib.sha256((salt + group).encode()).digest()[0]


def _is_sixth(group: str) -> bool:
    return zlib.crc32(group.encode()) % 6 == 0


def _is_gtsrb_test(group: str) -> bool:
    # The split of benchmarks/learning.py, so that figures at 32x32 and at own size belong to the same pictures.
    return _first_byte("test", group) < 256 // 5


SETS = {
    "blood": PictureSet("blood-cells/blood-cells.tar", ".jpg", "RGB", r"([^/]*)$", _is_sixth),
    "tiles": PictureSet("magnetic-tile/magnetic-tile.tar", ".jpg", "L", r"num_(\d+)", _is_sixth),
    "gtsrb": PictureSet("gtsrb/gtsrb-png.tar", ".png", "RGB", r"^(\d+/\d+)_", _is_gtsrb_test),
}


def halved(picture: Picture) -> Picture:
    """Return the means of 2×2 pixels, rounded, halves up; an odd last row or column is left out."""
    height, width, channels = picture.shape
    even = picture[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, channels)
    return ((even.sum((1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def payload(codec: str, data: bytes) -> int:
    """Return the bytes of a file without its container's own."""
    if codec == "WebP":
        return len(data) - 20  # RIFF header and one chunk's
    if codec == "AVIF":
        at = data.index(b"mdat")
        return int.from_bytes(data[at - 4 : at], "big") - 8
    return len(data)


def written(
    codec: codecs.ImageCodec, picture: Picture, factor: float, quality: int, chroma: str
) -> tuple[bytes, Picture]:
    """Shrink, write, read and enlarge a picture; returns the file and the picture in its own size."""
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    size = tuple(max(1, round(side / factor)) for side in image.size)
    small = image.resize(size, Image.Resampling.LANCZOS) if factor > 1 else image
    options = {**codec.options, "quality": quality, **({"subsampling": chroma} if chroma else {})}
    file = io.BytesIO()
    small.save(file, codec.format, **options)
    with Image.open(io.BytesIO(file.getvalue()), formats=[codec.format]) as opened:
        back = opened.convert(image.mode)
    back = back.resize(image.size, Image.Resampling.BICUBIC) if factor > 1 else back
    return file.getvalue(), np.asarray(back, np.uint8).reshape(picture.shape)


def squared_error(picture: Picture, back: Picture) -> float:
    """Return the mean squared error of a picture, pixels in [0, 1]."""
    return float(np.square((back.astype(np.float32) - picture) / 255).mean())


def coded(
    codec: codecs.ImageCodec, picture: Picture, factor: float, quality: int, chroma: str
) -> tuple[int, int, float]:
    """Shrink, write, read and enlarge a picture; returns (bytes, payload bytes, MSE)."""
    data, back = written(codec, picture, factor, quality, chroma)
    return len(data), payload(codec.name, data), squared_error(picture, back)


def measure(pictures: Sequence[Picture]) -> list[Setting]:
    """Try every setting on the pictures, but no factor that leaves a side of under 2 pixels."""
    settings = []
    smallest = min(min(picture.shape[:2]) for picture in pictures)
    for codec in codecs.available():
        if codec.name not in QUALITIES:
            continue
        chromas = codec.chroma if codec.chroma and pictures[0].shape[2] == 3 else ("",)
        for factor in (factor for factor in FACTORS if factor == 1 or smallest / factor >= 2):
            for quality in QUALITIES[codec.name]:
                for chroma in chromas:
                    tried = [coded(codec, picture, factor, quality, chroma) for picture in pictures]
                    size, inner, error = (float(mean) for mean in np.mean(tried, 0))
                    settings.append(Setting(codec.name, factor, quality, chroma, size, inner, error))
    return settings


def envelope(settings: Sequence[Setting], size: str = "bytes") -> list[Setting]:
    """Return the settings that no other one beats in both size and error, in ascending order of size.

    `size` is the size that counts: `bytes` or `payload`.
    """
    best: list[Setting] = []
    for setting in sorted(settings, key=lambda setting: (getattr(setting, size), setting.mse)):
        if not best or setting.mse < best[-1].mse:
            best.append(setting)
    return best


def bytes_at(settings: Sequence[Setting], mse: float, size: str = "bytes") -> float | None:
    """Return the envelope's bytes at an error, or None if the error lies outside the settings measured."""
    points = envelope(settings, size)[::-1]
    errors = [math.log(point.mse) for point in points]
    if not errors or not errors[0] <= math.log(mse) <= errors[-1]:
        return None
    sizes = [math.log(getattr(point, size)) for point in points]
    return math.exp(float(np.interp(math.log(mse), errors, sizes)))


def load(name: str, results: Path = RESULTS) -> list[Setting]:
    """Read the settings of a set that an earlier run measured."""
    found = json.loads((results / f"envelope-{name}.json").read_text(encoding="utf-8"))
    return [Setting(**values) for values in found["settings"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SETS), help="sets to measure, of: " + ", ".join(SETS))
    parser.add_argument("--images", type=int, default=0, help="evenly spaced test pictures to try (default: all)")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        pictures = list(SETS[name].read("test"))
        count = min(arguments.images or len(pictures), len(pictures))
        pictures = [pictures[index] for index in np.linspace(0, len(pictures) - 1, count).astype(int)]
        settings = measure(pictures)
        rows = [
            {"MSE": mark, "bytes": bytes_at(settings, mark), "payload": bytes_at(settings, mark, "payload")}
            for mark in MARKS[name]
        ]
        print(f"{name}, {count} pictures\n{table(rows)}", flush=True)
        kept = [setting for size in ("bytes", "payload") for setting in envelope(settings, size)]
        unique = list(dict.fromkeys(kept))
        facts = {"pictures": count, "marks": rows, "settings": [asdict(setting) for setting in unique]}
        title = f"# Envelope of {name}\n\nMade by `python benchmarks/envelope.py` on {count} test pictures."
        lines = [asdict(setting) for setting in envelope(settings)]
        save(f"envelope-{name}", {**facts, "machine": machine()}, f"{title}\n\n{table(rows)}\n\n{table(lines)}")


if __name__ == "__main__":
    main()
