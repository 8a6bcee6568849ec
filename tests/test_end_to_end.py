"""The whole job by the real commands: mnist-5k anywhere; MNIST and traffic signs where the data is."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, json_output
from PIL import Image

from aekit.images.named_sets import load_named_set

KEYS = {"mse", "psnr", "images", "code_dim", "bytes_per_image", "pca_mse", "model_id"}


@pytest.mark.slow
def test_three_lines_of_the_readme(aekit: Run, tmp_path: Path) -> None:
    """train, export, compress without an option but --epochs; then back, and a report of the test split.

    Training is for compression, so the codes are uint8.
    """
    digits = load_named_set("mnist-5k", "test")
    (tmp_path / "images").mkdir()
    for row in range(30):
        Image.fromarray(digits[row, :, :, 0]).save(tmp_path / "images" / f"{row:02d}.png")
    assert json_output(aekit("train", "--epochs", 5, "--json"))["run"] == "runs/mnist-5k-32"
    exported = json_output(aekit("export", "--json"))
    done = aekit("compress", "images/", "--out", "codes.npy")
    assert done.returncode == 0 and "on cpu" in done.stdout
    assert aekit("reconstruct", "codes.npy", "--out", "back").returncode == 0
    back = np.stack([np.asarray(Image.open(tmp_path / "back" / f"{row:02d}.png")) for row in range(30)])
    assert np.square((back - digits[:30, :, :, 0].astype(float)) / 255).mean() < 0.03

    archive = json_output(aekit("compress", "images/", "--out", "codes.aek", "--json"))
    assert int(str(archive["bytes"])) < 30 * 32 * 0.9 + 400  # the codes in under 7.2 bits a number, and the container

    report = json_output(aekit("evaluate", "--json"))
    assert report.keys() >= KEYS
    assert (report["images"], report["code_dim"], report["bytes_per_image"]) == (1000, 32, 32)  # uint8
    assert report["model_id"] == exported["model_id"]
    assert report["test_images"] == "the test split of mnist-5k"
    with Image.open(tmp_path / "report" / "reconstructions.png") as picture:
        assert picture.width > 9 * picture.height / 2  # ten columns, two rows
    assert json.loads((tmp_path / "report" / "report.json").read_text())["mse"] == report["mse"]


@pytest.mark.slow
def test_the_books_network_well_trained(aekit: Run, tmp_path: Path, data_dir: Path) -> None:
    """784-256-784 with sigmoids, in half of the book's epochs: a test MSE below 0.002. The book's run ends at 0.023."""
    environment = {"AEKIT_DATA_DIR": str(data_dir)}
    json_output(aekit("train", "mnist", "--preset", "classic-tuned", "--epochs", 10, "--json", **environment))
    json_output(aekit("export", "--json", **environment))
    for name in ("codes.npy", "codes8.npy"):
        dtype = "uint8" if "8" in name else "float32"
        done = json_output(aekit("compress", "mnist", "--out", name, "--dtype", dtype, "--json", **environment))
        assert done["images"] == 10_000
    assert np.load(tmp_path / "codes8.npy", mmap_mode="r").dtype == np.uint8
    json_output(aekit("reconstruct", "codes.npy", "--out", "images.npy", "--json", **environment))
    report = json_output(aekit("evaluate", "mnist", "--json", **environment))
    back = np.load(tmp_path / "images.npy")
    digits = load_named_set("mnist", "test")
    assert np.square((back - digits.astype(float)) / 255).mean() == pytest.approx(report["mse"])
    assert report["images"] == 10_000 and report["code_dim"] == 256
    assert isinstance(report["mse"], float) and report["mse"] < 0.002
    assert isinstance(report["pca_mse"], float) and 0.0010 < report["pca_mse"] < 0.0012  # 0.00107


@pytest.mark.slow
def test_traffic_signs_as_they_lie_in_their_folder(aekit: Run, tmp_path: Path, gtsrb: Path) -> None:
    """Crops of many sizes, in colour, split by class and track; evaluated on the tracks that were held out."""
    track = r"^(\d+/\d+)_"
    arguments = ["--size", "32x32", "--group-by", track, "--epochs", 2, "--code-dim", 48, "--json"]
    json_output(aekit("train", gtsrb, *arguments))
    exported = json_output(aekit("export", "--json"))
    assert exported["spec"]["geometry"]["channels"] == 3  # type: ignore[index]
    summary = json_output(aekit("compress", gtsrb, "--out", "codes.npy", "--json"))
    json_output(aekit("reconstruct", "codes.npy", "--original-size", "--json"))
    sources = {path.relative_to(gtsrb): path for path in gtsrb.rglob("*.png")}
    results = {path.relative_to(tmp_path / "reconstructed"): path for path in tmp_path.glob("reconstructed/**/*.png")}
    assert results.keys() == sources.keys() and len(results) == summary["images"]
    for name in sorted(results)[::500]:
        assert Image.open(results[name]).size == Image.open(sources[name]).size
    report = json_output(aekit("evaluate", "--json"))
    assert report.keys() >= KEYS
    training = exported["training"]
    assert report["images"] == training["validation_images"] < len(sources) / 8  # type: ignore[index]
    assert "held-out part" in str(report["test_images"])
    assert json_output(aekit("evaluate", gtsrb, "--json", "--overwrite"))["mse"] == report["mse"]
