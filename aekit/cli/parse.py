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
