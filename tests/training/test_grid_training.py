"""Training on pictures of any size: which network the pictures choose, runs that resume, sizes asked for, refusals."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import same_bits

import aekit
from aekit.errors import AekitError, CheckpointError, OptionError, SourceError
from aekit.images.decode import Pixels
from aekit.runs import CONFIG, PCA
from aekit.spec import GridGeometry
from aekit.training.checkpoint import Run
from aekit.training.networks.grid import GridDecoder, GridEncoder
from aekit.training.objectives.grid_rate import GridRate
from aekit.training.plan import Plan
from aekit.training.trainer import Interrupted, load_network

FEW: dict[str, Any] = {"preset": "tiny", "batch_size": 1, "steps": 4}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Two threads would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def waves(height: int, width: int, seed: int, channels: int = 3) -> Pixels:
    """A smooth random picture, uint8 [height, width, channels]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None] / 40
    phases, speeds = rng.uniform(0, 6, (2, channels)), rng.uniform(2, 9, (2, channels))
    values = np.sin(x * speeds[0] + phases[0]) + np.cos(y * speeds[1] + phases[1])
    return (values * 50 + 128 + rng.normal(0, 4, values.shape)).clip(0, 255).astype(np.uint8)


def write(folder: Path, *sizes: tuple[int, int], channels: int = 3) -> Path:
    """Write a picture of each (height, width) as PNG, with a gray level or colour as asked."""
    folder.mkdir(exist_ok=True)
    for row, (height, width) in enumerate(sizes):
        picture = waves(height, width, row, channels)
        Image.fromarray(picture if channels == 3 else picture[:, :, 0]).save(folder / f"{row:03d}.png")
    return folder


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of 12 colour pictures of differing sizes."""
    return write(tmp_path / "mixed", *((20 + 3 * row, 60 - 3 * row) for row in range(12)))


@pytest.fixture
def alike(tmp_path: Path) -> Path:
    """A folder of 6 gray pictures of 24×24."""
    return write(tmp_path / "alike", *[(24, 24)] * 6, channels=1)


def read(path: Path) -> Run:
    return Run.read(path)


def test_pictures_that_differ_in_size_choose_grid_codes_and_rate(mixed: Path, tmp_path: Path) -> None:
    plans = list[Plan]()
    done = aekit.train(mixed, tmp_path / "run", **FEW | {"preset": None}, on_plan=plans.append)
    run = read(done.run)
    assert (run.config.network, run.config.objective, run.config.preset) == ("grid", "rate", "default")
    assert run.geometry == GridGeometry(16, 3, *run.config.layout.halo)
    assert plans[0].chosen_for == "20x27 to 53x60"
    assert plans[0].kmac == run.config.layout.kmac(3)
    assert {"mse", "psnr", "bytes", "loss", "lambda"} <= done.validation.keys()
    network = load_network(run)
    assert isinstance(network.encoder, GridEncoder) and isinstance(network.decoder, GridDecoder)
    assert network.encode(torch.rand(2, 3, 17, 40)).shape == (2, 2, 3, 64)
    assert (run.path / PCA).exists()


def test_a_large_side_chooses_grid_codes_and_small_images_of_one_size_do_not(alike: Path, tmp_path: Path) -> None:
    large = write(tmp_path / "large", *[(20, 65)] * 4)
    assert read(aekit.train(large, tmp_path / "a", **FEW | {"preset": "small"}).run).config.is_grid
    assert not read(aekit.train(alike, tmp_path / "b", code_dim=None, hidden=None, steps=1).run).config.is_grid


@pytest.mark.parametrize("settings", [{"preset": "tiny"}, {"network": "grid"}, {"max_side": 20}], ids=str)
def test_what_belongs_to_grid_codes_chooses_them(alike: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    run = read(aekit.train(alike, tmp_path / "run", batch_size=1, steps=1, **settings).run)
    assert run.config.is_grid and run.config.objective == "rate"
    assert isinstance(run.geometry, GridGeometry)
    assert run.geometry.max_side == settings.get("max_side", 0)


def test_a_size_keeps_vector_codes(mixed: Path, tmp_path: Path) -> None:
    assert not read(aekit.train(mixed, tmp_path / "run", size="16x16", steps=1).run).config.is_grid


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code_dim": 8}, "differ in size"),
        ({"hidden": [8]}, "differ in size"),
        ({"network": "mlp"}, "differ in size"),
        ({"preset": "classic"}, "differ in size"),
        ({"objective": "sparse"}, "differ in size"),
        ({"objective": "sparse", "network": "grid"}, "found sparse; choose one of them, or train at one size"),
        ({"objective": "variational", "preset": "tiny"}, "expected plain or denoising or rate"),
        ({"network": "grid", "size": "32x32"}, "--size: expected a model of one image size"),
        ({"max_side": 64, "network": "mlp"}, "--max-side: expected --network grid"),
        ({"max_side": -1}, "--max-side: expected pixels"),
        ({"preset": "tiny", "code_dim": 3}, "code_dim: expected 48 with preset tiny"),
        ({"options": {"bytes": 10**6}, "objective": "rate"}, "bytes: expected at most half a byte per number"),
        ({"options": {"lambda": 99}, "objective": "rate"}, "lambda: expected"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_one_error_and_makes_no_run(
    mixed: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError) as error:
        aekit.train(mixed, tmp_path / "run", steps=1, **settings)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_mixed_colour_asks_and_gray_is_kept_where_told(mixed: Path, tmp_path: Path) -> None:
    Image.fromarray(waves(30, 31, 99, 1)[:, :, 0]).save(mixed / "gray.png")
    with pytest.raises(OptionError, match="differ in colour: found 12 in colour, 1 gray; say what to train on, --rgb"):
        aekit.train(mixed, tmp_path / "run", **FEW)
    run = read(aekit.train(mixed, tmp_path / "run", **FEW, gray=True).run)
    assert run.geometry.channels == 1
    assert {picture.shape[2] for picture in run.load_data().train} == {1}


@pytest.mark.parametrize("settings", [{}, {"objective": "rate", "options": {"bytes": "40"}}], ids=["lambda", "bytes"])
def test_an_interrupted_run_resumes_to_the_same_bits(mixed: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    def stop(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    settings = {**FEW, "steps": 12, **settings}
    aekit.train(mixed, tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        aekit.train(mixed, tmp_path / "cut", **settings, on_step=stop)
    assert read(tmp_path / "cut").unfinished() == "stopped after step 7 of 12"
    aekit.resume_training(tmp_path / "cut")
    assert same_bits(read(tmp_path / "cut"), read(tmp_path / "whole"))
    lines = [
        [(line["cost"], line["validation"]) for line in read(tmp_path / name).metrics()] for name in ("cut", "whole")
    ]
    assert lines[0] == lines[1]


def test_the_config_of_a_run_replays_it(mixed: Path, tmp_path: Path) -> None:
    first = read(aekit.train(mixed, tmp_path / "a", **FEW, max_side=40, options={"lambda": 0.01}).run)
    again = read(aekit.train(mixed, tmp_path / "b", config=first.path / CONFIG).run)
    assert (again.config, again.geometry) == (first.config, first.geometry)
    assert same_bits(first, again)
    other = read(aekit.train(mixed, tmp_path / "c", config=first.path / CONFIG, preset="small").run)
    assert (other.config.code_dim, other.config.options) == (64, {"lambda": "0.01"})
    vectors = read(
        aekit.train(mixed, tmp_path / "d", config=first.path / CONFIG, network="mlp", size="16x16", steps=1).run
    )
    assert (vectors.config.network, vectors.config.code_dim, vectors.config.hidden) == ("mlp", 32, (1024, 512))


def test_large_pictures_are_shrunk_to_max_side_and_no_other(mixed: Path, tmp_path: Path) -> None:
    write(mixed / "small", (10, 30))
    data = read(aekit.train(mixed, tmp_path / "run", **FEW, max_side=40).run).load_data()
    shapes = sorted(picture.shape[:2] for picture in [*data.train, *data.validation])
    assert shapes[:2] == [(10, 30), (13, 40)] and {max(shape) for shape in shapes[1:]} == {40}


def test_a_size_asked_for_is_approached_by_changing_lambda(mixed: Path, tmp_path: Path) -> None:
    few, many = (
        aekit.train(mixed, tmp_path / str(size), **{**FEW, "steps": 30}, objective="rate", options={"bytes": size})
        for size in (20, 200)
    )
    assert few.bytes_asked == 20
    assert few.validation["bytes"] < 0.7 * many.validation["bytes"]
    assert few.validation["lambda"] < many.validation["lambda"]
    assert few.validation["mse"] > many.validation["mse"]


def test_lambda_falls_while_codes_are_too_large_and_rises_while_they_are_too_small(mixed: Path, tmp_path: Path) -> None:
    network = load_network(read(aekit.train(mixed, tmp_path / "run", **FEW).run))
    crops = [torch.rand(2, 3, 32, 32), torch.rand(1, 3, 16, 48)]
    assert network.learned is not None
    for size, falls in ((1.0, True), (1e6, False)):
        before = float(network.learned.log_lambda.detach())
        with torch.no_grad():
            GridRate(bytes=size).steer_crops(network, crops, 6.0, 0.01)
        assert (float(network.learned.log_lambda.detach()) < before) == falls


@pytest.mark.parametrize("objective", ["plain", "denoising"])
def test_other_objectives_learn(mixed: Path, tmp_path: Path, objective: str) -> None:
    done = aekit.train(mixed, tmp_path / "run", **{**FEW, "steps": 40}, objective=objective)
    run = read(done.run)
    first = load_network(read(aekit.train(mixed, tmp_path / "start", **{**FEW, "steps": 1}, objective=objective).run))
    network = load_network(run)
    figure = "mse" if objective == "plain" else "denoised_mse"
    before = read(tmp_path / "start").metrics()[0]["validation"][figure]
    assert done.validation[figure] < (0.9 if objective == "denoising" else 1.0) * before
    assert network.learned is None and network.objective.code_scale(network) is None
    assert network.objective.dead_zone == 0  # type: ignore[attr-defined]
    z = network.encode(torch.rand(1, 3, 20, 40))
    assert z.shape == (1, 2, 3, 48) and first.decode(z).shape == (1, 3, 32, 48)


def test_the_encoder_is_fixed_in_the_last_part_of_a_run(mixed: Path, tmp_path: Path) -> None:
    network = load_network(read(aekit.train(mixed, tmp_path / "run", **FEW).run))
    assert isinstance(network.objective, GridRate) and network.learned is not None
    x, inside = torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    for progress, moves in ((0.5, True), (0.9, False)):
        network.zero_grad()
        network.objective.crop_loss(network, x, inside, torch.Generator().manual_seed(0), progress).backward()
        assert (network.learned.log_scale.grad is not None) == moves
        assert (network.encoder.transform.grad is not None) == moves
        assert network.learned.means.grad is not None and network.decoder.transform.grad is not None


def test_rounding_as_the_exported_encoder_rounds_is_known(mixed: Path, tmp_path: Path) -> None:
    network = load_network(read(aekit.train(mixed, tmp_path / "run", **FEW).run))
    assert isinstance(network.objective, GridRate) and network.objective.dead_zone == 0.16
    scale = network.objective.code_scale(network)
    assert scale is not None and scale.shape == (48,)


def test_codes_begin_within_a_byte_however_fine_the_step(tmp_path: Path) -> None:
    folder = tmp_path / "loud"
    folder.mkdir()
    for row in range(6):  # black and white halves: the mean of a block is as large as it can be
        picture = np.full((32, 32 + row, 3), 255 * (row % 2), np.uint8)
        picture[:, :16] = 255 - picture[:, :16]
        Image.fromarray(picture).save(folder / f"{row}.png")
    settings = {**FEW, "steps": 1, "options": {"lambda": 10}, "objective": "rate", "gray": False}
    run = read(aekit.train(folder, tmp_path / "run", **settings).run)
    network = load_network(run)
    x = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    steps = network.encode(x) * network.learned.scale
    assert 80 < float(steps.detach().abs().max()) < 1.01 * 127 / 1.25


def test_a_budget_bounds_the_steps(mixed: Path, tmp_path: Path) -> None:
    run = read(aekit.train(mixed, tmp_path / "run", preset="tiny", batch_size=1, budget="1s").run)
    assert 1 <= run.config.steps < 1000


@pytest.mark.parametrize(
    "sizes",
    [[(3, 5), (1, 1), (7, 2), (15, 15)], [(1, 1), (1, 300), (300, 1), (40, 40)]],
    ids=["all smaller than the stride", "lines and dots"],
)
@pytest.mark.parametrize("objective", ["rate", "plain"])
def test_pictures_of_a_few_pixels_can_be_trained_on(
    tmp_path: Path, sizes: list[tuple[int, int]], objective: str
) -> None:
    folder = write(tmp_path / "few", *sizes)
    done = aekit.train(folder, tmp_path / "run", **FEW, objective=objective)
    assert np.isfinite(done.validation["mse"])


@pytest.mark.parametrize(
    ("levels", "message"),
    [([7], "at least 2 readable images"), ([7, 7], "2 that are all of one constant colour")],
)
def test_pictures_that_teach_nothing_are_refused(tmp_path: Path, levels: list[int], message: str) -> None:
    (tmp_path / "dull").mkdir()
    for row, level in enumerate(levels):
        Image.fromarray(np.full((80, 70), level, np.uint8)).save(tmp_path / "dull" / f"{row}.png")
    with pytest.raises(SourceError, match=message):
        aekit.train(tmp_path / "dull", tmp_path / "run", **FEW)


def test_bad_files_are_skipped_and_groups_stay_together(mixed: Path, tmp_path: Path) -> None:
    (mixed / "bad.png").write_bytes(b"")
    done = aekit.train(mixed, tmp_path / "run", **FEW, group_by=r"^(\d\d)")
    assert [(record.path, record.error) for record in done.skipped] == [("bad.png", "empty file")]
    facts = read(done.run).data
    assert (facts["train_images"], facts["validation_images"]) == (2, 10) or facts["validation_images"] in (2, 10)
    assert facts["group_by"] == r"^(\d\d)" and "in the path" in facts["split"]


def test_pictures_that_changed_stop_a_resume(mixed: Path, tmp_path: Path) -> None:
    aekit.train(mixed, tmp_path / "run", **FEW)
    Image.fromarray(waves(20, 60, 77)).save(mixed / "000.png")
    with pytest.raises(CheckpointError, match="has changed since"):
        aekit.resume_training(tmp_path / "run")


def test_an_array_of_large_images_gets_grid_codes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.stack([waves(70, 33, row) for row in range(5)]))
    run = read(aekit.train(tmp_path / "a.npy", tmp_path / "run", **FEW).run)
    assert run.data["data"] == "array"
    assert [picture.shape for picture in run.load_data().train] == [(70, 33, 3)] * 4


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["geometry"].update(stride=8),
        lambda values: values.update(
            geometry={"height": 16, "width": 16, "channels": 3, "resize": "stretch", "background": 255}
        ),
        lambda values: values["config"].update(preset="large"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(mixed: Path, tmp_path: Path, change: Any) -> None:
    from aekit.runs import config_checksum

    aekit.train(mixed, tmp_path / "run", **FEW)
    values = json.loads((tmp_path / "run" / CONFIG).read_text())
    change(values)
    values["sha256"] = config_checksum(values)
    (tmp_path / "run" / CONFIG).write_text(json.dumps(values))
    with pytest.raises(AekitError, match=r"geometry of network grid, preset tiny|code_dim: expected 96"):
        read(tmp_path / "run")


def test_the_command_says_what_it_chose(mixed: Path, aekit: Any, tmp_path: Path) -> None:
    done = aekit("train", mixed, "--out", "run", "--steps", "2", "--preset", "small", "--batch-size", "1")
    assert done.returncode == 0, done.stderr
    first, second = done.stderr.splitlines()[:2]
    assert first == (
        "images of 20x27 to 53x60 pixels: network grid with objective rate, 64 channels at stride 16, 4.1 thousand "
        "multiplications a pixel to encode, 13.5 to decode; --size or --code-dim choose vector codes"
    )
    assert second.startswith("run: 11 images of any size RGB to learn from, 1 held out")
    assert "bytes" in done.stdout
