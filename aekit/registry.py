"""Objectives and networks: one entry each, with every fact that others need. Needs no torch.

A new objective is one new file in aekit/training/objectives and one entry in OBJECTIVES; a new network is one new file
in aekit/training/networks and one entry in NETWORKS. A model.json carries the name of its objective; what the
runtime must know about it stands here, so older models need no more than the name.
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
    """`module:class` of the code, which imports torch."""
    help: str
    """What is learned, in a few words."""
    options: tuple[Option, ...] = ()
    """Options, in the order in which the help shows them."""
    stores_uint8_only: bool = False
    """Training rounded the latents, so only uint8 codes are worth storing; headline figures belong to them."""
    is_denoiser: bool = False
    """The model was trained to take noise away."""
    headline: str = "mse"
    """Validation figure that picks the weights to keep; less is better."""

    def load(self) -> Any:
        """Import the class of the objective. Needs torch."""
        return _load(self.home)


@dataclass(frozen=True)
class NetworkEntry:
    """The facts of a network."""

    home: str
    """`module:function` of the code that makes the encoder and the decoder; it imports torch."""
    help: str
    """What the network is, in a few words."""
    hidden: tuple[int, ...]
    """Sizes of its layers when neither the preset nor the user gives any."""
    hidden_help: str
    """What the sizes given with --hidden mean."""
    starts_as_pca: bool = False
    """The first weights are the principal components of the training images."""

    def load(self) -> Any:
        """Import the function that makes the network. Needs torch."""
        return _load(self.home)


OBJECTIVES: dict[str, ObjectiveEntry] = {
    "plain": ObjectiveEntry("aekit.training.objectives.plain:Plain", "the least error"),
    "denoising": ObjectiveEntry(
        "aekit.training.objectives.denoising:Denoising",
        "clean images from noisy ones",
        (
            Option("noise", "gaussian", "gaussian, masking, salt-and-pepper, or warp (for codes to search by)"),
            Option("strength", 0.5, "standard deviation of gaussian noise, share of pixels, or size of the warp"),
        ),
        is_denoiser=True,
        headline="denoised_mse",
    ),
    "variational": ObjectiveEntry(
        "aekit.training.objectives.variational:Variational",
        "codes that follow a normal distribution, to draw new images",
        (
            Option("beta", 1.0, "weight of the divergence from the prior"),
            Option("warmup", 0.1, "share of the run over which that weight rises from 0"),
            Option("likelihood", "gaussian", "gaussian, or bernoulli for black-and-white images"),
        ),
        headline="neg_elbo",
    ),
    "sparse": ObjectiveEntry(
        "aekit.training.objectives.sparse:Sparse",
        "codes of which few numbers are active",
        (
            Option("penalty", "topk", "topk keeps the largest numbers, kl pulls the mean activation down"),
            Option("active", 32, "topk: numbers of a code that stay"),
            Option("target", 0.05, "kl: mean activation of a number"),
            Option("weight", 1e-4, "kl: weight of the penalty"),
        ),
    ),
    "rate": ObjectiveEntry(
        "aekit.training.objectives.rate:Rate",
        "the fewest bits for an error",
        (
            Option("lambda", 0.0, "bits a pixel for an error of 1 in squared levels of 255; 0 means 0.0005"),
            Option("bytes", 0.0, "bytes of a code on average, for which lambda is found; 0 leaves lambda as it is"),
        ),
        stores_uint8_only=True,
        headline="loss",
    ),
}
"""Every objective by the name that --objective takes and model.json carries."""

NETWORKS: dict[str, NetworkEntry] = {
    "residual": NetworkEntry(
        "aekit.training.networks.residual:residual",
        "PCA and residual perceptrons that correct it",
        (512, 512),
        "width of each block, all alike",
        starts_as_pca=True,
    ),
    "mlp": NetworkEntry(
        "aekit.training.networks.plain:mlp",
        "fully connected layers",
        (1024, 512),
        "units of the encoder's hidden layers; the decoder has them in reverse",
    ),
    "conv": NetworkEntry(
        "aekit.training.networks.plain:conv",
        "strided convolutions",
        (32, 64),
        "channels of the stages; the last is repeated until sides are at most 8 pixels",
    ),
}
"""Every network by the name that --network takes and model.json carries."""

_UNKNOWN = ObjectiveEntry("", "an objective that this aekit does not know")


def objective_facts(name: str) -> ObjectiveEntry:
    """The facts of the objective `name`; of a name that a later aekit may have added, the plain facts."""
    return OBJECTIVES.get(name, _UNKNOWN)


def objective_with_option(option: str) -> str:
    """The name of the first objective that has this option. Raises KeyError if none has it."""
    for name, entry in OBJECTIVES.items():
        if any(known.name == option for known in entry.options):
            return name
    raise KeyError(option)


def options_help() -> str:
    """One text on the options of all objectives, for --help."""
    parts = []
    for name, entry in OBJECTIVES.items():
        if entry.options:
            options = "; ".join(f"{option.name}={option.default}: {option.help}" for option in entry.options)
            parts.append(f"{name}: {options}.")
    return "An option of the objective; repeat it for several. " + " ".join(parts)


def choices(entries: "dict[str, ObjectiveEntry] | dict[str, NetworkEntry]") -> str:
    """The names of entries with what each is, for --help."""
    return "; ".join(f"{name}: {entry.help}" for name, entry in entries.items())


def _load(home: str) -> Any:
    module, _, attribute = home.partition(":")
    return getattr(import_module(module), attribute)
