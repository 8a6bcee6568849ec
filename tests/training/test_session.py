"""Training and export from Python, without the command."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images, write_pictures
from small_runs import new_run

import aekit
from aekit.cli.train_lines import end_lines
from aekit.errors import CheckpointError, OptionError, OutputExists
from aekit.registry import OBJECTIVES, objective_facts
from aekit.runs import CONFIG, PCA
from aekit.training.checkpoint import CHECKPOINT, LOCK, Run
from aekit.training.data import load_training_data
from aekit.training.objectives import make_objective
from aekit.training.plan import Plan
from aekit.training.session import fit_principal
from aekit.training.trainer import train

SMALL = {"code_dim": 3, "hidden": [8], "epochs": 2}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", made_images(60))
    return tmp_path / "images.npy"


def test_train_and_export_work_from_python(images: Path, tmp_path: Path) -> None:
    plans = list[Plan]()
    steps = list[int]()
    done = aekit.train(images, tmp_path / "run", **SMALL, on_plan=plans.append, on_step=steps.append)
    assert done.run == tmp_path / "run"
    assert steps == list(range(1, plans[0].steps + 1))
    assert (plans[0].train_images, plans[0].validation_images) == (54, 6)
    exported = aekit.export(done.run, tmp_path / "model")
    assert exported.unfinished is None
    assert exported.bundle.spec.code_dim == 3
    assert aekit.Codec.load(tmp_path / "model").encode(made_images(5)).shape == (5, 3)


def test_the_model_keeps_the_error_of_pca_on_held_out_images(images: Path, tmp_path: Path) -> None:
    from aekit.pca import Pca

    done = aekit.train(images, tmp_path / "run", **SMALL)
    kept = aekit.export(done.run, tmp_path / "model").bundle.manifest["training"]["pca_mse"]
    held_out = Run.read(done.run).load_data().validation
    error = Pca.load(done.run / PCA).mse(held_out)
    assert kept == {"mse": pytest.approx(error), "code_dim": 3, "images": len(held_out)}


def test_a_budget_bounds_the_steps(images: Path, tmp_path: Path) -> None:
    aekit.train(images, tmp_path / "run", code_dim=3, hidden=[8], budget="1s")
    assert Run.read(tmp_path / "run").config.steps > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code_dmi": 3}, "did you mean 'code_dim'?"),
        ({"code_dim": "3"}, "code_dim: expected a whole number, found '3'"),
        ({"budget": 10**31}, "30 days at most"),
        ({"epochs": 10**31}, "epochs: expected 0 to 100000"),
        ({"budget": "5m", "epochs": 3}, "no --epochs beside it"),
        ({"hidden": [65536] * 16}, "bytes of weights"),
        ({"size": "9" * 31 + "x8"}, "HEIGHTxWIDTH"),
        ({"gray": "yes"}, "true or false"),
        (
            {"size": "300"},
            "size 300x300: expected sides from 8 to 256 pixels for vector codes; give for example --size",
        ),
        ({"max_model_size": "much"}, "a size such as 50MB or 1GB"),
        ({"max_model_size": 1000}, "at most 1 kB each, found encoder 4.8 MB and decoder"),
        ({"device": "cuda:99"}, "--device cuda:99"),
    ],
)
def test_a_wrong_setting_is_one_error_and_makes_no_run(
    images: Path, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError) as error:
        aekit.train(images, tmp_path / "run", **settings)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_settings_come_from_option_then_file_then_preset(images: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'data = "{images}"\npreset = "small"\ncode_dim = 4\nepochs = 1\nlr = 0.001\nsize = "16x16"\n')
    aekit.train(out=tmp_path / "run", config=file, code_dim=2)
    config = Run.read(tmp_path / "run").config
    assert (config.preset, config.code_dim, config.lr, config.hidden) == ("small", 2, 0.001, (128, 128))
    aekit.train(images, tmp_path / "again", config=tmp_path / "run" / CONFIG)
    assert Run.read(tmp_path / "again").config == config
    file.write_text("code_dmi = 4\n")
    with pytest.raises(OptionError, match=r"settings\.toml: 'code_dmi'.*did you mean 'code_dim'"):
        aekit.train(images, tmp_path / "third", config=file)
    file.write_text("code_dim = [")
    with pytest.raises(OptionError, match="expected TOML"):
        aekit.train(images, tmp_path / "third", config=file)


def test_a_settings_file_of_another_run_does_not_decide_what_is_read(images: Path, tmp_path: Path) -> None:
    aekit.train(images, tmp_path / "run", **SMALL)
    from aekit.training.settings import read_settings

    assert "data" not in read_settings(tmp_path / "run" / CONFIG)


def test_a_run_of_several_files_is_read_again_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aekit.runs import run_of_model

    write_pictures(tmp_path / "in", 40)
    monkeypatch.chdir(tmp_path)
    given = ["in/a", "in/b/001.png", Path("in/b/003.png"), "in/b/*[57].png"]
    aekit.train(given, tmp_path / "run", **SMALL)
    monkeypatch.chdir(tmp_path / "in")
    run = Run.read(tmp_path / "run")
    assert run.config.data == tuple(str(tmp_path / name) for name in given)
    assert len(run.load_data().train) + len(run.load_data().validation) == 20 + 2 + 8
    assert run_of_model(run.path, run.run_id)["data"] == list(run.config.data)  # type: ignore[index]
    for wrong in ([], ["a"] * 10_001, [3], 3):
        with pytest.raises(OptionError, match="data"):
            aekit.train(wrong, tmp_path / "x", **SMALL)  # type: ignore[arg-type]


def test_two_processes_do_not_train_one_run(images: Path, tmp_path: Path) -> None:
    aekit.train(images, tmp_path / "run", **SMALL)
    with (
        Run.read(tmp_path / "run").locked(),
        pytest.raises(CheckpointError, match="is being trained by another process"),
    ):
        aekit.resume_training(tmp_path / "run")
    assert aekit.resume_training(tmp_path / "run").run == tmp_path / "run"


def test_a_run_killed_before_its_settings_were_written_begins_again(images: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for left in (LOCK, f".{CONFIG}.0123456789abcdef.part"):
        (run / left).touch()
    with pytest.raises(CheckpointError, match="begin the run again with `aekit train --out"):
        aekit.resume_training(run)
    aekit.train(images, run, **SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(OutputExists) as error:
        aekit.train(images, tmp_path / "mine", **SMALL)
    assert "--resume" not in str(error.value)


@pytest.mark.parametrize("name", [CONFIG, CHECKPOINT])
def test_a_pipe_in_a_run_is_an_error_and_no_wait(images: Path, tmp_path: Path, name: str) -> None:
    import os

    aekit.train(images, tmp_path / "run", **SMALL)
    (tmp_path / "run" / name).unlink()
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(CheckpointError, match=name):
        aekit.resume_training(tmp_path / "run")


def test_a_config_that_asks_for_too_much_memory_is_refused(images: Path, tmp_path: Path) -> None:
    from aekit.runs import config_checksum

    aekit.train(images, tmp_path / "run", **SMALL)
    values = json.loads((tmp_path / "run" / CONFIG).read_text())
    values["config"]["hidden"] = [65536] * 16
    values["sha256"] = config_checksum(values)
    (tmp_path / "run" / CONFIG).write_text(json.dumps(values))
    for use in (aekit.resume_training, lambda run: aekit.export(run, tmp_path / "model")):
        with pytest.raises(OptionError, match=r"bytes of weights, found"):
            use(tmp_path / "run")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_registry_has_the_facts_of_the_objective(name: str) -> None:
    entry = OBJECTIVES[name]
    made = make_objective(name, {})
    assert {field.rstrip("_"): value for field, value in vars(made).items()} == {
        option.name: option.default for option in entry.options
    }
    assert objective_facts(name) is entry
    assert not objective_facts("of a later version").stores_uint8_only


def test_the_start_is_kept_and_told_of_if_nothing_is_better(images: Path, tmp_path: Path) -> None:
    done = aekit.train(images, tmp_path / "run", **SMALL, objective="plain", lr=0.5)
    assert (done.epoch, done.gain) == (0, 0) and done.validation == done.start
    assert done.validation["mse"] == pytest.approx(done.pca_mse, rel=0.01)
    assert any("nothing was learned" in line and "a longer --budget" in line for line in end_lines(done))
    assert Run.read(done.run).unfinished() is None
    assert aekit.resume_training(done.run).start == done.start


def test_a_run_ends_at_its_deadline(images: Path, tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", data := load_training_data(str(images)), epochs=1000)
    outcome = train(run, data, principal=fit_principal(run.config, data), deadline=time.monotonic())
    assert outcome.epochs == 1 and run.unfinished() is None
    assert [line["epoch"] for line in run.metrics()] == [1]


@pytest.mark.parametrize(("most", "width"), [("0.3MB", 192), ("1GB", 512)])
def test_the_network_becomes_narrower_to_fit(images: Path, tmp_path: Path, most: str, width: int) -> None:
    plans = list[Plan]()
    aekit.train(images, tmp_path / "run", code_dim=3, steps=1, max_model_size=most, on_plan=plans.append)
    assert plans[0].config.hidden[0] <= width and bool(plans[0].remarks) == (width < 512)
    sizes = {
        path.name: path.stat().st_size for path in aekit.export(tmp_path / "run", tmp_path / "m").bundle.path.iterdir()
    }
    for role, told in plans[0].graph_bytes.items():
        assert told == pytest.approx(sizes[f"{role}.onnx"], abs=20_000)


def test_gray_images_stored_in_colour_make_a_gray_model(tmp_path: Path) -> None:
    np.save(tmp_path / "gray.npy", made_images(30).repeat(3, axis=3))
    for gray, channels in ((None, 1), (False, 3)):
        plans, out = list[Plan](), tmp_path / f"run-{channels}"
        aekit.train(tmp_path / "gray.npy", out, **SMALL, gray=gray, on_plan=plans.append)
        assert plans[0].geometry.channels == channels
        assert any("all of them are gray" in remark for remark in plans[0].remarks) == (channels == 1)
    aekit.export(tmp_path / "run-1", tmp_path / "model")


@pytest.mark.parametrize(("images", "likelihood"), [("digits", "bernoulli"), ("blobs", "gaussian")])
def test_the_likelihood_suits_the_images(tmp_path: Path, images: str, likelihood: str) -> None:
    pixels = made_images(60, seed=4)
    np.save(tmp_path / "images.npy", np.where(pixels > 128, 255, 0).astype(np.uint8) if images == "digits" else pixels)
    done = aekit.train(tmp_path / "images.npy", tmp_path / "run", **SMALL, objective="variational")
    assert Run.read(done.run).config.options == {"likelihood": likelihood}
    assert "nats" in "".join(end_lines(done))
