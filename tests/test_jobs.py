"""jobs: compress and reconstruct, there and back; what fails leaves nothing behind."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Run, made_images, one_line_error, split_options, tree, write_pictures
from PIL import Image
from test_codes import HOSTILE, rewrite_header, rewrite_line

from aekit import jobs
from aekit.codes.npy import CodeFile
from aekit.codes.npy_index import index_path
from aekit.errors import AekitError, CodesError, ImageError, ModelMismatch, OptionError, OutputError, SourceError
from aekit.images.decode import Pixels
from aekit.images.picture_output import MARKER
from aekit.images.sources import ArraySource, open_source
from aekit.jobs import JobOptions, Summary
from aekit.model.arguments import DTYPES
from aekit.model.codec import Codec

IMAGES = made_images(12)


def back(codes: Path, out: Path, codec: Codec, **options: Any) -> Summary:
    shared, own = split_options(options)
    return jobs.reconstruct(CodeFile.open(codes), out, codec, shared, **own)


def pixels(folder: Path, names: list[str]) -> Pixels:
    return np.stack([np.asarray(Image.open(folder / name)) for name in names])[..., None]


# --- there and back


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_folder_there_and_back(pictures: Path, tmp_path: Path, tiny_codec: Codec, dtype: str) -> None:
    names = sorted(tree(pictures))
    images = pixels(pictures, names)
    seen: list[int] = []
    summary = jobs.compress(
        open_source(str(pictures)),
        tmp_path / "codes.npy",
        tiny_codec,
        JobOptions(batch_size=5, progress=seen.append),
        dtype=dtype,
    )
    assert (summary.images, summary.skipped, summary.provider, seen) == (12, (), "cpu", [5, 10, 12])
    assert summary.bytes == (tmp_path / "codes.npy").stat().st_size
    stored = np.load(tmp_path / "codes.npy")
    np.testing.assert_allclose(stored, tiny_codec.encode(images, dtype), atol=1e-3)
    made = back(tmp_path / "codes.npy", tmp_path / "out", tiny_codec, batch_size=5)
    assert (made.images, made.provider) == (12, "cpu")
    assert sorted(tree(tmp_path / "out")) == sorted([*names, MARKER])
    np.testing.assert_array_equal(pixels(tmp_path / "out", names), tiny_codec.decode(stored, 5))


def test_one_image_is_enough(tmp_path: Path, tiny_codec: Codec) -> None:
    write_pictures(tmp_path / "one", 1)
    jobs.compress(open_source(str(tmp_path / "one")), tmp_path / "codes.npy", tiny_codec)
    assert back(tmp_path / "codes.npy", tmp_path / "out", tiny_codec).images == 1


def test_an_array_there_and_back(tmp_path: Path, tiny_codec: Codec) -> None:
    jobs.compress(ArraySource("a", IMAGES), tmp_path / "codes.npy", tiny_codec, JobOptions(batch_size=5))
    assert index_path(tmp_path / "codes.npy").read_bytes().count(b"\n") == 1
    summary = back(tmp_path / "codes.npy", tmp_path / "images.npy", tiny_codec, batch_size=5)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(mapped, tiny_codec.reconstruct(IMAGES, batch_size=5))
    assert summary.bytes == (tmp_path / "images.npy").stat().st_size
    back(tmp_path / "codes.npy", tmp_path / "out", tiny_codec, batch_size=5)
    np.testing.assert_array_equal(pixels(tmp_path / "out", [f"{row:06d}.png" for row in range(12)]), mapped)


def test_a_folder_to_an_array_keeps_the_order_of_the_rows(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    back(codes, tmp_path / "images.npy", tiny_codec)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), tiny_codec.decode(np.load(codes)))


def test_images_of_other_sizes_and_kinds_come_back_at_the_models_size_or_their_own(
    tmp_path: Path, tiny_codec: Codec
) -> None:
    source = tmp_path / "in"
    write_pictures(source, 2, (40, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 50), "teal").save(source / "turned.jpg", exif=exif)
    Image.new("RGB", (30, 50), "teal").save(source / "turned2.tiff", exif=exif)
    jobs.compress(open_source(str(source)), tmp_path / "codes.npy", tiny_codec)
    sizes = {"a/000.png": (24, 40), "b/001.png": (24, 40), "turned.png": (50, 30), "turned2.png": (50, 30)}
    for own in (False, True):
        back(tmp_path / "codes.npy", tmp_path / f"out{own}", tiny_codec, original_size=own)
        found = {name: Image.open(tmp_path / f"out{own}" / name).size for name in sizes}
        assert found == (sizes if own else dict.fromkeys(sizes, (16, 16)))


def test_odd_names_come_back(tmp_path: Path, tiny_codec: Codec) -> None:
    write_pictures(tmp_path / "in", 2)
    names = ["new\nline.png", "~.png", " sp ace.png", "\udcff.png", "no.dots.here.png", "..two.png"]
    for name in names:
        shutil.copy(tmp_path / "in/a/000.png", tmp_path / "in" / name)
    jobs.compress(open_source(str(tmp_path / "in")), tmp_path / "codes.npy", tiny_codec)
    back(tmp_path / "codes.npy", tmp_path / "out", tiny_codec)
    assert sorted(tree(tmp_path / "out")) == sorted([*tree(tmp_path / "in"), MARKER])


# --- bad images


def test_a_bad_image_is_skipped_and_listed(pictures: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    (pictures / "a/002.png").write_bytes(b"")
    summary = jobs.compress(open_source(str(pictures)), tmp_path / "codes.npy", tiny_codec, JobOptions(batch_size=2))
    assert (summary.images, [(bad.path, bad.error) for bad in summary.skipped]) == (11, [("a/002.png", "empty file")])
    lines = [json.loads(line) for line in index_path(summary.out).read_text().splitlines()[1:]]
    assert lines[1] == {"path": "a/002.png", "error": "empty file"}
    assert [line["row"] for line in lines if "row" in line] == list(range(11))
    back(summary.out, tmp_path / "out", tiny_codec)
    assert sorted(tree(tmp_path / "out")) == sorted([*(set(tree(pictures)) - {"a/002.png"}), MARKER])


def test_a_batch_of_bad_images_alone_is_no_end(pictures: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    for path in (pictures / "a").iterdir():
        path.write_bytes(b"")
    summary = jobs.compress(open_source(str(pictures)), tmp_path / "codes.npy", tiny_codec, JobOptions(batch_size=3))
    assert (summary.images, len(summary.skipped)) == (6, 6)


def failing_compress(case: str, pictures: Path, out: Path, codec: Codec, **options: Any) -> None:
    """A compress that must fail, the way `case` says, after some rows were written where it can."""
    bad = {"all bad": list(pictures.rglob("*.png")), "one bad": [pictures / "b/011.png"]}.get(case, [])
    for path in bad:
        path.write_bytes(b"")

    def stop(done: int) -> None:
        if case == "ctrl-c" and done > 4:
            raise KeyboardInterrupt

    options |= {
        "one bad": {"on_error": "fail"},
        "dtype": {"dtype": "int4"},
        "batch": {"batch_size": 0},
        "on-error": {"on_error": "stop"},
    }.get(case, {})
    shared, own = split_options({"batch_size": 4, "progress": stop, **options})
    jobs.compress(open_source(str(pictures)), out, codec, shared, **own)


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ("one bad", ImageError, r"b/011\.png: empty file"),
        ("all bad", SourceError, r"at least one readable image, found a/000\.png: empty file"),
        ("dtype", OptionError, "int4"),
        ("batch", OptionError, "1 or more"),
        ("on-error", OptionError, "skip or fail"),
        ("ctrl-c", KeyboardInterrupt, "--resume goes on"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_a_compress_that_fails_leaves_what_was_there(
    codes: Path,
    pictures: Path,
    tmp_path: Path,
    tiny_codec: Codec,
    case: str,
    error: type[BaseException],
    message: str,
    old: bool,
) -> None:
    (tmp_path / "new").mkdir()
    out = tmp_path / "new" / "codes.npy"
    if old:
        for path in (codes, index_path(codes)):
            shutil.copy(path, out.parent)
    before = tree(out.parent)
    with pytest.raises(error, match=message):
        failing_compress(case, pictures, out, tiny_codec, overwrite=old)
    left = {"codes.npy.part", "codes.jsonl.part", "codes.npy.journal"} if case in ("one bad", "ctrl-c") else set()
    after = tree(out.parent)
    assert {name: data for name, data in after.items() if name not in left} == before
    assert left <= after.keys()


def test_an_output_must_be_an_npy_and_free(codes: Path, pictures: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    source = open_source(str(pictures))
    with pytest.raises(OptionError, match=r"ends in \.npy"):
        jobs.compress(source, tmp_path / "codes.txt", tiny_codec)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match="--overwrite"):
        jobs.compress(source, codes, tiny_codec)
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(OutputError, match="found a folder"):
        jobs.compress(source, tmp_path / "folder.npy", tiny_codec, JobOptions(overwrite=True))
    codes.unlink()
    with pytest.raises(OutputError, match=r"codes\.jsonl.*--overwrite"):  # the index alone is in the way too
        jobs.compress(source, codes, tiny_codec)
    assert tree(tmp_path) == {name: data for name, data in before.items() if name != "codes.npy"}
    jobs.compress(source, codes, tiny_codec, JobOptions(overwrite=True), dtype="uint8")
    assert CodeFile.open(codes).codes.dtype == np.uint8


# --- bad codes


def fails(codes: Path, folder: Path, codec: Codec, error: type[AekitError], message: str) -> None:
    """Reconstructing to a folder and to an array both fail and leave nothing."""
    for name in ("out", "images.npy"):
        with pytest.raises(error, match=message):
            back(codes, folder / "made" / name, codec, batch_size=5)
        assert not list((folder / "made").rglob("*")) if (folder / "made").exists() else True


def test_codes_of_another_model_are_refused_naming_both(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    rewrite_header(codes, model_id="0123456789abcdef")
    both = f"{tiny_codec.model_id}, found codes of model 0123456789abcdef"
    fails(codes, tmp_path, tiny_codec, ModelMismatch, both)


@pytest.mark.parametrize("row", [0, 11])
def test_altered_rows_are_refused_by_their_checksum(codes: Path, tmp_path: Path, tiny_codec: Codec, row: int) -> None:
    rows = np.load(codes)
    rows[row, 2] += 1
    np.save(codes, rows)
    fails(codes, tmp_path, tiny_codec, CodesError, r"codes\.npy was altered: expected CRC-32")


def test_codes_that_are_not_numbers_are_refused(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    rows = np.load(codes)
    rows[7, 2] = np.nan
    np.save(codes, rows)
    fails(codes, tmp_path, tiny_codec, AekitError, "finite numbers")


def test_codes_of_the_wrong_width_are_refused_with_and_without_an_index(
    codes: Path, tmp_path: Path, tiny_codec: Codec
) -> None:
    np.save(codes, np.zeros((12, 5), np.float32))
    rewrite_header(codes, code_dim=5)
    fails(codes, tmp_path, tiny_codec, CodesError, "expected 4 numbers a code, found 5")
    with pytest.raises(CodesError, match="expected 4 numbers a code, found 5"):
        jobs.reconstruct(CodeFile.open(codes, index=False), tmp_path / "out", tiny_codec)


def test_codes_without_their_index_decode_if_asked(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    index_path(codes).unlink()
    jobs.reconstruct(CodeFile.open(codes, index=False), tmp_path / "out", tiny_codec)
    names = [f"{row:06d}.png" for row in range(12)]
    np.testing.assert_array_equal(pixels(tmp_path / "out", names), tiny_codec.decode(np.load(codes)))


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_never_leaves_the_output_folder(
    codes: Path, tmp_path: Path, tiny_codec: Codec, path: str
) -> None:
    rewrite_line(codes, 12, json.dumps({"row": 11, "path": path, "width": 1, "height": 1}))
    before = tree(tmp_path)
    with pytest.raises(CodesError, match="below the output folder"):
        back(codes, tmp_path / "out", tiny_codec)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("path", ["~/x.png", "$HOME/x.png", "aekit.json", ".aekit-part", "C:\\x.png", "a/./b.png"])
def test_an_odd_path_is_written_inside(codes: Path, tmp_path: Path, tiny_codec: Codec, path: str) -> None:
    rewrite_line(codes, 12, json.dumps({"row": 11, "path": path, "width": 1, "height": 1}))
    before = tree(tmp_path)
    back(codes, tmp_path / "out", tiny_codec)
    made = tree(tmp_path)
    assert {name: data for name, data in made.items() if not name.startswith("out/")} == before
    assert len(made) - len(before) == 13
    assert json.loads(made[f"out/{MARKER}"])["images"] == 12


@pytest.mark.parametrize("path", ["a/000.png", "./a/000.png", "a//000.png"])
def test_an_index_that_names_a_file_twice_is_refused(codes: Path, tmp_path: Path, tiny_codec: Codec, path: str) -> None:
    rewrite_line(codes, 12, json.dumps({"row": 11, "path": path, "width": 1, "height": 1}))
    with pytest.raises(CodesError, match="each path once"):
        back(codes, tmp_path / "out", tiny_codec)


def test_a_folder_name_that_no_system_takes_is_refused_before_anything_is_decoded(
    codes: Path, tmp_path: Path, tiny_codec: Codec
) -> None:
    rewrite_line(codes, 12, json.dumps({"row": 11, "path": "x" * 256 + "/a.png", "width": 1, "height": 1}))
    before = tree(tmp_path)
    with pytest.raises(CodesError, match="at most 255 bytes") as caught:
        back(codes, tmp_path / "out", tiny_codec)
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("size", [(0, 1), (-1, -1), (10**9, 10**9), (10**6, 90)])
def test_a_size_that_no_image_has_is_refused(
    codes: Path, tmp_path: Path, tiny_codec: Codec, size: tuple[int, int]
) -> None:
    rewrite_line(codes, 12, json.dumps({"row": 11, "path": "x.png", "width": size[0], "height": size[1]}))
    with pytest.raises(CodesError, match="a size"):
        back(codes, tmp_path / "out", tiny_codec, original_size=True)
    assert not (tmp_path / "out").exists()


# --- where reconstructions go


def test_reconstructions_are_replaced_only_if_asked(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    for name in ("out", "images.npy"):
        out = tmp_path / name
        back(codes, out, tiny_codec)
        with pytest.raises(OutputError, match="--overwrite"):
            back(codes, out, tiny_codec)
        back(codes, out, tiny_codec, overwrite=True)


def test_a_folder_aekit_did_not_make_is_never_replaced(
    codes: Path, pictures: Path, tmp_path: Path, tiny_codec: Codec
) -> None:
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="aekit did not make it"):
            back(codes, pictures, tiny_codec, overwrite=overwrite)
    assert tree(tmp_path) == before


def test_an_interrupted_reconstruct_leaves_the_old_one(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    for name in ("out", "images.npy"):
        back(codes, tmp_path / name, tiny_codec)
        before = tree(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            back(codes, tmp_path / name, tiny_codec, overwrite=True, batch_size=5, progress=stop)
        assert {key: data for key, data in tree(tmp_path).items() if key in before} == before


def test_options_that_do_not_fit_are_refused(codes: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    with pytest.raises(OptionError, match="1 or more"):
        back(codes, tmp_path / "out", tiny_codec, batch_size=0)
    with pytest.raises(OptionError, match="--original-size"):
        back(codes, tmp_path / "images.npy", tiny_codec, original_size=True)
    jobs.compress(ArraySource("a", IMAGES), tmp_path / "array.npy", tiny_codec)
    with pytest.raises(OptionError, match="--original-size"):
        back(tmp_path / "array.npy", tmp_path / "out", tiny_codec, original_size=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["compress", "denoise", "reconstruct"])
def test_overwrite_never_replaces_what_is_read(aekit: Run, tmp_path: Path, command: str) -> None:
    np.save(tmp_path / "a.npy", made_images(5))
    if command == "reconstruct":
        assert aekit("compress", "a.npy", "--out", "codes.npy", "--model", TINY).returncode == 0
    source = "codes.npy" if command == "reconstruct" else "a.npy"
    before = (tmp_path / source).read_bytes()
    done = aekit(command, source, "--out", f"./{source}", "--overwrite", "--model", TINY)
    assert f"a place apart from {source}" in one_line_error(done)
    assert (tmp_path / source).read_bytes() == before


def test_pictures_are_not_written_where_they_would_be_read(aekit: Run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    done = aekit("denoise", "in", "--out", "in/clean", "--model", TINY)
    assert "a place apart from in" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "in/clean").exists()


def test_one_image_is_a_source(aekit: Run, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 3)
    done = aekit("compress", "in/a/000.png", "--out", "one.npy", "--model", TINY)
    assert done.returncode == 0
    assert np.load(tmp_path / "one.npy", allow_pickle=False).shape == (1, 4)
