"""What users write for an option, read; each raises OptionError for what it can't read."""

import re

from aekit.errors import OptionError


def options(texts: list[str] | None) -> dict[str, str] | None:
    """An objective's options from NAME=VALUE texts; None if there are none."""
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    for text, (name, equals, value) in zip(texts, pairs, strict=True):
        if not (name and equals and value):
            raise OptionError("--option", expected="NAME=VALUE", found=repr(text))
    return {name: value for name, _, value in pairs}


def rate(
    weight: float | None, size: float | None, objective: str | None, options: dict[str, str] | None
) -> tuple[str | None, dict[str, str] | None]:
    """The objective and its options with --lambda `weight` and --bytes `size` among them, which mean the objective
    `rate`."""
    given = {name: value for name, value in {"lambda": weight, "bytes": size}.items() if value is not None}
    if not given:
        return objective, options
    said = " and ".join(f"--{name}" for name in given)
    if objective not in (None, "rate"):
        raise OptionError(said, expected="--objective rate", found=f"--objective {objective}")
    if len(given) > 1 or {"lambda", "bytes"} & set(options or {}):
        raise OptionError("--lambda and --bytes", expected="one of them, once", found=f"{said} {options or ''}".strip())
    ((name, value),) = given.items()
    if not value > 0:
        raise OptionError(f"--{name}", expected="more than 0", found=f"{value:g}")
    return "rate", {**(options or {}), name: repr(value)}


def seconds(text: str | None) -> float | None:
    """Seconds from a time such as 90s, 5m or 1h."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None or float(match[1]) <= 0:
        raise OptionError("--budget", expected="a time such as 90s, 5m or 1h", found=repr(text))
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def sizes(text: str | None) -> tuple[int, ...] | None:
    """Sizes of layers from 512,256, or none at all from `none`."""
    if text is None:
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise OptionError("--hidden", expected="sizes such as 512,256, or none", found=repr(text))
    return tuple(map(int, text.split(",")))


def size(text: str | None) -> tuple[int, int] | None:
    """(height, width) from HEIGHTxWIDTH."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise OptionError("--size", expected="HEIGHTxWIDTH, such as 32x32", found=repr(text))
    return int(match[1]), int(match[2])
