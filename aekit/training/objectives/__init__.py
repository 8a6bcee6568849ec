"""Objectives: what a network is trained to minimise. Each is a module of this package and a line in OBJECTIVES."""

from collections.abc import Mapping

from aekit.errors import OptionError
from aekit.training.objectives.denoising import Denoising
from aekit.training.objectives.objective import Objective
from aekit.training.objectives.plain import Plain
from aekit.training.objectives.rate import Rate
from aekit.training.objectives.sparse import Sparse
from aekit.training.objectives.variational import Variational

OBJECTIVES: dict[str, type[Objective]] = {
    "plain": Plain,
    "denoising": Denoising,
    "variational": Variational,
    "sparse": Sparse,
    "rate": Rate,
}


def make_objective(name: str, options: Mapping[str, str]) -> Objective:
    """The objective a user named, with its options as they were written.

    Raises OptionError for an unknown objective, an option it does not have, or a value that is not of its kind.
    """
    if name not in OBJECTIVES:
        raise OptionError("--objective", expected=" or ".join(OBJECTIVES), found=repr(name))
    kind = OBJECTIVES[name]
    defaults = {name.rstrip("_"): value for name, value in vars(kind()).items()}  # `lambda` can be no field's name
    values = {}
    for option, text in options.items():
        if option not in defaults:
            known = ", ".join(f"{known}={value}" for known, value in defaults.items()) or "it has none"
            raise OptionError(f"option {option!r}", expected=f"an option of {name} ({known})")
        wanted = type(defaults[option])
        try:
            values[option] = wanted(text)
        except ValueError:
            raise OptionError(f"option {option!r}", expected=f"a {wanted.__name__}", found=repr(text)) from None
    fields = {name.rstrip("_"): name for name in vars(kind())}
    return kind(**{fields[option]: value for option, value in values.items()})
