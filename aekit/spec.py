"""The facts of a model: the geometry of its images, the size of its code, how it was made. Read and written as JSON."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from aekit.errors import SpecError

FORMAT_VERSION = 4
"""Newest version of the model bundle's JSON that this aekit reads; readers refuse a higher one. Models of vector codes
are written as version 1, or 4 with a context model. Models of grid codes are written as version 2, or 3 with several
qualities."""

MIN_SIDE, MAX_SIDE = 8, 256
"""Shortest and longest side of an image that a model accepts, in pixels."""
MAX_CODE_DIM = 65536
"""Largest number of numbers in a code, or at one place of a grid code."""
MAX_STRIDE = 64
"""Largest stride of a grid code, in pixels."""
MAX_HALO = 256
"""Largest halo of a grid model, in places of the code."""
MAX_QUALITIES = 64
"""Most qualities of a model of grid codes."""
MAX_PICTURE_SIDE = 65535
"""Longest side of a picture that a grid model accepts, in pixels."""


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
        _check_channels(self.channels)
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
class GridGeometry:
    """The form of pictures for a model of grid codes: any height and width.

    A picture [H, W, channels] has the code [ceil(H / stride), ceil(W / stride), code_dim]. Raises SpecError if a field
    is out of range.
    """

    stride: int
    """Pixels on each side of the block that one place of the code stands for."""
    channels: int
    """1 for gray, 3 for RGB."""
    encoder_halo: int
    """Places on each side of a place that its code depends on."""
    decoder_halo: int
    """Places on each side of a place that the pixels of its block depend on."""
    max_side: int = 0
    """Longest side of a picture in pixels; a larger picture is shrunk to it. 0 leaves every picture as it is."""
    background: int = 255
    """Gray level, 0 to 255, of the background behind transparent pixels."""

    def __post_init__(self) -> None:
        _bounded("stride", self.stride, 1, MAX_STRIDE)
        _bounded("encoder_halo", self.encoder_halo, 0, MAX_HALO)
        _bounded("decoder_halo", self.decoder_halo, 0, MAX_HALO)
        _bounded("max_side", self.max_side, 0, MAX_PICTURE_SIDE)
        _bounded("background", self.background, 0, 255)
        _check_channels(self.channels)

    def code_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the places (h, w) of the code of a picture of this size."""
        return -(-height // self.stride), -(-width // self.stride)

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture whose sides were filled up to multiples of the stride."""
        rows, columns = self.code_shape(height, width)
        return rows * self.stride, columns * self.stride

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Return the size at which a picture of this size is encoded: its own, or less because of `max_side`."""
        longest = max(height, width)
        if not 0 < self.max_side < longest:
            return height, width
        shrunk = ((side * self.max_side + longest // 2) // longest for side in (height, width))
        rows, columns = (max(side, 1) for side in shrunk)
        return rows, columns

    def __str__(self) -> str:
        size = f"sides up to {self.max_side}" if self.max_side else "any size"
        return f"{size} {'gray' if self.channels == 1 else 'RGB'}"


@dataclass(frozen=True)
class ModelSpec:
    """The facts of a model that a device needs. The model_id covers them.

    Raises SpecError if a field is of the wrong type or out of range.
    """

    geometry: Geometry | GridGeometry
    code_dim: int
    """Numbers in a vector code, or at each place of a grid code."""
    objective: str
    """Name of the training objective."""
    network: str
    """Name of the network family, such as `mlp` or `conv`."""
    preset: str
    """Name of the training preset."""
    qualities: int = 1
    """Qualities at which the model encodes pictures, numbered from 1, the fewest bits, upwards. JSON leaves 1 out."""

    def __post_init__(self) -> None:
        _bounded("code_dim", self.code_dim, 1, MAX_CODE_DIM)
        _bounded("qualities", self.qualities, 1, MAX_QUALITIES if self.is_grid else 1)
        for name in ("objective", "network", "preset"):
            value = getattr(self, name)
            if not isinstance(value, str) or not 0 < len(value) <= 64:
                raise SpecError(name, expected="a name of 1 to 64 characters", found=repr(value)[:80])

    @property
    def is_grid(self) -> bool:
        """Whether the model has grid codes, for pictures of any size."""
        return isinstance(self.geometry, GridGeometry)

    @property
    def grid(self) -> GridGeometry:
        """The geometry of a model of grid codes. Raises SpecError for a model of vector codes."""
        if not isinstance(self.geometry, GridGeometry):
            raise SpecError("geometry", expected="a model of grid codes", found=f"one for {self.geometry} images")
        return self.geometry

    @property
    def fixed(self) -> Geometry:
        """The geometry of a model of vector codes. Raises SpecError for a model of grid codes."""
        if not isinstance(self.geometry, Geometry):
            raise SpecError("geometry", expected="a model of one image size", found="one of grid codes")
        return self.geometry

    @property
    def format_version(self) -> int:
        """The version of the bundle's format that the graphs carry, and model.json too unless its extras need more."""
        if self.has_qualities:
            return 3
        return 2 if self.is_grid else 1

    @property
    def has_qualities(self) -> bool:
        """Whether the model has several qualities. Its graphs then have a second input, `quality`."""
        return self.qualities > 1

    @property
    def default_quality(self) -> int:
        """The quality of pictures for which none is chosen: the middle one, or the one above the middle."""
        return self.qualities // 2 + 1

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON-ready values."""
        return {name: value for name, value in asdict(self).items() if name != "qualities" or self.has_qualities}

    def canonical(self) -> str:
        """Return the spec as JSON with sorted keys and no spaces. This text is hashed and stored in the graphs."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Self:
        """Read a spec from untrusted JSON values. `where` names their file in errors.

        Raises SpecError if a field is missing, unknown, of the wrong type or out of bounds.
        """
        try:
            outer = _exact_fields(cls, {"qualities": 1, **values} if isinstance(values, dict) else values)
            outer["geometry"] = read_geometry(outer["geometry"])
            return cls(**outer)
        except SpecError as error:
            raise SpecError(f"{where}: {error.what}", expected=error.expected, found=error.found) from None


def read_geometry(values: Any) -> Geometry | GridGeometry:
    """Read a geometry from untrusted JSON values. Raises SpecError if a field is missing, unknown or out of bounds."""
    kind = GridGeometry if isinstance(values, dict) and "stride" in values else Geometry
    return kind(**_exact_fields(kind, values))


def _exact_fields(cls: type, values: Any) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    if not isinstance(values, dict) or set(values) != names:
        actual = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise SpecError(cls.__name__, expected=f"the fields {sorted(names)}", found=str(actual)[:200])
    return dict(values)


def _bounded(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SpecError(name, expected=f"a whole number from {low} to {high}", found=repr(value)[:80])


def _check_channels(value: object) -> None:
    # JSON's 1.0 and true equal 1 in Python, but they can't be the size of an array.
    if type(value) is not int or value not in (1, 3):
        raise SpecError("channels", expected="1 (gray) or 3 (RGB)", found=repr(value)[:80])
