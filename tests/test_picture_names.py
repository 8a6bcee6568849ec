"""picture_names: each image gets a file of its own, and any set of paths fits into one folder."""

import time
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from conftest import made_images, tree
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from test_jobs import back, pixels

from aekit import jobs
from aekit.codes.files import open_codes
from aekit.images.picture_names import png_paths
from aekit.images.picture_output import MARKER
from aekit.images.sources import open_source
from aekit.model.codec import Codec

IMAGES = made_images(12)


@pytest.mark.parametrize(
    ("paths", "targets"),
    [
        (["a.jpg", "b/a.png"], ["a.png", "b/a.png"]),
        (["a.jpg", "a.png", "b.jpg"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["A.jpg", "a.png"], ["A.jpg.png", "a.png.png"]),
        (["a.jpg", "a.jpg.webp", "a.png"], ["a.jpg.png", "a.jpg.webp.png", "a.png.png"]),
        (["a.jpg", "a.png", "a.png.png"], ["a.jpg.png", "a.png.png", "a.png.png.png"]),
        (["a.jpg", "a.png/b.jpg"], ["a.jpg.png", "a.png/b.png"]),
        (["aekit.json.png", "aekit.png"], ["aekit.json.png", "aekit.png"]),
        (["x", "..png", "a.b.c"], ["x.png", "..png.png", "a.b.png"]),
    ],
)
def test_each_image_has_a_file_of_its_own(paths: list[str], targets: list[str]) -> None:
    assert png_paths(paths) == targets


LONG = "x" * 251


@pytest.mark.parametrize(
    ("paths", "targets"),
    [
        (["A.jpg", "a.jpg"], ["A.jpg.png", "a.jpg-2.png"]),
        (["A.jpg", "a.jpg", "a.jpg-2.tif"], ["A.jpg.png", "a.jpg-3.png", "a.jpg-2.png"]),
        (["A/x.jpg", "a/x.jpg"], ["A/x.jpg.png", "a/x.jpg-2.png"]),
        (["\u00fc.jpg", "u\u0308.jpg"], ["\u00fc.jpg.png", "u\u0308.jpg-2.png"]),
        (["a.jpg", "a.png", "a.jpg.png/b.jpg"], ["a.jpg-2.png", "a.png.png", "a.jpg.png/b.png"]),
        (["aekit.json/a.jpg", "b/aekit.json/a.jpg"], ["aekit.json_/a.png", "b/aekit.json/a.png"]),
        ([".AEKIT-part/a.jpg", "aekit.json_/a.jpg"], [".AEKIT-part_/a.png", "aekit.json_/a.png"]),
        (["aekit.json/a.jpg", "aekit.json_/a.jpg"], ["aekit.json_/a.jpg.png", "aekit.json_/a.jpg-2.png"]),
        ([LONG + ".jpg", LONG + ".png"], ["x" * 240 + "-2.png", "x" * 240 + "-3.png"]),
    ],
)
def test_names_that_can_not_share_a_folder_get_others(paths: list[str], targets: list[str]) -> None:
    assert png_paths(paths) == targets


@given(
    st.sets(
        st.from_regex(r"((aekit.json|[ab])(\.png)?/)?[abA](\.(jpg|png|PNG|webp)){1,3}(/[ab]\.jpg)?", fullmatch=True),
        max_size=12,
    )
)
@example({"a.jpg", "a.png", "a.jpg.webp", "a.png/b.jpg"})
@example({"a.jpg", "a.png", "a.jpg.png/b.jpg"})
def test_all_paths_fit_into_one_folder(paths: set[str]) -> None:
    targets = png_paths(sorted(paths))
    folders = {parent.casefold() for target in targets for parent in folders_of(target)}
    files = {target.casefold() for target in targets}
    assert len(files) == len(paths)
    assert not files & folders
    assert "aekit.json" not in files | folders
    assert all(target.endswith(".png") for target in targets)


def folders_of(path: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]


def test_a_hundred_thousand_equal_names_take_little_time() -> None:
    for path in ("a.jpg", "x" * 300):
        began = time.process_time()
        assert len(set(png_paths([path] * 100_000))) == 100_000
        assert time.process_time() - began < 10


@pytest.mark.parametrize("kind", ["npy", "aek"])
def test_any_folder_can_be_written_again(tmp_path: Path, tiny_codec: Codec, kind: str) -> None:
    names = ["a.bmp", "a.png", "a.bmp.png/b.png", "aekit.json/a.png", ".aekit-part/a.png", "A.bmp"]
    names += [f"{LONG[:250]}.{suffix}" for suffix in ("bmp", "png")]
    for name, image in zip(names, IMAGES, strict=False):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / "in" / name)
    jobs.compress(open_source(str(tmp_path / "in")), tmp_path / f"codes.{kind}", tiny_codec)
    with open_codes(tmp_path / f"codes.{kind}") as codes:
        jobs.reconstruct(codes, tmp_path / "out", tiny_codec)
    assert len(tree(tmp_path / "out")) == len(names) + 1
    jobs.denoise(open_source(str(tmp_path / "in")), tmp_path / "clean", tiny_codec)
    assert set(tree(tmp_path / "clean")) == set(tree(tmp_path / "out"))


def test_colliding_names_are_written_and_none_is_lost(tmp_path: Path, tiny_codec: Codec) -> None:
    (tmp_path / "in/c.png").mkdir(parents=True)
    names = ["a.bmp", "a.png", "a.bmp.webp", "c.tiff", "c.png/d.png"]
    for name, image in zip(names, IMAGES, strict=False):
        Image.fromarray(image[..., 0]).save(tmp_path / "in" / name)
    jobs.compress(open_source(str(tmp_path / "in")), tmp_path / "codes.npy", tiny_codec)
    back(tmp_path / "codes.npy", tmp_path / "out", tiny_codec)
    wanted = ["a.bmp.png", "a.bmp.webp.png", "a.png.png", "c.png/d.png", "c.tiff.png"]
    assert sorted(tree(tmp_path / "out")) == sorted([*wanted, MARKER])
    np.testing.assert_array_equal(pixels(tmp_path / "out", wanted), tiny_codec.decode(np.load(tmp_path / "codes.npy")))
