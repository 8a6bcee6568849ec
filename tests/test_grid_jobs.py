"""Jobs on a model of grid codes: pictures of any size through code files and back, whoever reads and writes them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Run, one_line_error, split_options, tree
from grid_models import BAD, made_pictures, write_grid_model
from PIL import Image

import aekit.images.reading
from aekit import jobs
from aekit.codes.files import open_codes
from aekit.errors import CodesError, ModelMismatch, OptionError
from aekit.images.decode import Pixels, picture_for_grid
from aekit.images.reading import plan_reading, reading
from aekit.images.sources import ArraySource, FolderSource, open_source, read_all
from aekit.jobs import JobOptions, Summary
from aekit.model.codec import Codec
from aekit.spec import GridGeometry
from aekit.workers import HERE, Plan

ANY = GridGeometry(stride=8, channels=3, encoder_halo=1, decoder_halo=1)
GOOD = 24


def compress(source: Any, out: Path, codec: Codec, **options: Any) -> Summary:
    shared, own = split_options(options)
    return jobs.compress(source, out, codec, shared, **own)


def back(codes: Path, out: Path, codec: Codec, *, salvage: bool = False, index: bool = True, **options: Any) -> Summary:
    shared, own = split_options(options)
    with open_codes(codes, salvage=salvage, index=index) as stored:
        return jobs.reconstruct(stored, out, codec, shared, **own)


def pictures_in(folder: Path) -> dict[str, Pixels]:
    return {
        str(path.relative_to(folder)): np.asarray(Image.open(path).convert("RGB")) for path in folder.rglob("*.png")
    }


def wanted(source: FolderSource, codec: Codec, dtype: str) -> dict[str, Pixels]:
    """What the codec makes of each readable picture alone, by the path of its PNG."""
    made = {}
    for path in source.paths:
        if path not in BAD:
            picture, _ = picture_for_grid(source.root / path, codec.spec.grid)
            made[str(Path(path).with_suffix(".png"))] = codec.decode(codec.encode([picture], dtype))[0]
    return made


def assert_same(one: dict[str, Pixels], other: dict[str, Pixels]) -> None:
    assert sorted(one) == sorted(other)
    for name, picture in one.items():
        np.testing.assert_array_equal(picture, other[name], name)


# --- blocks


@pytest.mark.parametrize(("batch", "pixels"), [(1, 2**24), (5, 2**24), (64, 2**24), (64, 3000), (3, 700)])
def test_blocks_are_the_same_whoever_reads_and_wherever_one_begins(
    mixed: FolderSource, batch: int, pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aekit.images.reading, "BLOCK_PIXELS", pixels)

    def blocks(workers: int, first: int = 0) -> list[tuple[int, list[Pixels], Any]]:
        with reading(mixed, ANY, batch, workers, first) as taken:
            return [(stop, list(block.images), block.records) for stop, block in taken]

    whole = mixed.read(0, len(mixed), ANY)
    alone = blocks(0)
    assert [stop for stop, _, _ in alone] == np.cumsum([len(records) for _, _, records in alone]).tolist()
    assert tuple(record for _, _, records in alone for record in records) == whole.records
    for picture, other in zip((one for _, images, _ in alone for one in images), whole.images, strict=True):
        np.testing.assert_array_equal(picture, other)
    areas = [[image.shape[0] * image.shape[1] for image in images] for _, images, _ in alone]
    for block, following in zip(areas, [*areas[1:], [0]], strict=True):
        assert len(block) <= batch and (len(block) <= 1 or sum(block) <= pixels)
        if any(following):
            assert len(block) == batch or sum(block) >= pixels or sum(block) + following[0] > pixels
    if pixels == 3000:  # starting processes takes most of a second
        taken = blocks(2)
        assert [(stop, records) for stop, _, records in taken] == [(stop, records) for stop, _, records in alone]
        assert all(map(np.array_equal, _flat(taken), _flat(alone)))
    for place, (stop, _, _) in enumerate(alone[:-1], 1):
        rest = blocks(0, stop)
        assert [(stop, records) for stop, _, records in rest] == [(s, records) for s, _, records in alone[place:]]


def _flat(blocks: list[tuple[int, list[Pixels], Any]]) -> list[Pixels]:
    return [image for _, images, _ in blocks for image in images]


def test_large_pictures_are_read_by_fewer_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aekit.images.reading, "cores", lambda: 64)
    for size, plan in ((4_000_000, Plan("threads", 8)), (40_000_000, HERE), (60_000, Plan("threads", 64))):
        with (tmp_path / "a.jpg").open("wb") as file:
            file.truncate(size)
        source = FolderSource(tmp_path, ("a.jpg",) * 3000)
        assert plan_reading(source, whole_pictures=True) == plan
        assert plan_reading(source, 3, whole_pictures=True) == Plan("threads", 3)
        assert plan_reading(source) == Plan("threads", 64)


def test_an_array_gives_pictures_of_the_models_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack([made_pictures(1, seed=seed)[0][:7, :3] for seed in range(9)])
    source = ArraySource("a", images)
    np.testing.assert_array_equal(source.read(2, 5, ANY).images, images[2:5])
    gray = GridGeometry(8, 1, 0, 0, max_side=5)
    expected = [Image.fromarray(image).convert("L").resize((2, 5), Image.Resampling.LANCZOS) for image in images]
    np.testing.assert_array_equal(np.stack(source.read(0, 9, gray).images)[..., 0], np.stack(expected))
    monkeypatch.setattr(aekit.images.reading, "BLOCK_PIXELS", 50)
    with reading(source, ANY, 256) as blocks:
        assert [stop for stop, _ in blocks] == [2, 4, 6, 8, 9]


def test_read_all_gives_a_list_and_keeps_what_memory_does_not_hold_in_a_file(
    mixed: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, names, skipped = read_all(mixed, ANY)
    assert ([record.path for record in skipped], len(names)) == (list(BAD), GOOD)
    assert isinstance(pictures, list)
    monkeypatch.setattr("aekit.images.shelf.memory", lambda: 20_000)
    monkeypatch.setattr("aekit.images.shelf._FILE_BYTES", 10_000)
    mapped, again, _ = read_all(mixed, ANY)
    assert again == names
    assert sum(isinstance(picture, np.memmap) for picture in mapped) > 10
    assert all(map(np.array_equal, mapped, pictures))


# --- there and back


def test_pictures_come_back_in_their_own_sizes(mixed: FolderSource, tmp_path: Path, grid_codec: Codec) -> None:
    seen: list[int] = []
    summary = compress(mixed, tmp_path / "codes.aek", grid_codec, batch_size=5, progress=seen.append)
    assert (summary.images, [record.path for record in summary.skipped]) == (GOOD, list(BAD))
    assert seen[-1] == len(mixed) and len(seen) >= 5
    made = back(tmp_path / "codes.aek", tmp_path / "out", grid_codec)
    found = pictures_in(tmp_path / "out")
    assert made.images == GOOD
    assert (found["one.png"].shape, found["line.png"].shape) == ((1, 1, 3), (1, 5000, 3))
    assert found["turned.png"].shape[:2] == made_pictures(1, seed=2)[0].shape[1::-1]
    assert_same(found, wanted(mixed, grid_codec, "uint8"))


@pytest.fixture
def gray_codec(tmp_path: Path) -> Codec:
    """A gray model that shrinks pictures over 30 pixels."""
    return Codec.load(write_grid_model(tmp_path / "gray-model", channels=1, max_side=30), provider="cpu", threads=1)


def test_a_shrunk_picture_gets_its_size_back_if_asked(mixed: FolderSource, tmp_path: Path, gray_codec: Codec) -> None:
    compress(mixed, tmp_path / "codes.aek", gray_codec)
    back(tmp_path / "codes.aek", tmp_path / "small", gray_codec)
    back(tmp_path / "codes.aek", tmp_path / "own", gray_codec, original_size=True)
    jobs.denoise(mixed, tmp_path / "clean", gray_codec, original_size=True)
    for name, (width, height) in {"a/001.png": (40, 48), "turned.png": (20, 33), "line.png": (5000, 1)}.items():
        assert Image.open(tmp_path / "own" / name).size == (width, height)
        assert Image.open(tmp_path / "clean" / name).size == (width, height)
        small = Image.open(tmp_path / "small" / name)
        assert (small.mode, small.size) == ("L", gray_codec.spec.grid.fitted(height, width)[::-1])
    small_ones = {name: picture for name, picture in pictures_in(tmp_path / "small").items() if max(picture.shape) < 30}
    own = pictures_in(tmp_path / "own")
    assert len(small_ones) > 5
    assert_same(small_ones, {name: own[name] for name in small_ones})


def test_pictures_are_denoised_in_their_own_sizes(mixed: FolderSource, tmp_path: Path, grid_codec: Codec) -> None:
    summary = jobs.denoise(mixed, tmp_path / "out", grid_codec, JobOptions(batch_size=4))
    assert (summary.images, [record.path for record in summary.skipped]) == (GOOD, list(BAD))
    assert_same(pictures_in(tmp_path / "out"), wanted(mixed, grid_codec, "float32"))


def test_bytes_do_not_depend_on_workers_batches_or_threads(
    mixed: FolderSource, tmp_path: Path, shared_grid_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set()
    for number, (workers, batch, pixels, runs) in enumerate(
        [(0, 256, 2**24, 1), (2, 5, 2500, 2), (0, 1, 2**24, 1), (0, 16, 900, 2)]
    ):
        monkeypatch.setattr(aekit.images.reading, "BLOCK_PIXELS", pixels)
        monkeypatch.setattr("aekit.images.folder_writer._MOST_SENT", pixels)  # larger ones are not sent to processes
        codec, folder = Codec.load(shared_grid_model, "cpu", 2, runs), tmp_path / str(number)
        options = JobOptions(workers=workers, batch_size=batch)
        jobs.compress(mixed, folder / "codes.aek", codec, options)
        with open_codes(folder / "codes.aek") as stored:
            jobs.reconstruct(stored, folder / "back", codec, options)
        jobs.denoise(mixed, folder / "clean", codec, options)
        made.add(tuple(sorted(tree(folder).items())))
    assert len(made) == 1


def test_an_array_there_and_back(tmp_path: Path, grid_codec: Codec) -> None:
    images = np.stack([made_pictures(1, seed=seed)[0] for seed in range(7)])
    rebuilt = grid_codec.decode(grid_codec.encode(list(images), "uint8"))
    for name in ("codes.npy", "codes.aek"):
        compress(ArraySource("a", images), tmp_path / name, grid_codec, dtype="uint8", batch_size=3)
        back(tmp_path / name, tmp_path / f"{name}-images.npy", grid_codec, batch_size=2)
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}-images.npy"), np.stack(rebuilt))
        back(tmp_path / name, tmp_path / f"{name}-out", grid_codec)
        assert_same(
            pictures_in(tmp_path / f"{name}-out"), {f"{row:06d}.png": image for row, image in enumerate(rebuilt)}
        )
    jobs.denoise(ArraySource("a", images), tmp_path / "clean.npy", grid_codec)
    np.testing.assert_array_equal(np.load(tmp_path / "clean.npy"), np.stack(grid_codec.reconstruct(list(images))))
    (tmp_path / "codes.jsonl").unlink()
    back(tmp_path / "codes.npy", tmp_path / "whole.npy", grid_codec, index=False)
    whole = np.load(tmp_path / "whole.npy")
    assert whole.shape == (7, 24, 40, 3)  # whole blocks: nothing tells the pictures' sizes
    np.testing.assert_array_equal(whole[:, :20, :33], np.stack(rebuilt))


def test_some_pictures_alone(mixed: FolderSource, tmp_path: Path, grid_codec: Codec) -> None:
    compress(mixed, tmp_path / "codes.aek", grid_codec)
    everything = wanted(mixed, grid_codec, "uint8")
    back(tmp_path / "codes.aek", tmp_path / "out", grid_codec, only="a/0?[15].png")
    names = [f"a/{row:03d}.png" for row in (1, 5, 11, 15)]
    assert_same(pictures_in(tmp_path / "out"), {name: everything[name] for name in names})
    back(tmp_path / "codes.aek", tmp_path / "two.npy", grid_codec, only="a/00[08].png")  # of one size
    np.testing.assert_array_equal(
        np.load(tmp_path / "two.npy"), [everything[name] for name in ("a/000.png", "a/008.png")]
    )


# --- refusals and damage


def test_one_array_for_pictures_of_differing_sizes_is_refused(
    mixed: FolderSource, tmp_path: Path, grid_codec: Codec
) -> None:
    compress(mixed, tmp_path / "codes.aek", grid_codec)
    before = tree(tmp_path)
    said = r"images\.npy: expected pictures of one size for one array, 20x33 as the first, found 48x40; give a folder"
    with pytest.raises(OptionError, match=said):
        back(tmp_path / "codes.aek", tmp_path / "images.npy", grid_codec)
    with pytest.raises(OptionError, match=said):
        jobs.denoise(mixed, tmp_path / "images.npy", grid_codec)
    with pytest.raises((OptionError, CodesError), match=r"\.aek"):
        compress(mixed, tmp_path / "codes.npy", grid_codec)
    assert tree(tmp_path) == before


def test_codes_of_another_kind_of_model_are_refused(
    pictures: Path, tmp_path: Path, grid_codec: Codec, tiny_codec: Codec
) -> None:
    source = open_source(str(pictures))
    for suffix in (".npy", ".aek"):
        compress(source, tmp_path / f"vector{suffix}", tiny_codec, dtype="uint8")
        compress(source, tmp_path / f"grid{suffix}", grid_codec, dtype="uint8")
        for codes, codec in (("vector", grid_codec), ("grid", tiny_codec)):
            with pytest.raises((ModelMismatch, CodesError)):
                back(tmp_path / f"{codes}{suffix}", tmp_path / "out", codec)
    assert not (tmp_path / "out").exists()


def test_a_salvaged_archive_gives_its_whole_pictures(
    mixed: FolderSource, tmp_path: Path, grid_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aekit.codes.archive.grid_blocks.BLOCK_NUMBERS", 1500)
    compress(mixed, tmp_path / "codes.aek", grid_codec)
    data = bytearray((tmp_path / "codes.aek").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "codes.aek").write_bytes(data)
    with pytest.raises(CodesError):
        back(tmp_path / "codes.aek", tmp_path / "out", grid_codec)
    summary = back(tmp_path / "codes.aek", tmp_path / "out", grid_codec, salvage=True)
    found, everything = pictures_in(tmp_path / "out"), wanted(mixed, grid_codec, "uint8")
    assert 5 < summary.images == len(found) < GOOD
    assert_same(found, {name: everything[name] for name in found})


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_command_says_in_a_line_what_is_too_large_or_of_another_model(
    mixed: FolderSource, shared_grid_model: Path, tmp_path: Path, aekit: Run
) -> None:
    Image.fromarray(np.zeros((1, 70_000), np.uint8)).save(mixed.root / "side.png")
    run = ["compress", "mixed", "--out", "codes.aek", "--model", shared_grid_model, "--json"]
    done = aekit(*run)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 4
    skipped = {entry["path"]: entry["error"] for entry in json.loads(done.stdout)["skipped"]}
    assert sorted(skipped) == sorted([*BAD, "side.png"])
    assert "70000x1, a side over 65,535 pixels" in skipped["side.png"]
    assert "a/003.png: not a PNG" in one_line_error(aekit(*run, "--overwrite", "--on-error", "fail"))
    for command, model in (
        (["reconstruct", "codes.aek", "--out", "back"], TINY),
        ([*run[:2], "--out", "c.npy"], shared_grid_model),
    ):
        assert "expected" in one_line_error(aekit(*command, "--model", model))
    assert aekit("reconstruct", "codes.aek", "--out", "back", "--model", shared_grid_model).returncode == 0
    assert len(pictures_in(tmp_path / "back")) == GOOD
