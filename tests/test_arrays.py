"""arrays: what .npy, .npz and idx files are taken as, and everything that is refused."""

import gzip
import io
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import made_images
from hypothesis import given, settings
from hypothesis import strategies as st

from aekit.errors import SourceError
from aekit.images.arrays import load_images, read_idx
from aekit.images.decode import Pixels

IMAGES = made_images(5, 8, 12)
Array = npt.NDArray[np.generic]


def saved(path: Path, array: object, **more: object) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, array, **more)
    else:
        np.save(path, array)
    return path


def idx(images: Array, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([images.ndim]) + struct.pack(f">{images.ndim}I", *images.shape) + images.tobytes()


# --- taken


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (IMAGES, IMAGES),
        (IMAGES[..., 0], IMAGES),
        (IMAGES.repeat(3, axis=3), IMAGES.repeat(3, axis=3)),
        (np.asfortranarray(IMAGES[..., 0]), IMAGES),
        (IMAGES > 100, (IMAGES > 100) * 255),
        (IMAGES.astype(np.uint16) * 257 + 128, IMAGES),
        (IMAGES.astype(np.uint16) * 257 - (IMAGES > 0) * np.uint16(128), IMAGES),
        (IMAGES / np.float32(255), IMAGES),
        ((IMAGES / 255).astype(">f8"), IMAGES),
        ((IMAGES / 255).astype(np.float16), IMAGES),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)
def test_what_people_save_becomes_uint8_images(tmp_path: Path, suffix: str, array: Array, wanted: Pixels) -> None:
    out = load_images(saved(tmp_path / f"a.{suffix}", array))
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, wanted)


def test_a_plain_uint8_npy_is_mapped_and_not_read(tmp_path: Path) -> None:
    out = load_images(saved(tmp_path / "a.npy", IMAGES))
    assert isinstance(out, np.memmap)


def test_of_several_arrays_the_one_called_images_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", labels=np.arange(5), images=IMAGES)
    np.testing.assert_array_equal(load_images(tmp_path / "a.npz"), IMAGES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("images", [IMAGES[..., 0], IMAGES, IMAGES.repeat(3, axis=3)])
def test_idx_files_plain_and_packed(tmp_path: Path, pack: Callable[[bytes], bytes], images: Pixels) -> None:
    (tmp_path / "a").write_bytes(pack(idx(images)))
    out = read_idx(tmp_path / "a")
    np.testing.assert_array_equal(out, images.reshape(5, 8, 12, -1))
    assert isinstance(out.base, np.memmap) == (pack is bytes)


# --- refused


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.where(IMAGES.max() == IMAGES, np.nan, IMAGES / 255), "found NaN"),
        (IMAGES / 255 - 0.1, "from -0.1 to"),
        (IMAGES.astype(np.float32), "float32 from 0 to 2"),
        (np.full((2, 8, 8), np.inf), "inf"),
        (IMAGES.astype(np.int64), "found int64"),
        (IMAGES.astype(complex), "found complex128"),
        (IMAGES[0, :, :, 0], r"shape \(8, 12\)"),
        (IMAGES[None], r"shape \(1, 5, 8, 12\)"),
        (IMAGES.repeat(2, axis=3), r"shape \(5, 8, 12, 2\)"),
        (IMAGES[:0], r"shape \(0, 8, 12\)"),
        (np.uint8(3), r"shape \(\)"),
    ],
)
def test_other_arrays_are_refused_with_what_was_found(tmp_path: Path, suffix: str, array: Array, found: str) -> None:
    with pytest.raises(SourceError, match=found):
        load_images(saved(tmp_path / f"a.{suffix}", array))


