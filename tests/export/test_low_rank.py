"""Sets of low rank, which leave latents without a signal, and models without an error: they train and export."""

from pathlib import Path

import numpy as np
import pytest
from conftest import made_images

import aekit
from aekit.exporting.parity import psnr_loss
from aekit.images.decode import Pixels

SETS: dict[str, Pixels] = {
    "flat": np.broadcast_to((np.arange(40) * 6).astype(np.uint8)[:, None, None, None], (40, 16, 16, 1)),
    "duplicates": np.repeat(made_images(3), 15, 0),
    "two": made_images(2),
}


@pytest.mark.parametrize("objective", ["plain", "rate"])
@pytest.mark.parametrize("name", SETS)
def test_a_set_of_low_rank_is_exported(tmp_path: Path, name: str, objective: str) -> None:
    np.save(tmp_path / "images.npy", SETS[name])
    done = aekit.train(
        tmp_path / "images.npy", tmp_path / "run", objective=objective, code_dim=16, hidden=[16], epochs=3
    )
    figures = aekit.export(done.run, tmp_path / "model").bundle.manifest["validation"]
    assert isinstance(figures["uint8_cost_db"], float)  # a number even where the error is 0
    headline = "mse_uint8_codes" if objective == "rate" else "mse_float_latents"
    assert figures["mse"] == figures[headline]
    if name != "two":
        assert figures["mse_uint8_codes"] < 1e-3


def test_the_loss_of_a_lossless_model_is_finite() -> None:
    assert psnr_loss(0.0, 0.0) == 0
    assert 0 < psnr_loss(0.0, 1e-4) < 25
    assert psnr_loss(1e-3, 2e-3) == pytest.approx(3.0103, abs=1e-3)
