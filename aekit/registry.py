"""The registry of objectives and networks: one entry each, with every fact that others need. Needs no torch.

A new objective is one new file in aekit/training/objectives and one entry in OBJECTIVES. A new network is one new file
in aekit/training/networks and one entry in NETWORKS. A model.json stores only the name of its objective; the runtime
looks up the facts here.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Option:
    """An option of an objective, as the user may set it."""

    name: str
    """As written in `-O NAME=VALUE`."""
    default: str | int | float
    """Value when the user gives none; its type is the option's type."""
    help: str
    """What the option does, with its unit."""


@dataclass(frozen=True)
class ObjectiveEntry:
    """The facts of a training objective."""

    home: str
    """`module:class` of the objective's code. The module imports torch."""
    help: str
    """What the model learns, in a few words."""
    options: tuple[Option, ...] = ()
    """Options of the objective, in the order in which the help shows them."""
    stores_uint8_only: bool = False
    """Whether training rounds the latents. If so, uint8 codes are the default, and headline figures belong to them."""
    is_denoiser: bool = False
    """Whether the model is trained to remove noise."""
    of_new_vectors: tuple[tuple[str, str], ...] = ()
    """Options, with their texts, that a new run of vector codes has unless the user gives others. The defaults of
    `options` are what runs of earlier versions were trained with."""
    headline: str = "mse"
    """Name of the validation figure that picks the weights to keep; less is better."""
    grid_home: str = ""
    """`module:class` of the objective's code for grid codes; empty if the objective does not suit them."""

    @property
    def suits_grids(self) -> bool:
        """Whether a network of grid codes can be trained for this objective."""
        return bool(self.grid_home)

    def load(self, *, grid: bool = False) -> Any:
        """Import and return the class of the objective, for vector codes or for grid codes.

        Raises ImportError if torch is not installed.
        """
        return _load(self.grid_home if grid else self.home)


@dataclass(frozen=True)
class Purpose:
    """The recipe for a use of codes: the objective and its options."""

    help: str
    """What the codes are for, in a few words."""
    objective: str
    """Name of the objective."""
    options: tuple[tuple[str, str], ...] = ()
    """Options of the objective: names and texts as the user would write them."""
    one_length: bool = False
    """Whether all codes must have one length, so that images must have one size."""


@dataclass(frozen=True)
class NetworkEntry:
    """The facts of a network."""

    home: str
    """`module:function` of the code that makes the encoder and the decoder. The module imports torch."""
    help: str
    """What the network is, in a few words."""
    hidden: tuple[int, ...] = ()
    """Sizes of its layers when neither the preset nor the user gives any."""
    hidden_help: str = ""
    """What the sizes mean that --hidden takes; empty if the preset alone gives the sizes."""
    starts_as_pca: bool = False
    """Whether the network starts as the principal components of the training images."""
    takes_any_size: bool = False
    """Whether the network takes pictures of any size and makes grid codes; else it makes vector codes of one size."""
    objective: str = "plain"
    """Name of the objective that `make_config` takes if none is named. `aekit train` always names one."""

    def load(self) -> Any:
        """Import and return the function that makes the network. Raises ImportError if torch is not installed."""
        return _load(self.home)


