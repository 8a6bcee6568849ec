"""PCA against the singular value decomposition, by each way in which it is computed."""

import numpy as np
import pytest
from conftest import made_images

from aekit import pca
from aekit.pca import Pca


@pytest.mark.parametrize(
    ("count", "side", "code_dim"),
    [(40, 12, 30), (40, 12, 100), (300, 5, 24), (500, 16, 20)],
    ids=["wide", "more components than images", "tall", "a part of all components"],
)
def test_components_are_those_of_the_svd(count: int, side: int, code_dim: int) -> None:
    images = made_images(count, side, side)
    found = Pca.fit(images, code_dim)
    flat = images.reshape(count, -1) / 255
    _, values, vectors = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    kept = min(code_dim, count, side**2)
    assert found.components.shape == (kept, side**2) and found.components.dtype == np.float32
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(kept), atol=1e-4)
    np.testing.assert_allclose(found.scales, values[:kept] / (count - 1) ** 0.5, rtol=0.01, atol=1e-5)
    wanted = Pca(found.mean, vectors[:kept].astype(np.float32), found.scales)
    assert found.mse(images) == pytest.approx(wanted.mse(images), rel=0.01, abs=1e-7)


def test_of_many_images_a_part_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    images = made_images(600)
    whole = Pca.fit(images, 5)
    monkeypatch.setattr(pca, "_MOST_WORK", 16 * 16 * 15 * 5 * 200)
    part = Pca.fit(images, 5)
    assert not np.array_equal(part.mean, whole.mean)
    assert part.mse(images) < 1.1 * whole.mse(images)
