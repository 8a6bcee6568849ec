"""The facts of a model: the geometry of its images, the size of its code, how it was made. Read and written as JSON."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from aekit.errors import SpecError

FORMAT_VERSION = 1
"""Version of the model bundle's JSON; readers refuse a higher one."""

MIN_SIDE, MAX_SIDE = 8, 256
"""Shortest and longest side of an image that a model accepts, in pixels."""
MAX_CODE_DIM = 65536
"""Largest number of numbers in a code."""


@dataclass(frozen=True)
class Geometry:
    """The form that every image is brought to before the encoder. Training and the device use the same rule.

    Raises SpecError if a field is out of range.
    """

    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    channels: int
    """1 for gray, 3 for RGB."""
    resize: str = "stretch"
    """How an image of another size is resized to height × width: `stretch` scales both sides to fit."""
    background: int = 255
    """Gray level, 0 to 255, of the background behind transparent pixels."""

    def __post_init__(self) -> None:
        _bounded("height", self.height, MIN_SIDE, MAX_SIDE)
        _bounded("width", self.width, MIN_SIDE, MAX_SIDE)
        _bounded("background", self.background, 0, 255)
        # JSON's 1.0 and true equal 1 in Python, but they can't be the size of an array.
        if type(self.channels) is not int or self.channels not in (1, 3):
            raise SpecError("channels", expected="1 (gray) or 3 (RGB)", found=repr(self.channels)[:80])
        if self.resize != "stretch":
            raise SpecError("resize", expected="'stretch'", found=repr(self.resize)[:80])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels), the shape of one image."""
        return self.height, self.width, self.channels

    @property
    def pixels(self) -> int:
        """Values in one image: height × width × channels."""
        return self.height * self.width * self.channels

    def __str__(self) -> str:
        return f"{self.height}x{self.width} {'gray' if self.channels == 1 else 'RGB'}"


@dataclass(frozen=True)
class ModelSpec:
    """The facts of a model that a device needs. The model_id covers them.

    Raises SpecError if a field is of the wrong type or out of range.
    """

    geometry: Geometry
    code_dim: int
    """Numbers in a code."""
    objective: str
    """Name of the training objective."""
    network: str
    """Name of the network family, such as `mlp` or `conv`."""
    preset: str
    """Name of the training preset."""

    def __post_init__(self) -> None:
        _bounded("code_dim", self.code_dim, 1, MAX_CODE_DIM)
        for name in ("objective", "network", "preset"):
            value = getattr(self, name)
            if not isinstance(value, str) or not 0 < len(value) <= 64:
                raise SpecError(name, expected="a name of 1 to 64 characters", found=repr(value)[:80])

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-ready values."""
        return asdict(self)

    def canonical(self) -> str:
        """Return the spec as JSON with sorted keys and no spaces. This text is hashed and stored in the graphs."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Self:
        """Read a spec from untrusted JSON values. `where` names their file in errors.

        Raises SpecError if a field is missing, unknown, of the wrong type or out of bounds.
        """
        try:
            outer = _exact_fields(cls, values)
            outer["geometry"] = Geometry(**_exact_fields(Geometry, outer["geometry"]))
            return cls(**outer)
        except SpecError as error:
            raise SpecError(f"{where}: {error.what}", expected=error.expected, found=error.found) from None


def _exact_fields(cls: type, values: Any) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    if not isinstance(values, dict) or set(values) != names:
        actual = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise SpecError(cls.__name__, expected=f"the fields {sorted(names)}", found=str(actual)[:200])
    return dict(values)


def _bounded(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SpecError(name, expected=f"a whole number from {low} to {high}", found=repr(value)[:80])
