"""What throughput is measured on: digits as files and arrays, photos, and models that are hardly trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
from common import aekit
from PIL import Image

from aekit.images.decode import Pixels
from aekit.images.named_sets import load_named_set


class Bench(common.Bench):
    """A folder to work in, and how much of everything."""

    def much(self, count: int) -> int:
        """The full count, or a tenth of it."""
        return count // 10 if self.quick else count

    def made(self, name: str, make: Callable[[Path], None]) -> Path:
        """A file or folder of the working folder, made if it is not there."""
        path = self.folder / name
        if not path.exists():
            part = path.with_name(f"part-{name}")
            if part.is_dir():
                shutil.rmtree(part)
            make(part)
            part.rename(path)
        return path

    def untrained(self, name: str, source: str, *options: str) -> Path:
        """A model, hardly trained: speed does not depend on what it learned."""

        def make(path: Path) -> None:
            aekit(
                "train",
                source,
                "--out",
                f"runs/{name}",
                "--objective",
                "plain",
                "--epochs",
                "2",
                *options,
                cwd=self.folder,
            )
            aekit("export", f"runs/{name}", "--out", path, cwd=self.folder)

        return self.made(name, make)

    def fastest(self, name: str) -> Path:
        """The variant of a model that `auto` keeps on this machine."""
        run = self.folder / "runs" / name
        return self.made(
            f"{name}-auto",
            lambda path: aekit("export", run, "--variant", "auto", "--out", path, cwd=self.folder) and None,
        )

    def digits(self) -> Path:
        """10,000 PNG files of 28×28."""

        def make(folder: Path) -> None:
            for row, image in enumerate(digit_images(self.much(10_000))):
                (folder / str(row // 1000)).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image[:, :, 0]).save(folder / str(row // 1000) / f"{row:06d}.png")

        return self.made(f"digits-{self.much(10_000)}", make)

    def array(self, count: int) -> Path:
        """That many digits in one .npy, in chunks so that the making needs no memory."""

        def make(path: Path) -> None:
            images = digit_images(1000)
            mapped = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *images.shape[1:]))
            for start in range(0, count, 1000):
                mapped[start : start + 1000] = images[: count - start]

        return self.made(f"array-{count}.npy", make)

    def photos(self) -> Path:
        """JPEG files of 0.5 to 12 megapixels, cut and scaled from those that scikit-learn and scikit-image ship."""
        count = self.much(600)
        return self.made(f"photos-{count}", lambda folder: make_photos(folder, count))


def digit_images(count: int) -> Pixels:
    """Handwritten digits, repeated as often as it takes; uint8 [count, 28, 28, 1]."""
    images = load_named_set("mnist-5k", "train")
    return np.resize(images, (count, *images.shape[1:]))


def make_photos(folder: Path, count: int) -> None:
    """Write the photos: a random part of a picture, turned or not, scaled up, at qualities that cameras use."""
    import skimage
    from sklearn.datasets import load_sample_images

    shipped = (Path(skimage.__file__).parent / "data" / name for name in ("astronaut.png", "chelsea.png", "coffee.png"))
    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    pictures += [Image.open(path).convert("RGB") for path in shipped]
    rng = np.random.default_rng(0)
    folder.mkdir()
    for row in range(count):
        picture = pictures[row % len(pictures)]
        share = rng.uniform(0.6, 1)
        width, height = (int(side * share) for side in picture.size)
        left, top = (
            int(rng.integers(0, most - part + 1)) for most, part in zip(picture.size, (width, height), strict=True)
        )
        factor = (np.exp(rng.uniform(np.log(0.5e6), np.log(12e6))) / (width * height)) ** 0.5
        part = picture.crop((left, top, left + width, top + height))
        part = part.resize((int(width * factor), int(height * factor)), Image.Resampling.BICUBIC)
        if row % 3 == 0:
            part = part.transpose(Image.Transpose.ROTATE_90)
        part.save(folder / f"{row:05d}.jpg", quality=int(rng.integers(80, 95)))
