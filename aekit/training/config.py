"""Settings of a training run: the default of each, and how a preset and the user change them."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aekit.errors import CheckpointError, OptionError, unknown_value
from aekit.registry import NETWORKS, OBJECTIVES, NetworkEntry
from aekit.spec import Geometry, GridGeometry, ModelSpec
from aekit.training.networks.layouts import LAYOUTS, GridLayout
from aekit.training.objectives import Objective, make_objective
from aekit.training.presets import GRID_ONLY, GRID_SETTINGS, PRESETS

MAX_SOURCES = 10_000
"""Largest number of texts that name the images of a run. config.json keeps all of them."""


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run. The same config, data and machine give the same weights."""

    data: str | tuple[str, ...] = "mnist-5k"
    """Source of the images: a named set, a path, or several texts that name image files; see `open_source`."""
    preset: str = "default"
    """Name of the preset these settings began from. For the network `grid` it is the name of the layout."""
    network: str = "residual"
    """The network to train: a name in aekit.registry.NETWORKS."""
    hidden: tuple[int, ...] = (512, 512)
    """Sizes of the layers; `hidden_help` of each entry in aekit.registry.NETWORKS says what they mean."""
    squash: bool = False
    """Whether sigmoids end the encoder and the decoder of `mlp`, as in the book's network. Without them both end
    linearly."""
    init: str = "kaiming"
    """How weights and biases begin: `kaiming` (torch's rule) or `normal` (N(0, 1), as in the book)."""
    objective: str = "plain"
    """What training minimises: a name in aekit.registry.OBJECTIVES."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of the objective: the text that the user wrote, by option name."""
    code_dim: int = 32
    """Numbers in a vector code, or at each place of a grid code."""
    optimizer: str = "adamw"
    """The optimizer: `adamw` or `tf1-rmsprop`."""
    lr: float = 2e-3
    """Peak learning rate."""
    schedule: str = "one-cycle"
    """How the learning rate changes. `one-cycle` rises over the first 3 % of the run, then falls along a cosine to 0.
    `constant` keeps it."""
    weight_decay: float = 0.1
    """Weight decay of adamw, on matrices only."""
    ema: float = 0.9995
    """Decay per step of the averaged weights. The averaged weights of the best epoch are exported. 0 turns averaging
    off; then the last weights are exported."""
    augment: float = 1.0
    """Share of each batch that is warped a little. It falls linearly to 0 over the first 90 % of the run. In long runs
    on few colour images, they also get other light, and some are mirrored. For grid codes: whether crops are mirrored
    and transposed at random (more than 0) or not (0)."""
    precision: str = "auto"
    """Precision of the matrix products: `fp32` or `bf16`. `auto` becomes bf16 at the start of a run if the device
    computes it faster. Of a network of grid codes it is the precision of the convolutional branches."""
    batch_size: int = 512
    """Images per step. A batch of 1024 (with lr 3e-3) trains on 5 % more images per second, but learns 4 % less in the
    same time. For grid codes: crops of 96×96 pixels per step, or more crops of smaller pictures."""
    epochs: int = 0
    """Passes over the training images; 0 chooses them by the number of images."""
    steps: int = 0
    """Steps of the run, for a run that need not end with an epoch, such as one with --budget; 0 leaves the length to
    `epochs`."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and the noise."""
    group_by: str = ""
    """Regular expression searched in paths. Images with the same match are held out together."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise unknown_value(name, getattr(self, name), allowed)
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(name, expected=f"{low:g} to {high:g}", found=str(getattr(self, name))[:80])
        if len(self.hidden) > 16 or not all(1 <= units <= 65536 for units in self.hidden):
            raise OptionError("hidden", expected="at most 16 layers of 1 to 65536 units", found=str(self.hidden)[:80])
        if self.is_grid:
            self._check_grid()

    def _check_grid(self) -> None:
        """Raise OptionError for a setting that a network of grid codes does not have."""
        if self.preset not in LAYOUTS:
            expected = f"{' or '.join(LAYOUTS)} for pictures of any size"
            raise OptionError("--preset", expected=expected, found=repr(self.preset)[:80])
        for name, value in (("hidden", ()), ("code_dim", self.layout.code_channels), *GRID_ONLY.items()):
            if getattr(self, name) != value:
                raise OptionError(
                    name, expected=f"{value or 'none'} with preset {self.preset} for pictures of any size",
                    found=str(getattr(self, name))[:80], fix="leave it out, or train at one size, such as --size 32x32",
                )  # fmt: skip

    @property
    def is_grid(self) -> bool:
        """Whether the network takes pictures of any size and makes grid codes."""
        return NETWORKS[self.network].takes_any_size

    @property
    def layout(self) -> GridLayout:
        """The layout of a network of grid codes. Raises KeyError for a network of vector codes."""
        return LAYOUTS[self.preset]

    def grid_geometry(self, channels: int, max_side: int = 0) -> GridGeometry:
        """Return the form of pictures for a network of grid codes. Raises SpecError if an argument is out of range."""
        return GridGeometry(self.layout.stride, channels, *self.layout.halo, max_side)

    def make_objective(self) -> Objective:
        """Make the objective; for a network of grid codes it is a GridObjective."""
        return make_objective(self.objective, self.options, grid=self.is_grid)

    def spec(self, geometry: Geometry | GridGeometry) -> ModelSpec:
        """Return the facts of the model that this run makes. Raises SpecError if one is out of range."""
        qualities = self.make_objective().quality_count
        return ModelSpec(geometry, self.code_dim, self.objective, self.network, self.preset, qualities)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        data = self.data if isinstance(self.data, str) else list(self.data)
        return {**dataclasses.asdict(self), "data": data, "hidden": list(self.hidden)}

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Self:
        """Read a run's config from JSON values. `where` names the file in errors.

        Raises CheckpointError if a field is missing, unknown or of the wrong type, OptionError if it is out of range.
        """
        kinds = {name: type(value) for name, value in vars(cls()).items()}
        if not isinstance(values, dict) or set(values) != set(kinds):
            found = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
            raise CheckpointError(where, expected=f"the fields {sorted(kinds)}", found=str(found)[:300])
        read = dict(values)
        if isinstance(read["hidden"], list) and all(type(units) is int for units in read["hidden"]):
            read["hidden"] = tuple(read["hidden"])
        if (data := _sources(read["data"])) is None:
            raise CheckpointError(f"{where}: data", expected="a text or texts", found=repr(read["data"])[:80])
        read["data"], kinds["data"] = data, type(data)
        options = read["options"]
        if isinstance(options, dict) and not all(isinstance(text, str) for text in (*options, *options.values())):
            raise CheckpointError(f"{where}: options", expected="texts by name", found=repr(options)[:80])
        for name, kind in kinds.items():
            if kind is float and type(read[name]) is int and abs(read[name]) < 2**53:
                read[name] = float(read[name])
            if type(read[name]) is not kind:
                raise CheckpointError(f"{where}: {name}", expected=kind.__name__, found=repr(read[name])[:80])
        return cls(**read)


def _sources(value: Any) -> str | tuple[str, ...] | None:
    """Return a text, or the texts of a list as a tuple or, if there is one, as a text. Return None for other values.

    Raises OptionError for more texts than a run keeps.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple) or not value or not all(isinstance(text, str | Path) for text in value):
        return None
    if len(value) > MAX_SOURCES:
        expected, fix = f"at most {MAX_SOURCES:,} files and folders", "name a folder, a quoted pattern, or @LIST"
        raise OptionError("data", expected=expected, found=f"{len(value):,}", fix=fix)
    return str(value[0]) if len(value) == 1 else tuple(map(str, value))


