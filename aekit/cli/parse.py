"""Read the texts that users write for options; each function raises OptionError for a text it can't read."""

import re

from aekit.errors import OptionError
from aekit.registry import COMPRESSION, objective_with_option


def options(texts: list[str] | None) -> dict[str, str] | None:
    """Return an objective's options from NAME=VALUE texts, or None if there are none."""
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, value) in zip(texts, pairs, strict=True):
        if not (name and equals and value):
            raise OptionError("--option", expected="NAME=VALUE", found=repr(text))
    return {name: value for name, _, value in pairs}


def rate(
    weight: float | None,
    size: float | None,
    objective: str | None,
    options: dict[str, str] | None,
    purpose: str | None = None,
    qualities: int | None = None,
) -> tuple[str | None, dict[str, str] | None]:
    """Return the objective and its options, with --lambda `weight`, --bytes `size` and --qualities added.

    Raises OptionError if `weight` and `size` are both given, if one of them is not positive, or if the objective or the
    purpose has no such option.
    """
    owner = objective_with_option("lambda")
    if qualities is not None:
        if objective not in (None, owner):
            raise OptionError("--qualities", expected=f"--objective {owner}", found=f"--objective {objective}")
        objective, options = owner, {**(options or {}), "qualities": str(qualities)}
    given = {name: value for name, value in {"lambda": weight, "bytes": size}.items() if value is not None}
    if not given:
        return objective, options
    flags = " and ".join(f"--{name}" for name in given)
    if objective not in (None, owner):
        raise OptionError(flags, expected=f"--objective {owner}", found=f"--objective {objective}")
    if objective is None and purpose not in (None, COMPRESSION):
        raise OptionError(flags, expected=f"--for {COMPRESSION}", found=f"--for {purpose}"[:80])
    if len(given) > 1 or {"lambda", "bytes"} & set(options or {}):
        asked = f"{flags} {options or ''}".strip()
        raise OptionError("--lambda and --bytes", expected="one of them, once", found=asked)
    ((name, value),) = given.items()
    if not value > 0:
        raise OptionError(f"--{name}", expected="more than 0", found=f"{value:g}")
    return owner, {**(options or {}), name: repr(value)}


def sizes(text: str | None) -> tuple[int, ...] | None:
    """Return the sizes of layers from a text such as 512,256; `none` gives no layers. None stays None."""
    if text is None:
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"\d{1,9}(,\d{1,9})*", text):
        raise OptionError("--hidden", expected="sizes such as 512,256, or none", found=repr(text)[:80])
    return tuple(map(int, text.split(",")))
