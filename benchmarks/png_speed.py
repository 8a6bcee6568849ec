"""What aekit.images.png is worth: our reading and writing of PNG files beside Pillow's own, in CPU time.

    AEKIT_DATA_DIR=DIR python benchmarks/png_speed.py

reads mnist (28×28, gray), gtsrb (64×64, RGB) and blood-cells (224×224, RGB) from DIR. The ways take turns, so that
what else the machine does falls on all of them; each figure is the median of the passes. Writes
benchmarks/results/png_speed.json and png_speed.md.
"""

import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from common import Rows, data_dir, machine, save, table
from PIL import Image

from aekit.images.decode import Pixels, PngStack, decode_read
from aekit.images.named_sets import load_named_set
from aekit.images.png import encode, encode_alike, read_packed
from aekit.spec import Geometry

PASSES = 9
BATCH = 256
"""Images that are read or written together, as jobs do."""
SETS = [("mnist", 28, 1024), ("gtsrb/gtsrb-png.tar", 64, 512), ("blood-cells/blood-cells.tar", 224, 64)]
"""Source, side in pixels, and number of images."""


def from_tar(path: Path, side: int, count: int) -> Iterator[Pixels]:
    """The first images of a tar file, scaled: uint8 [side, side, 3]."""
    with tarfile.open(path) as tar:
        members = (member for member in tar if member.name.lower().endswith((".png", ".jpg")))
        for _, member in zip(range(count), members, strict=False):
            file = tar.extractfile(member)
            assert file is not None
            yield np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB").resize((side, side)))


def images_of(source: str, side: int, count: int) -> Pixels:
    """The set's images, uint8 [count, side, side, channels]."""
    if source == "mnist":
        return load_named_set("mnist", "test")[:count]
    return np.stack(list(from_tar(data_dir() / source, side, count)))


def by_pillow(image: Image.Image, level: int, strategy: int = -1) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level, compress_type=strategy)
    return file.getvalue()


def writers(images: Pixels) -> dict[str, Callable[[], list[bytes]]]:
    """The ways to turn images into PNG files."""
    plain = images if images.shape[3] == 3 else images[..., 0]
    ways: dict[str, Callable[[], list[bytes]]] = {
        f"Pillow, level {level}": lambda level=level: [by_pillow(Image.fromarray(image), level) for image in plain]
        for level in range(1, 7)
    }
    ways["Pillow, level 1, run lengths"] = lambda: [by_pillow(Image.fromarray(image), 1, 3) for image in plain]
    ways["png.encode"] = lambda: [encode(Image.fromarray(image)) for image in plain]
    ways["png.encode_alike"] = lambda: [
        file for start in range(0, len(images), BATCH) for file in encode_alike(images[start : start + BATCH])
    ]
    return ways


def readers(paths: list[Path], geometry: Geometry) -> dict[str, Callable[[], Pixels]]:
    """The ways to read PNG files of the geometry's own size and colour."""
    out = np.empty((len(paths), *geometry.shape), np.uint8)

    def bare() -> Pixels:
        for row, path in zip(out, paths, strict=True):
            row[...] = np.asarray(Image.open(path)).reshape(geometry.shape)
        return out

    def checked(short: bool) -> Pixels:
        for row, path in zip(out, paths, strict=True):
            row[...] = decode_read(path, geometry, read_packed(path, 2**26) if short else None)[0]
        return out

    def stacked() -> Pixels:
        for start in range(0, len(paths), BATCH):
            stack = PngStack(geometry, out[start : start + BATCH])
            for place, path in enumerate(paths[start : start + BATCH]):
                packed = read_packed(path, 2**26)
                assert packed and stack.take(packed, place)
            stack.empty()
        return out

    return {
        "Pillow, bare": bare,
        "Pillow, with our checks": lambda: checked(False),
        "png, each alone": lambda: checked(True),
        "png, stacked": stacked,
    }


def medians(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """CPU seconds that each way takes, the median over passes in which the ways take turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(PASSES):
        for name, way in ways.items():
            began = time.process_time()
            way()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    rows: Rows = []
    for source, side, count in SETS:
        images = images_of(source, side, count)
        form = f"{side}×{side}×{images.shape[3]}"
        writing = writers(images)
        sizes = {name: sum(map(len, write())) / count for name, write in writing.items()}
        for name, seconds in medians(writing).items():
            rows.append(
                {"": "write", "images": form, "way": name, "µs each": 1e6 * seconds / count} | {"bytes": sizes[name]}
            )
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{row}.png" for row in range(count)]
            for path, data in zip(paths, writing["Pillow, level 6"](), strict=True):
                path.write_bytes(data)
            reading = readers(paths, Geometry(side, side, images.shape[3]))
            for read in reading.values():
                np.testing.assert_array_equal(read(), images)
            for name, seconds in medians(reading).items():
                rows.append({"": "read", "images": form, "way": name, "µs each": 1e6 * seconds / count})
    save("png_speed", {"machine": machine(), "rows": rows}, table(rows))
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
