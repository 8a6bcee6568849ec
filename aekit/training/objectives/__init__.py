"""Objectives: what a network is trained to minimise. Each is a file of this package and an entry in aekit.registry."""

from collections.abc import Mapping

from aekit.errors import OptionError
from aekit.registry import OBJECTIVES
from aekit.training.objectives.objective import Objective

__all__ = ["OBJECTIVES", "Objective", "make_objective"]

_RENAMED = {"lambda": "lambda_"}
"""Field of the dataclass for each option whose name is a keyword of Python."""


def make_objective(name: str, options: Mapping[str, str]) -> Objective:
    """Make the objective that a user named. `options` are texts by option name.

    Raises OptionError for an unknown objective, an unknown option, a text that is not of the option's type, or a
    value out of range.
    """
    if name not in OBJECTIVES:
        raise OptionError("--objective", expected=" or ".join(OBJECTIVES), found=repr(name)[:80])
    entry = OBJECTIVES[name]
    known = {option.name: option for option in entry.options}
    fields: dict[str, str | int | float] = {}
    for option, text in options.items():
        if option not in known:
            listed = ", ".join(f"{each.name}={each.default}" for each in entry.options) or "it has none"
            raise OptionError(f"option {option!r}"[:80], expected=f"an option of {name} ({listed})")
        kind = type(known[option].default)
        try:
            fields[_RENAMED.get(option, option)] = kind(text)
        except ValueError:
            found = repr(text)[:80]
            raise OptionError(f"option {option!r}", expected=f"a {kind.__name__}", found=found) from None
    objective: Objective = entry.load()(**fields)
    return objective