OBJECTIVES: dict[str, ObjectiveEntry] = {
    "plain": ObjectiveEntry(
        "aekit.training.objectives.plain:Plain",
        "the least error",
        grid_home="aekit.training.objectives.grid:GridPlain",
    ),
    "denoising": ObjectiveEntry(
        "aekit.training.objectives.denoising:Denoising",
        "clean images from noisy ones",
        (
            Option("noise", "gaussian", "gaussian, masking, salt-and-pepper, or warp (for codes to search by)"),
            Option("strength", 0.5, "standard deviation of gaussian noise, share of pixels, or size of the warp"),
        ),
        is_denoiser=True,
        headline="denoised_mse",
        grid_home="aekit.training.objectives.grid:GridDenoising",
    ),
    "variational": ObjectiveEntry(
        "aekit.training.objectives.variational:Variational",
        "codes that follow a normal distribution, to draw new images",
        (
            Option("beta", 1.0, "weight of the divergence from the prior"),
            Option("warmup", 0.1, "share of the run over which that weight rises from 0"),
            Option(
                "likelihood", "auto", "gaussian, bernoulli for black-and-white images, or auto, which looks at them"
            ),
        ),
        headline="neg_elbo",
    ),
    "sparse": ObjectiveEntry(
        "aekit.training.objectives.sparse:Sparse",
        "codes with few active numbers",
        (
            Option("penalty", "topk", "topk keeps the largest numbers, kl pulls the mean activation down"),
            Option("active", 32, "topk: numbers of a code that stay active"),
            Option("target", 0.05, "kl: mean activation that each number is pulled to"),
            Option("weight", 1e-4, "kl: weight of the penalty"),
        ),
    ),
    "rate": ObjectiveEntry(
        "aekit.training.objectives.rate:Rate",
        "the fewest bits for an error",
        (
            Option(
                "lambda",
                0.0,
                "bits per pixel for a mean squared error of 1 (levels 0 to 255); 0 means 0.0005, for grid codes 0.005",
            ),
            Option("bytes", 0.0, "mean bytes of a code, which training reaches by changing lambda; 0 fixes lambda"),
            Option("prior", "tables", "entropy coder that vector codes are trained for: context (new runs), or tables"),
            Option("qualities", 1, "grid codes: qualities of one model, with λ from lambda / 5 to 5 · lambda"),
        ),
        of_new_vectors=(("prior", "context"),),
        stores_uint8_only=True,
        headline="loss",
        grid_home="aekit.training.objectives.grid_rate:GridRate",
    ),
}
"""Every objective by the name that --objective takes and model.json carries."""

NETWORKS: dict[str, NetworkEntry] = {
    "residual": NetworkEntry(
        "aekit.training.networks.residual:residual",
        "PCA and residual perceptrons that correct it",
        (512, 512),
        "width of each block, the same for all",
        starts_as_pca=True,
    ),
    "mlp": NetworkEntry(
        "aekit.training.networks.plain:mlp",
        "fully connected layers",
        (1024, 512),
        "units of the encoder's hidden layers; the decoder has the same in reverse",
    ),
    "conv": NetworkEntry(
        "aekit.training.networks.plain:conv",
        "strided convolutions",
        (32, 64),
        "channels of the stages; the last stage is repeated until the sides are at most 8 pixels",
    ),
    "grid": NetworkEntry(
        "aekit.training.networks.grid:grid",
        "convolutions and a block transform, for pictures of any size",
        starts_as_pca=True,
        takes_any_size=True,
        objective="rate",
    ),
}
"""Every network by the name that --network takes and model.json carries."""

COMPRESSION = "compression"
"""Name of the purpose of a run for which the user names neither a purpose nor an objective."""
PURPOSES: dict[str, Purpose] = {
    COMPRESSION: Purpose("the fewest bytes for an error", "rate"),
    "search": Purpose(
        "similar images get similar codes, of one length",
        "denoising",
        (("noise", "warp"), ("strength", "1")),
        one_length=True,
    ),
    "denoise": Purpose("clean images from noisy ones", "denoising"),
    "anomaly": Purpose("good reconstructions of usual images, worse ones of unusual images", "plain"),
}
"""Every purpose by the name that --for takes."""

_UNKNOWN = ObjectiveEntry("", "an objective that this aekit does not know")


def objective_facts(name: str) -> ObjectiveEntry:
    """Return the facts of the objective `name`. An unknown name, as from a newer aekit, has the default facts."""
    return OBJECTIVES.get(name, _UNKNOWN)


def objective_with_option(option: str) -> str:
    """Return the name of the first objective that has this option. Raises KeyError if no objective has it."""
    for name, entry in OBJECTIVES.items():
        if any(known.name == option for known in entry.options):
            return name
    raise KeyError(option)


def options_help() -> str:
    """Return one text about the options of all objectives, for --help."""
    parts = []
    for name, entry in OBJECTIVES.items():
        if entry.options:
            options = "; ".join(f"{option.name}={option.default}: {option.help}" for option in entry.options)
            parts.append(f"{name}: {options}.")
    return "An option of the objective; repeat it for several. " + " ".join(parts)


def choices(entries: "dict[str, ObjectiveEntry] | dict[str, NetworkEntry] | dict[str, Purpose]") -> str:
    """Return the names of entries, each with its help, for --help."""
    return "; ".join(f"{name}: {entry.help}" for name, entry in entries.items())


def _load(home: str) -> Any:
    module, _, attribute = home.partition(":")
    return getattr(import_module(module), attribute)
