"""Objectives: what a network is trained to minimise. Each is a file of this package and an entry in aekit.registry."""

import keyword
from collections.abc import Collection, Mapping

from aekit.errors import OptionError, nearest, unknown_value
from aekit.registry import OBJECTIVES
from aekit.training.objectives.objective import Objective

__all__ = ["OBJECTIVES", "Objective", "make_objective"]


def make_objective(name: str, options: Mapping[str, str], *, grid: bool = False) -> Objective:
    """Make the objective that a user named. `options` are texts by option name.

    With `grid` it is the objective for grid codes, a GridObjective.

    Raises OptionError for an unknown objective or one that does not suit grid codes, an unknown option, a text that is
    not of the option's type, or a value out of range.
    """
    if name not in OBJECTIVES:
        raise unknown_value("--objective", name, OBJECTIVES)
    entry = OBJECTIVES[name]
    if grid and not entry.suits_grids:
        suited = " or ".join(other for other, facts in OBJECTIVES.items() if facts.suits_grids)
        raise OptionError(
            "--objective",
            expected=f"{suited} for pictures of any size",
            found=name,
            fix="choose one of them, or train at one size, for example --size 32x32",
        )
    known = {option.name: option for option in entry.options}
    fields: dict[str, str | int | float] = {}
    for option, text in options.items():
        if option not in known:
            listed = ", ".join(f"{each.name}={each.default}" for each in entry.options) or "it has none"
            raise OptionError(
                f"option {option!r}"[:80], expected=f"an option of {name} ({listed})", fix=_help_with(option, known)
            )
        kind = type(known[option].default)
        try:
            fields[f"{option}_" if keyword.iskeyword(option) else option] = kind(text)
        except ValueError:
            found = repr(text)[:80]
            raise OptionError(f"option {option!r}", expected=f"a {kind.__name__}", found=found) from None
    objective: Objective = entry.load(grid=grid)(**fields)
    return objective


def _help_with(option: str, known: Collection[str]) -> str:
    """Say which objective has an option that this one lacks, or which option of this one has nearly the name."""
    owners = [name for name, entry in OBJECTIVES.items() if any(each.name == option for each in entry.options)]
    return f"give --objective {owners[0]}, which has it" if owners else nearest(option, known)