_CHOICES = {
    "network": tuple(NETWORKS),
    "init": ("kaiming", "normal"),
    "optimizer": ("adamw", "tf1-rmsprop"),
    "schedule": ("one-cycle", "constant"),
    "precision": ("auto", "fp32", "bf16"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "code_dim": (1, 65536),
    "lr": (1e-8, 10.0),
    "weight_decay": (0.0, 1.0),
    "ema": (0.0, 0.99999),
    "batch_size": (1, 65536),
    "augment": (0.0, 1.0),
    "epochs": (0, 100_000),
    "steps": (0, 10**9),
    "seed": (0, 2**63 - 1),
}


def make_config(preset: str, **given: Any) -> TrainConfig:
    """Make a config from a preset and the user's own settings, which go first. None means that a setting is not given.

    Raises OptionError for an unknown preset, network or objective, a setting of the wrong type or out of range, or an
    option that the objective does not have. Raises TypeError for a name that is no field of TrainConfig.
    """
    if preset not in PRESETS:
        raise unknown_value("--preset", preset, PRESETS)
    typed = {name: _typed(name, value) for name, value in given.items() if value is not None}
    network = typed.get("network", PRESETS[preset].get("network", TrainConfig.network))
    facts = NETWORKS.get(network, NetworkEntry("", ""))
    fallback = PRESETS[preset].get("objective", facts.objective)
    named = {"preset": preset, "network": network, "objective": typed.get("objective", fallback)}
    objective = make_objective(named["objective"], typed.get("options", {}), grid=facts.takes_any_size)
    if facts.takes_any_size:
        channels = LAYOUTS[preset].code_channels if preset in LAYOUTS else TrainConfig.code_dim
        return TrainConfig(**{**GRID_SETTINGS, "code_dim": channels, **typed, **named})
    if PRESETS[preset].get("network") == "grid":
        raise OptionError("--preset", expected=f"a preset of the network {network}", found=preset)
    code_dim = objective.suggested_code_dim or TrainConfig.code_dim
    if added := dict(OBJECTIVES[named["objective"]].of_new_vectors):
        typed["options"] = added | typed.get("options", {})
    return TrainConfig(**{"hidden": facts.hidden, "code_dim": code_dim, **PRESETS[preset], **typed, **named})


def _typed(name: str, value: Any) -> Any:
    """Convert a setting to the type of its field. Raises OptionError if it can't be; returns an unknown name's value
    unchanged."""
    if name == "data" and (data := _sources(value)) is not None:
        return data
    kind = type(getattr(TrainConfig(), name, value))
    if kind is tuple and isinstance(value, list | tuple) and all(type(size) is int for size in value):
        return tuple(value)
    if kind is dict and isinstance(value, dict) and all(type(each) in (str, int, float) for each in value.values()):
        return {str(option): each if isinstance(each, str) else repr(each) for option, each in value.items()}
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not kind or kind is dict:
        raise OptionError(name, expected=_KINDS[kind], found=repr(value)[:80])
    return value


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of whole numbers",
    dict: "a table of texts and numbers",
}
