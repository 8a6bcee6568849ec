"""Errors of an exported model on held-out images, and of PCA, as model.json keeps them."""

from typing import Any

import numpy as np

from aekit.evaluation.metrics import mse, psnr
from aekit.exporting.parity import psnr_loss
from aekit.images.decode import Pixels
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.pca import Pca
from aekit.registry import objective_facts
from aekit.runs import PCA
from aekit.training.checkpoint import Run
from aekit.training.data import TrainingData


def storage_cost(codec: Codec, images: Pixels | list[Pixels]) -> dict[str, Any]:
    """Measure reconstructions of images uint8 [n, H, W, C], or of a list of pictures, with pixels in [0, 1].

    `mse` and `psnr` (dB; None if the error is 0) are the headline figures. They belong to uint8 codes if the objective
    stores only those, else to float32 latents. `mse_float_latents` and `mse_uint8_codes` are the errors of both, as
    means over images. `uint8_cost_db` is the PSNR that rounding to uint8 codes loses, in dB.
    """
    exact, stored = (_error(codec, images, dtype) for dtype in ("float32", "uint8"))
    headline = stored if objective_facts(codec.spec.objective).stores_uint8_only else exact
    return {
        "mse": headline,
        "psnr": psnr(headline) if headline else None,
        "mse_float_latents": exact,
        "mse_uint8_codes": stored,
        "uint8_cost_db": psnr_loss(exact, stored),
    }


def _error(codec: Codec, images: Pixels | list[Pixels], dtype: str) -> float:
    if not isinstance(images, list):
        return mse(images, codec.reconstruct(images, dtype))
    pairs = ((picture, codec.reconstruct([picture], dtype)[0]) for picture in images)
    return float(np.mean([mse(picture[None], again[None]) for picture, again in pairs]))


def decoded_error(codec: Codec, pictures: list[Pixels], codes: GridCodes) -> dict[str, float | None]:
    """Return `mse` and `psnr` of codes, the mean over pictures, for pixels in [0, 1]."""
    pairs = ((picture, codec.decode(codes[row : row + 1])[0]) for row, picture in enumerate(pictures))
    error = float(np.mean([mse(picture[None], again[None]) for picture, again in pairs]))
    return {"mse": error, "psnr": psnr(error) if error else None}


def pca_mse(run: Run, data: TrainingData) -> dict[str, Any]:
    """Measure PCA with as many components as the code has numbers, on the held-out images. The bundle keeps this
    baseline, because evaluation may not have the run."""
    saved = run.path / PCA
    pca = Pca.load(saved) if saved.is_file() else Pca.fit(data.train, run.config.code_dim)
    return {"mse": pca.mse(data.validation), "code_dim": run.config.code_dim, "images": len(data.validation)}
