"""Training settings: presets, bounds, and what a run's config.json may hold."""

import pytest

from aekit.errors import CheckpointError, OptionError
from aekit.training.config import TrainConfig, make_config
from aekit.training.data import Forms
from aekit.training.networks.layouts import LAYOUTS
from aekit.training.presets import PRESETS
from aekit.training.settings import new_run


@pytest.mark.parametrize("preset", PRESETS)
def test_config_survives_json(preset: str) -> None:
    vectors = {} if PRESETS[preset].get("network") == "grid" else {"code_dim": 7, "hidden": (5, 4)}
    config = make_config(preset, **vectors, lr=0.5)
    assert TrainConfig.from_dict(config.to_dict(), "config.json") == config


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_preset_names_the_layout_of_grid_codes(preset: str) -> None:
    config = make_config(preset, network="grid")
    assert config.is_grid and config.objective == "rate"
    assert config.code_dim == LAYOUTS[preset].code_channels
    assert TrainConfig.from_dict(config.to_dict(), "config.json") == config
    geometry = config.grid_geometry(3, 640)
    assert (geometry.stride, geometry.max_side) == (LAYOUTS[preset].stride, 640)
    assert config.spec(geometry).is_grid


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "classic"}, "--preset: expected tiny or small or default or large for pictures of any size"),
        ({"hidden": (8,)}, "hidden: expected none with preset default for pictures of any size"),
        ({"code_dim": 32}, "code_dim: expected 64 with preset default"),
        ({"optimizer": "tf1-rmsprop"}, "optimizer: expected adamw"),
        ({"objective": "sparse"}, "expected plain or denoising or rate for pictures of any size, found sparse; choose"),
        ({"objective": "variational"}, "found variational"),
        ({"options": {"prior": "context"}}, "prior: expected tables for grid codes, .*, found context; leave it out"),
        ({"preset": "tiny", "network": "mlp"}, "--preset: expected a preset of the network mlp, found tiny"),
    ],
)
def test_settings_that_grid_codes_do_not_have_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_config(**{"preset": "default", "network": "grid", **given})


def test_what_the_user_gives_goes_before_the_preset() -> None:
    config = make_config("classic", epochs=3, lr=None)
    assert (config.epochs, config.lr, config.batch_size) == (3, 0.01, 100)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code_dim", 0),
        ("lr", -1.0),
        ("batch_size", 0),
        ("epochs", -1),
        ("network", "rnn"),
        ("ema", 1.0),
        ("hidden", (0,)),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(OptionError, match=name):
        make_config("default", **{name: value})


@pytest.mark.parametrize("change", [{"lr": "fast"}, {"hidden": "no"}, {"surprise": 1}, {"epochs": True}])
def test_hostile_config_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        TrainConfig.from_dict({**make_config("default").to_dict(), **change}, "config.json")


@pytest.mark.parametrize(
    "change", [{"lr": 10**400}, {"code_dim": 10**400}, {"network": "x" * 9000}, {"hidden": [10**300] * 50}]
)
def test_vast_values_are_refused_in_a_short_line(change: dict[str, object]) -> None:
    with pytest.raises((CheckpointError, OptionError)) as caught:
        TrainConfig.from_dict({**make_config("default").to_dict(), **change}, "config.json")
    assert len(str(caught.value)) < 300


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(OptionError, match="classic"):
        make_config("modern")


@pytest.mark.parametrize(
    ("given", "objective", "options"),
    [
        ({}, "rate", {}),
        ({"purpose": "compression"}, "rate", {}),
        ({"purpose": "search"}, "denoising", {"noise": "warp", "strength": "1"}),
        ({"purpose": "search", "options": {"strength": "2"}}, "denoising", {"noise": "warp", "strength": "2"}),
        ({"purpose": "denoise"}, "denoising", {}),
        ({"purpose": "anomaly"}, "plain", {}),
        ({"purpose": "search", "objective": "sparse"}, "sparse", {}),
        ({"preset": "classic"}, "plain", {}),
        ({"preset": "classic", "purpose": "denoise"}, "denoising", {}),
    ],
)
def test_the_purpose_chooses_what_the_user_leaves_open(
    given: dict[str, object], objective: str, options: dict[str, str]
) -> None:
    config = new_run(given).config
    assert (config.objective, config.options) == (objective, options)


def test_codes_for_search_have_one_length() -> None:
    forms = Forms(frozenset({(80, 90)}), 0, 5)
    assert new_run({}).suits(forms) and not new_run({"purpose": "search"}).suits(forms)
    with pytest.raises(OptionError, match=r"--for search: expected vector codes.*give --size"):
        new_run({"purpose": "search", "network": "grid"})
