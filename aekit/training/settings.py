"""Combine the settings of a new run: options go before the settings file, and the file goes before the preset."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from aekit.errors import OptionError, nearest, reason, unknown_value
from aekit.files import read_regular
from aekit.images.named_sets import NAMES
from aekit.json_files import parse_json
from aekit.registry import COMPRESSION, NETWORKS, OBJECTIVES, PURPOSES
from aekit.spec import MAX_PICTURE_SIDE, GridGeometry, read_geometry
from aekit.training.config import TrainConfig, make_config
from aekit.training.data import Forms
from aekit.training.networks.layouts import LAYOUTS
from aekit.training.presets import PRESETS

MAX_FILE_BYTES = 2**20
"""Largest settings file accepted, in bytes."""
MAX_BUDGET = 30 * 86400.0
"""Longest budget accepted, in seconds: 30 days."""
SETTINGS = (
    *(field.name for field in fields(TrainConfig)),
    "purpose",
    "size",
    "max_side",
    "gray",
    "budget",
    "max_model_size",
)
"""Every name that a settings file or `aekit.train` accepts."""
_LENGTH = ("epochs", "steps", "budget")
"""Settings that give the length of a run. Only one of them may be given."""
GRID = next(name for name, entry in NETWORKS.items() if entry.takes_any_size)
"""Name of the network for pictures of any size."""
LARGE = 64
"""Longest side in pixels up to which images of one size get vector codes by default."""
_FOR_VECTORS = {"network", "code_dim", "hidden", "squash", "init", "optimizer", "schedule"}
"""Settings that leave the network to the user: they name it, or suit vector codes alone."""
_OF_NETWORKS = ("preset", "hidden", "code_dim", "squash", "init", "optimizer", "lr", "schedule", "weight_decay", "ema",
                "augment", "precision", "batch_size", "steps", "size", "max_side")  # fmt: skip
"""Settings that mean something else for vector codes than for grid codes."""
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_BYTES = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
MODEL_SIZE = 50 * 10**6
"""Default of the largest size of a graph, in bytes."""


@dataclass(frozen=True)
class NewRun:
    """The combined settings of a new run."""

    config: TrainConfig
    size: tuple[int, int] | None
    """Height and width in pixels; None takes the size of the images."""
    channels: int | None
    """1 for gray, 3 for RGB; None takes what the images have."""
    budget: float | None
    """Seconds to train for; None leaves the length to the config."""
    max_side: int | None = None
    """Longest side in pixels that pictures of any size are shrunk to; None leaves them as they are."""
    one_length: bool = False
    """Whether the purpose needs codes of one length, that is vector codes."""
    max_model_size: int = MODEL_SIZE
    """Largest size of each graph, in bytes."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """The config's settings that the user or the file gave."""

    def suits(self, forms: Forms) -> bool:
        """Return whether the settings leave the network open, and images of these forms ask for grid codes.

        They do if their sizes differ, or if a side has over LARGE pixels.
        """
        if self.one_length or self.config.is_grid or self.size is not None or _FOR_VECTORS & self.chosen.keys():
            return False
        if self.config.preset not in LAYOUTS or not OBJECTIVES[self.config.objective].suits_grids:
            return False
        return len(forms.sizes) > 1 or any(max(size) > LARGE for size in forms.sizes)

    def for_grids(self) -> "NewRun":
        """Return the same run for the network of grid codes."""
        return replace(self, config=make_config(self.config.preset, **self.chosen, network=GRID))


def new_run(given: dict[str, Any], file: Path | None = None) -> NewRun:
    """Combine the settings `given`, where None means not given, with those of the settings file `file`.

    Raises OptionError for an unknown name (with the nearest known one), a value of the wrong type or out of range,
    settings that exclude each other, or a file that can't be read.
    """
    check_names(given, "settings")
    chosen = {name: value for name, value in given.items() if value is not None}
    if file is not None:
        chosen = {**_without_replaced(read_settings(file), chosen), **chosen}
    size, gray, budget = parse_size(chosen.pop("size", None)), chosen.pop("gray", None), chosen.pop("budget", None)
    most = parse_bytes(chosen.pop("max_model_size", MODEL_SIZE))
    if gray is not None and not isinstance(gray, bool):
        raise OptionError("gray", expected="true or false", found=repr(gray)[:80])
    for other in ("epochs", "steps"):
        if budget is not None and chosen.get(other):
            raise OptionError("--budget", expected=f"no --{other} beside it", found=f"--{other} {chosen[other]}"[:80])
    seconds, channels = parse_budget(budget), None if gray is None else 1 if gray else 3
    preset, max_side = chosen.pop("preset", TrainConfig.preset), chosen.pop("max_side", None)
    _check_max_side(max_side)
    options = chosen.get("options")
    if max_side or (isinstance(options, dict) and str(options.get("qualities", 1)) != "1"):
        chosen = {"network": GRID, **chosen}
    purpose = chosen.pop("purpose", None)
    chosen = _with_recipe(preset, purpose, chosen)
    config = make_config(preset, **chosen)
    if config.is_grid and size is not None:
        asked = "--max-side" if max_side else f"--network {GRID}" if "network" in chosen else f"--preset {preset}"
        asked = "--qualities" if "qualities" in (options or {}) else asked
        fix = f"leave out --size, or {asked}; --max-side shrinks large pictures"
        found = f"{asked}, which makes a model of pictures of any size"
        raise OptionError("--size", expected="a model of one image size", found=found, fix=fix)
    if max_side and not config.is_grid:
        found = f"--network {config.network}"
        raise OptionError("--max-side", expected=f"--network {GRID}, which takes pictures of any size", found=found)
    one_length = purpose is not None and PURPOSES[purpose].one_length
    if one_length and config.is_grid:
        expected = "vector codes, which have one length"
        fix = "give --size in place of what asks for pictures of any size: --network, --preset or --max-side"
        raise OptionError(f"--for {purpose}", expected=expected, found="grid codes", fix=fix)
    return NewRun(config, size, channels, seconds, max_side, one_length, most, chosen)


