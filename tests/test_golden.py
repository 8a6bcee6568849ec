"""Golden files: runs, models, code files and archives of earlier versions are still read, with the same values."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, json_output
from PIL import Image

from aekit import Archive, Codec, CodeFile
from aekit.model.grids import GridCodes

GOLDEN = Path(__file__).parent / "data" / "golden"
FOLDERS = [
    folder / name
    for folder in sorted(GOLDEN.iterdir())
    if (folder / "about.json").exists()
    for name in json.loads((folder / "about.json").read_text())["made"]
]

each_model = pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: f"{path.parent.name}-{path.name}")


def rows(folder: Path, name: str) -> "np.ndarray":
    return np.load(folder / name, allow_pickle=False)


@each_model
def test_an_older_model_encodes_and_decodes_as_it_did(folder: Path) -> None:
    codec = Codec.load(folder / "model", provider="cpu")
    images = rows(folder.parent, "train.npy")
    latents = codec.encode(images, "float16").astype(np.float32)
    before = rows(folder, "array.npy").astype(np.float32)
    assert np.abs(latents - before).max() <= 2e-3 * np.ptp(before)  # float16 has 11 bits; processors differ in a few
    decoded = codec.decode(rows(folder, "named.npy"))
    assert np.abs(decoded.astype(int) - rows(folder, "named-npy-images.npy")).max() <= 1


@each_model
def test_older_code_files_keep_their_paths_failures_and_values(folder: Path) -> None:
    codec = Codec.load(folder / "model", provider="cpu")
    for name, dtype in (("named.npy", "float32"), ("small.npy", "uint8")):
        codes = CodeFile.open(folder / name)
        codes.check_model(codec.bundle)
        assert codes.codes.dtype == dtype
        assert np.array_equal(np.concatenate(list(codes.batches(7))), rows(folder, name))
        paths = [record.path for record in codes.records()]
        assert len(paths) == 40
        assert paths[0] == "a/000.png"


@each_model
def test_older_archives_decode_to_the_very_codes(folder: Path) -> None:
    with Archive.open(folder / "named.aek", folder / "model") as archive:
        assert np.array_equal(archive.codes(), rows(folder, "small.npy"))
        assert archive.paths is not None
        assert len(archive.paths) == 40
        assert [record.path for record in archive.inputs() if record.error] == ["b/broken.png"]
    with Archive.open(folder / "array.aek", folder / "model") as archive:
        assert archive.codes().shape == (200, rows(folder, "array.npy").shape[1])
        assert archive.paths is None


@each_model
def test_an_older_archive_takes_an_append(folder: Path, tmp_path: Path, pictures: Path, aekit: Run) -> None:
    archive = Path(shutil.copy(folder / "named.aek", tmp_path))
    source = pictures.rename(tmp_path / "later")
    (source / "a").rename(source / "c")  # a/… are paths that the archive holds already
    (source / "b").rename(source / "d")
    found = json_output(aekit("compress", source, "--out", archive, "--append", "--model", folder / "model", "--json"))
    assert found["images"] == 12
    with Archive.open(archive, folder / "model") as grown:
        assert np.array_equal(grown.codes()[:40], rows(folder, "small.npy"))


@pytest.mark.slow
@each_model
def test_an_older_run_is_exported_to_the_same_model(folder: Path, tmp_path: Path, aekit: Run) -> None:
    run = Path(shutil.copytree(folder / "run", tmp_path / "run"))
    shutil.copy(folder.parent / "train.npy", tmp_path)
    found = json_output(aekit("export", run, "--out", tmp_path / "model", "--json"))
    before = json.loads((folder / "model" / "model.json").read_text())
    assert found["model_id"] == before["model_id"]
    if (run / "checkpoint.safetensors").exists():
        done = aekit("train", "--resume", "--out", run)
        assert done.returncode == 0, done.stderr


GRID = GOLDEN / "grid"


def test_an_older_grid_model_encodes_and_decodes_as_it_did() -> None:
    codec = Codec.load(GRID / "model", provider="cpu")
    expected = np.load(GRID / "expected.npz", allow_pickle=False)
    pictures = [np.asarray(Image.open(GRID / "pictures" / f"{row}.png")) for row in range(6)]
    codes = codec.encode(pictures, "uint8")
    for row, code in enumerate(codes):
        before = expected[f"code_{row}"]
        assert code.shape == before.shape
        assert (code != before).mean() < 0.01  # processors may differ where a latent lies between two codes
    kept = GridCodes(tuple(expected[f"code_{row}"] for row in range(6)), codes.sizes)
    for row, picture in enumerate(codec.decode(kept)):
        assert np.abs(picture.astype(int) - expected[f"picture_{row}"]).max() <= 1


def test_an_older_grid_archive_with_a_context_model_decodes_to_the_very_codes() -> None:
    expected = np.load(GRID / "expected.npz", allow_pickle=False)
    with Archive.open(GRID / "named.aek", GRID / "model") as archive:
        codes = archive.codes()
        assert isinstance(codes, GridCodes)
        assert archive.paths == tuple(f"{row}.png" for row in range(6))
        for row, code in enumerate(codes):
            np.testing.assert_array_equal(code, expected[f"code_{row}"])
        assert codes.sizes == ((20, 33), (48, 40), (8, 8), (64, 25), (1, 70), (7, 3))


def test_an_older_array_of_grid_codes_keeps_its_values() -> None:
    stored = CodeFile.open(GRID / "alike.npy")
    stored.check_model(Codec.load(GRID / "model").bundle)
    (codes,) = stored.batches(10)
    assert isinstance(codes, GridCodes)
    assert codes.sizes == ((20, 33), (20, 33))
    np.testing.assert_array_equal(codes[0], np.load(GRID / "expected.npz", allow_pickle=False)["code_0"])


def test_an_older_vector_archive_with_a_context_model_decodes_to_the_very_codes() -> None:
    with Archive.open(GOLDEN / "vector" / "named.aek", GOLDEN / "vector" / "model") as archive:
        assert archive.header.version == 4
        np.testing.assert_array_equal(archive.codes(), np.load(GOLDEN / "vector" / "codes.npy", allow_pickle=False))
        assert archive.paths == tuple(f"{row:02d}.png" for row in range(60))
        assert [record.path for record in archive.inputs() if record.error] == ["broken.png"]
