"""JSON files: values that JSON can say."""

import math
from typing import Any


def finite(values: Any) -> Any:
    """The values with infinities and NaN, which JSON has no word for, as null."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
