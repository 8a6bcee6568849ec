"""The error of codes and a model that do not belong together."""

from pathlib import Path

from aekit.errors import ModelMismatch
from aekit.model.bundle import Bundle


def mismatch(path: Path, model_id: str, is_grid: bool, bundle: Bundle) -> ModelMismatch:
    """Return the error of codes that model `model_id` made and `bundle` can't decode.

    `is_grid` says whether they are grid codes. If the models have codes of two kinds, the error says so.
    """
    theirs, ours = model_id, bundle.model_id
    if is_grid != bundle.spec.is_grid:
        kinds = {True: " (grid codes, for pictures of any size)", False: " (vector codes, for one image size)"}
        theirs, ours = theirs + kinds[is_grid], ours + kinds[bundle.spec.is_grid]
    return ModelMismatch(str(path), theirs, ours)