class Trap:
    """An object whose unpickling would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_pickled_objects_are_refused_without_being_loaded(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", np.array([Trap(tmp_path / "sprung")], object))
    with pytest.raises(SourceError, match="an array saved by numpy"):
        load_images(path)
    assert not (tmp_path / "sprung").exists()


def test_an_npz_of_several_arrays_or_of_none_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=IMAGES, b=IMAGES)
    zipfile.ZipFile(tmp_path / "none.npz", "w").close()
    for name, found in (("two", "found a, b"), ("none", "no array")):
        with pytest.raises(SourceError, match=found):
            load_images(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("data", [b"", b"junk", b"PK\3\4junk", b"\x93NUMPY\1\0\xff\xffjunk"])
def test_files_that_numpy_did_not_save_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match="an array saved by numpy"):
        load_images(tmp_path / name)


def test_a_header_that_claims_more_than_any_memory_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000, 3)}
    )
    (tmp_path / "a.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    for name in ("a.npy", "a.npz"):
        with pytest.raises(SourceError, match="an array saved by numpy"):
            load_images(tmp_path / name)


@settings(max_examples=150)
@given(st.sampled_from(["npy", "npz", "idx", "idx.gz"]), st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_damaged_bytes_never_raise_anything_but_a_source_error(kind: str, place: int, patch: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        if kind in ("npy", "npz"):
            saved(path, IMAGES)
        else:
            path.write_bytes(idx(IMAGES) if kind == "idx" else gzip.compress(idx(IMAGES)))
        data = bytearray(path.read_bytes())
        start = place % min(len(data), 200)  # the headers, where most can go wrong
        data[start : start + len(patch)] = patch
        path.write_bytes(data)
        try:
            assert (load_images if kind in ("npy", "npz") else read_idx)(path).dtype == np.uint8
        except SourceError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "starts with"),
        (b"\0\0\x08", "starts with 00 00 08"),
        (b"\0\0\x08\x03\0\0", "unpack requires"),
        (idx(IMAGES[..., 0], b"\0\0\x0d"), "starts with 00 00 0d 03"),
        (idx(IMAGES[0, :, :, 0]), "starts with 00 00 08 02"),
        (idx(IMAGES[..., 0])[:-1], "expected 480 bytes .* found 479"),
        (idx(IMAGES[..., 0]) + b"x", "expected 480 bytes .* found 481"),
        (idx(IMAGES[:0, ..., 0]), r"bytes of pixels \(0, 8, 12\)"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "found 0"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_of_the_wrong_kind_or_length_is_refused(
    tmp_path: Path, pack: Callable[[bytes], bytes], data: bytes, found: str
) -> None:
    (tmp_path / "a").write_bytes(pack(data))
    with pytest.raises(SourceError, match=found):
        read_idx(tmp_path / "a")


@pytest.mark.parametrize("shape", [(5, 8, 12), (2**32 - 1,) * 3])
def test_a_packed_idx_is_unpacked_no_further_than_its_header_says(tmp_path: Path, shape: tuple[int, ...]) -> None:
    head = b"\0\0\x08\x03" + struct.pack(">3I", *shape)
    (tmp_path / "a.gz").write_bytes(gzip.compress(head + bytes(10**8 if shape[0] == 5 else 100)))
    tracemalloc.start()
    with pytest.raises(SourceError, match="bytes of pixels"):
        read_idx(tmp_path / "a.gz")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def damaged(data: bytes) -> bytes:
    return data[:30] + bytes(byte ^ 0xFF for byte in data[30:60]) + data[60:]


@pytest.mark.parametrize("harm", [lambda data: data[:-20], lambda data: data[:40], damaged])
def test_a_packed_idx_that_is_cut_short_or_damaged_is_refused(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.gz").write_bytes(harm(gzip.compress(idx(IMAGES[..., 0]))))
    with pytest.raises(SourceError, match="an idx file"):
        read_idx(tmp_path / "a.gz")


def test_an_npz_whose_data_is_damaged_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", IMAGES)
    path.write_bytes(damaged(damaged(path.read_bytes()[::-1])[::-1]))
    with pytest.raises(SourceError, match="an array saved by numpy"):
        load_images(path)
