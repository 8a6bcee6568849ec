"""What a training run is asked to do: every default once, and the presets that change several at a time."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Self

from aekit.errors import CheckpointError, OptionError
from aekit.registry import NETWORKS
from aekit.spec import Geometry, ModelSpec
from aekit.training.objectives import make_objective


@dataclass(frozen=True)
class TrainConfig:
    """A run's settings, complete: the same config, data and machine give the same weights."""

    data: str = "mnist-5k"
    """Source of the images: a named set or a path."""
    preset: str = "default"
    """Name of the preset these settings began from."""
    network: str = "residual"
    """Which network is trained; a name in aekit.registry.NETWORKS."""
    hidden: tuple[int, ...] = (512, 512)
    """Sizes of the layers; `hidden_help` of each entry in aekit.registry.NETWORKS says what they mean."""
    squash: bool = False
    """Sigmoids on the latent and on the output, as in the book's network; else both are linear."""
    init: str = "kaiming"
    """Of weights and biases: `kaiming` (torch's rule) or `normal` (N(0, 1), the book's)."""
    objective: str = "plain"
    """What is minimised; a name in aekit.registry.OBJECTIVES."""
    options: dict[str, str] = field(default_factory=dict)
    """The objective's own options, by name, as they were written."""
    code_dim: int = 32
    """Numbers in a code."""
    optimizer: str = "adamw"
    """`adamw` or `tf1-rmsprop`."""
    lr: float = 2e-3
    """Peak learning rate."""
    schedule: str = "one-cycle"
    """`one-cycle` (up over the first 3 % of the run, then down a cosine to nothing) or `constant`."""
    weight_decay: float = 0.1
    """Of adamw, on matrices alone."""
    ema: float = 0.9995
    """Decay a step of the averaged weights, which are what is validated and exported; 0 keeps none, and then the
    last weights are exported instead of the best."""
    augment: float = 1.0
    """Share of a batch that is warped a little; falls to 0 over the first 90 % of the run."""
    precision: str = "auto"
    """`fp32`, or `bf16` for the matrix products; the command makes of `auto` bf16 where the processor has it."""
    batch_size: int = 512
    """Images a step. With 1024 (rate 3e-3) a core does 5 % more images and comes 4 % less far in the same time."""
    epochs: int = 0
    """Passes over the training images; 0 chooses by their number."""
    steps: int = 0
    """Steps, if not whole epochs: what --budget comes to; 0 leaves it to `epochs`."""
    seed: int = 0
    """Of the initial weights, the order of the images and the noise."""
    group_by: str = ""
    """Regular expression on paths: images it matches alike are held out together."""

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise OptionError(name, expected=" or ".join(allowed), found=repr(getattr(self, name))[:80])
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(name, expected=f"{low:g} to {high:g}", found=str(getattr(self, name))[:80])
        if len(self.hidden) > 16 or not all(1 <= units <= 65536 for units in self.hidden):
            raise OptionError("hidden", expected="at most 16 layers of 1 to 65536 units", found=str(self.hidden)[:80])

    def spec(self, geometry: Geometry) -> ModelSpec:
        """The facts of the model this run makes."""
        return ModelSpec(geometry, self.code_dim, self.objective, self.network, self.preset)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**dataclasses.asdict(self), "hidden": list(self.hidden)}

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Self:
        """Read a run's config; `where` names the file in errors.

        Raises CheckpointError if a field is missing, unknown or of the wrong type, OptionError if one is out of range.
        """
        kinds = {name: type(value) for name, value in vars(cls()).items()}
        if not isinstance(values, dict) or set(values) != set(kinds):
            found = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
            raise CheckpointError(where, expected=f"the fields {sorted(kinds)}", found=str(found)[:300])
        read = dict(values)
        if isinstance(read["hidden"], list) and all(type(units) is int for units in read["hidden"]):
            read["hidden"] = tuple(read["hidden"])
        options = read["options"]
        if isinstance(options, dict) and not all(isinstance(text, str) for text in (*options, *options.values())):
            raise CheckpointError(f"{where}: options", expected="texts by name", found=repr(options)[:80])
        for name, kind in kinds.items():
            if kind is float and type(read[name]) is int and abs(read[name]) < 2**53:
                read[name] = float(read[name])
            if type(read[name]) is not kind:
                raise CheckpointError(f"{where}: {name}", expected=kind.__name__, found=repr(read[name])[:80])
        return cls(**read)


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

_BOOK_NETWORK: dict[str, Any] = {"network": "mlp", "hidden": (), "squash": True, "code_dim": 256}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # For devices: graphs of 0.8 MB at 28×28, where the default's have 6.
    "small": {"hidden": (128, 128)},
    # The book's chapter, to the letter: network, initial weights, optimizer, batches and epochs.
    "classic": {
        **_BOOK_NETWORK,
        "init": "normal",
        "optimizer": "tf1-rmsprop",
        "lr": 0.01,
        "schedule": "constant",
        "weight_decay": 0.0,
        "ema": 0.0,
        "augment": 0.0,
        "precision": "fp32",
        "batch_size": 100,
        "epochs": 20,
    },
    # The same network under our recipe: what the book's 256 units could have had.
    "classic-tuned": {
        **_BOOK_NETWORK,
        "lr": 0.015,
        "weight_decay": 1e-4,
        "augment": 0.0,
        "precision": "fp32",
        "batch_size": 128,
        "epochs": 20,
    },
}
"""Settings by preset; what a preset leaves out is TrainConfig's default, what the user gives goes before both."""


def make_config(preset: str, **given: Any) -> TrainConfig:
    """Make the config of a preset with the user's own settings on top; a setting that is None is not given.

    Raises OptionError for an unknown preset, network or objective, a setting of the wrong type or out of range, or an
    option that the objective does not have. Raises TypeError for a name that is no field of TrainConfig.
    """
    if preset not in PRESETS:
        raise OptionError("--preset", expected=" or ".join(PRESETS), found=repr(preset)[:80])
    typed = {name: _typed(name, value) for name, value in given.items() if value is not None}
    chosen = {**PRESETS[preset], **typed}
    network = chosen.get("network", TrainConfig.network)
    hidden = NETWORKS[network].hidden if network in NETWORKS else ()
    objective = make_objective(chosen.get("objective", TrainConfig.objective), chosen.get("options", {}))
    code_dim = objective.suggested_code_dim or TrainConfig.code_dim
    return TrainConfig(**{"hidden": hidden, "code_dim": code_dim, **chosen, "preset": preset})


def _typed(name: str, value: Any) -> Any:
    """A setting as the type of its field. Raises OptionError if it has another; leaves an unknown name alone."""
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
