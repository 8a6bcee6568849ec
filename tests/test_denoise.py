"""denoise: images through the model to images; what fails leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, split_options, tree, write_pictures
from PIL import Image
from test_jobs import IMAGES, back, pixels

from aekit import jobs
from aekit.errors import AekitError, OptionError, OutputError
from aekit.images.picture_output import MARKER
from aekit.images.sources import ArraySource, open_source
from aekit.jobs import JobOptions, Summary
from aekit.model.codec import Codec


def cleaned(source: Path, out: Path, codec: Codec, **options: Any) -> Summary:
    shared, own = split_options(options)
    return jobs.denoise(open_source(str(source)), out, codec, shared, **own)


def test_denoise_writes_what_the_model_makes_of_each_image(pictures: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    seen: list[int] = []
    summary = cleaned(pictures, tmp_path / "out", tiny_codec, batch_size=5, progress=seen.append)
    names = sorted(tree(pictures))
    assert (summary.images, summary.skipped, summary.provider, seen) == (12, (), "cpu", [5, 10, 12])
    assert sorted(tree(tmp_path / "out")) == sorted([*names, MARKER])
    wanted = tiny_codec.reconstruct(pixels(pictures, names), batch_size=5)
    np.testing.assert_array_equal(pixels(tmp_path / "out", names), wanted)
    assert summary.bytes == sum((tmp_path / "out" / name).stat().st_size for name in names)
    facts = json.loads((tmp_path / "out" / MARKER).read_text())
    assert facts["made_by"].endswith(" denoise") and facts["images"] == 12
    summary = cleaned(pictures, tmp_path / "out.npy", tiny_codec, batch_size=5)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy", mmap_mode="r"), wanted)
    assert summary.bytes == (tmp_path / "out.npy").stat().st_size


def test_denoise_is_compress_and_reconstruct_in_one(codes: Path, pictures: Path, tmp_path: Path) -> None:
    codec = Codec.load(TINY, "cpu", 1)
    back(codes, tmp_path / "back", codec)
    cleaned(pictures, tmp_path / "out", codec)
    one, other = tree(tmp_path / "back"), tree(tmp_path / "out")
    assert {**one, MARKER: b""} == {**other, MARKER: b""}


def test_denoise_of_an_array_numbers_the_files(tmp_path: Path, tiny_codec: Codec) -> None:
    jobs.denoise(ArraySource("a", IMAGES), tmp_path / "out", tiny_codec, JobOptions(batch_size=5))
    names = [f"{row:06d}.png" for row in range(12)]
    wanted = tiny_codec.reconstruct(IMAGES, batch_size=5)
    np.testing.assert_array_equal(pixels(tmp_path / "out", names), wanted)


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_denoise_lists_bad_images_and_keeps_names_and_rows_in_step(
    pictures: Path, tmp_path: Path, tiny_codec: Codec, batch_size: int
) -> None:
    bad = ["a/000.png", "a/002.png", "a/004.png", "b/011.png"]
    for name in bad:
        (pictures / name).write_bytes(b"")
    good = sorted(set(tree(pictures)) - set(bad))
    summary = cleaned(pictures, tmp_path / "out", tiny_codec, batch_size=batch_size)
    assert (summary.images, [record.path for record in summary.skipped]) == (8, bad)
    assert sorted(tree(tmp_path / "out")) == sorted([*good, MARKER])
    wanted = tiny_codec.reconstruct(pixels(pictures, good), batch_size=batch_size)
    np.testing.assert_allclose(pixels(tmp_path / "out", good).astype(int), wanted, atol=1)
    cleaned(pictures, tmp_path / "out.npy", tiny_codec, batch_size=batch_size)
    assert np.load(tmp_path / "out.npy").shape == (8, 16, 16, 1)


def test_denoise_gives_images_their_own_size_and_a_name_each(tmp_path: Path, tiny_codec: Codec) -> None:
    source = tmp_path / "in"
    write_pictures(source, 2, (40, 24))
    Image.new("RGB", (30, 50), "teal").save(source / "c.jpg")
    Image.new("RGB", (20, 10), "teal").save(source / "c.webp")
    cleaned(source, tmp_path / "out", tiny_codec, original_size=True)
    sizes = {"a/000.png": (24, 40), "b/001.png": (24, 40), "c.jpg.png": (30, 50), "c.webp.png": (20, 10)}
    assert {name: Image.open(tmp_path / "out" / name).size for name in sizes} == sizes
    for other in (ArraySource("a", IMAGES), open_source(str(source))):
        with pytest.raises(OptionError, match="--original-size"):
            jobs.denoise(other, tmp_path / ("x" if other.paths is None else "x.npy"), tiny_codec, original_size=True)


@pytest.mark.parametrize("name", ["out", "out.npy"])
@pytest.mark.parametrize("case", ["all bad", "one bad", "batch", "on-error", "ctrl-c"])
def test_a_denoise_that_fails_leaves_what_was_there(
    pictures: Path, tmp_path: Path, tiny_codec: Codec, case: str, name: str
) -> None:
    out = tmp_path / "made" / name
    cleaned(pictures, out, tiny_codec)
    for path in {"all bad": list(pictures.rglob("*.png")), "one bad": [pictures / "b/011.png"]}.get(case, []):
        path.write_bytes(b"")

    def stop(done: int) -> None:
        if case == "ctrl-c" and done > 4:
            raise KeyboardInterrupt

    changes: dict[str, dict[str, Any]] = {
        "one bad": {"on_error": "fail"},
        "batch": {"batch_size": 0},
        "on-error": {"on_error": "stop"},
    }
    options = {"batch_size": 4, "progress": stop, **changes.get(case, {})}
    before = tree(out.parent)
    with pytest.raises((AekitError, KeyboardInterrupt)):
        cleaned(pictures, out, tiny_codec, overwrite=True, **options)
    after = tree(out.parent)
    assert {
        key: data for key, data in after.items() if not key.startswith((f"{name}.part", f"{name}.journal"))
    } == before
    assert (f"{name}.journal" in after) == (case in ("one bad", "ctrl-c"))
    with pytest.raises(OutputError, match="--overwrite"):
        cleaned(pictures, out, tiny_codec)