def _with_recipe(preset: object, purpose: object, chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with an objective: the user's, the preset's or the purpose's.

    Raises OptionError for an unknown purpose.
    """
    if purpose is not None and purpose not in PURPOSES:
        raise unknown_value("--for", purpose, PURPOSES)
    if "objective" in chosen or (purpose is None and "objective" in PRESETS.get(str(preset), {})):
        return chosen
    recipe, options = PURPOSES[str(purpose or COMPRESSION)], chosen.get("options", {})
    if isinstance(options, dict):
        options = {**dict(recipe.options), **options}
    return {**chosen, "objective": recipe.objective, "options": options}


def _check_max_side(value: object) -> None:
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_PICTURE_SIDE):
        expected = f"pixels, a whole number up to {MAX_PICTURE_SIDE:,}"
        raise OptionError("--max-side", expected=expected, found=repr(value)[:80])


def read_settings(file: Path) -> dict[str, Any]:
    """Read settings from a TOML file, or from the config.json of a run (a name that ends in `.json`).

    A path to images in a config.json is left out: a file from elsewhere does not decide what is read.

    Raises OptionError if the file is missing, too large or malformed, or has a setting with an unknown name.
    """
    where = f"--config {file}"
    try:
        data = read_regular(file, MAX_FILE_BYTES)
        if file.suffix != ".json":
            values = tomllib.loads(data.decode("utf-8"))
            check_names(values, where)
            return values
    except OSError as error:
        raise OptionError(where, expected="a settings file", found=error.strerror or reason(error)) from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        if isinstance(error, OptionError):
            raise
        raise OptionError(where, expected="TOML", found=reason(error)) from error
    return _of_run(parse_json(data, OptionError, where), where)


def check_names(names: Iterable[str], where: str) -> None:
    """Raise OptionError for the first name that is not a setting. The error suggests the nearest name."""
    for name in names:
        if name not in SETTINGS:
            fix = nearest(name, SETTINGS) or f"the settings are {', '.join(SETTINGS)}"
            raise OptionError(f"{where}: {str(name)[:80]!r}", expected="the name of a setting", fix=fix)


def parse_budget(value: object) -> float | None:
    """Seconds from a number or a text such as 90s, 5m or 1h. Raises OptionError for anything else or over 30 days."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", str(value)) if not isinstance(value, bool) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_BUDGET:
        expected = "a time such as 90s, 5m or 1h, 30 days at most"
        raise OptionError("--budget", expected=expected, found=repr(value)[:80])
    return seconds


def parse_bytes(value: object) -> int:
    """Bytes from a number or a text such as 50MB or 1GB. Raises OptionError for anything else."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?) ?([kmg]?b)?", str(value).lower())
    if match is None or isinstance(value, bool) or not float(match[1]):
        raise OptionError("--max-model-size", expected="a size such as 50MB or 1GB", found=repr(value)[:80])
    return round(float(match[1]) * _BYTES.get(match[2] or "", 1))


def parse_size(value: object) -> tuple[int, int] | None:
    """(height, width) from a pair, from HEIGHTxWIDTH, or from one number for both. Raises OptionError for others."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = "x".join(map(str, value))
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", str(value))
    if match is None or isinstance(value, bool):
        raise OptionError("--size", expected="HEIGHTxWIDTH, such as 32x32, or 32", found=repr(value)[:80])
    return int(match[1]), int(match[2] or match[1])


def _of_run(values: Any, where: str) -> dict[str, Any]:
    """The settings in a run's config.json, with the size and colour of its images."""
    try:
        config, geometry = dict(values["config"]), read_geometry(values["geometry"])
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(where, expected="a run's config.json", found=reason(error)) from None
    check_names(config, where)
    if config.get("data") not in NAMES:
        config.pop("data", None)
    config = {name: value for name, value in config.items() if name not in _LENGTH or value}
    if "steps" in config:  # steps go before epochs
        config.pop("epochs", None)
    form = {"max_side": geometry.max_side} if isinstance(geometry, GridGeometry) else {"size": geometry.shape[:2]}
    return {**config, **form, "gray": geometry.channels == 1}


def _without_replaced(file: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the file's settings without the ones that belong to a setting that `given` replaces."""
    dropped = set[str]()
    if any(name in given for name in _LENGTH):
        dropped.update(_LENGTH)
    network = given.get("network") or PRESETS.get(str(given.get("preset")), {}).get("network")
    if network and network != file.get("network") and GRID in (network, file.get("network")):
        dropped.update(_OF_NETWORKS, ("network",))
    elif file.get("network") == GRID and "preset" in given:
        dropped.add("code_dim")  # the preset gives it
    if "purpose" in given and "objective" not in given:
        dropped.update(("objective", "options"))
    for owner, owned in (("network", "hidden"), ("objective", "options"), ("data", "group_by")):
        if owner in given and given[owner] != file.get(owner):
            dropped.add(owned)
    return {name: value for name, value in file.items() if name not in dropped}
