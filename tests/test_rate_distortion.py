"""What the compression benchmark compares by: frontiers, curves read between their points, BD-rate, the KLT's bound."""

import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from rate_distortion import Point, bd_rate, bytes_at, frontier, klt_curve

CURVE = [Point(2.0**k, 0.1 / 3**k) for k in range(5)]


def test_only_what_nothing_beats_is_on_the_frontier() -> None:
    worse = [Point(3.0, 0.04), Point(2.0, 0.2), Point(40.0, CURVE[-1].mse)]
    assert frontier([*worse, *CURVE[::-1]]) == CURVE


def test_a_curve_is_read_between_its_points() -> None:
    for point in CURVE:
        assert bytes_at(CURVE, point.mse) == pytest.approx(point.bytes)
    between = bytes_at(CURVE, 0.1 / 3**1.5)
    assert between == pytest.approx(2**1.5)
    assert bytes_at(CURVE, 0.5) is None  # what the coarsest setting takes is not what so large an error needs
    assert bytes_at(CURVE, 1e-6) is None
    assert bytes_at([Point(7.0, 0.0)], 0.01) == 7  # lossless


def test_bd_rate_is_the_mean_ratio_of_bytes_at_equal_psnr() -> None:
    assert bd_rate(CURVE, CURVE) == pytest.approx(0)
    halved = [Point(point.bytes / 2, point.mse) for point in CURVE]
    assert bd_rate(halved, CURVE) == pytest.approx(-50)
    assert bd_rate(CURVE, halved) == pytest.approx(100)
    assert bd_rate(halved[1:4], CURVE) == pytest.approx(-50)  # over what both have
    # A ratio that grows from 1 to 4 with the PSNR is 2 in the mean of its logarithm.
    growing = [Point(point.bytes * 4 ** (k / 4), point.mse) for k, point in enumerate(CURVE)]
    assert bd_rate(growing, CURVE) == pytest.approx(100)
    apart = [Point(point.bytes, point.mse / 1e4) for point in CURVE]
    assert bd_rate(apart, CURVE) is None
    assert bd_rate([Point(7.0, 0.0)], CURVE) is None


def test_the_klt_spends_what_its_histograms_say() -> None:
    images = made_images(200, 8, 8)
    curve = klt_curve(images, images, steps=6)
    assert len(curve) > 3
    assert curve[-1].mse < 0.002 < curve[0].mse
    flat = np.full_like(images[:50], 7)
    assert klt_curve(images, flat, steps=2)[0].bytes == 0  # all alike: nothing to say
