"""The envelope of codecs and scales in the benchmarks: which settings stand on it, how it is read, sets and sheets."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import envelope
from picture_sets import MARKS, SETS, halved, spread
from rate_distortion import curve_of
from side_by_side import Coded, best_at, sheet

from aekit.evaluation.codecs import BY_NAME, header_bytes
from aekit.evaluation.envelope import Setting, bytes_at, scaled, tried
from aekit.evaluation.envelope import envelope as lower


def _setting(size: float, inner: float, mse: float, codec: str = "AVIF", factor: float = 1.0) -> Setting:
    return Setting(codec, factor, "", 50, "", size, inner, mse)


SETTINGS = [_setting(400, 100, 0.01), _setting(800, 500, 0.001), _setting(900, 300, 0.002), _setting(100, 90, 0.1)]
"""The third is beaten by the second, unless payloads count."""


def test_settings_that_another_beats_are_not_on_the_envelope() -> None:
    assert [setting.bytes for setting in lower(SETTINGS)] == [100, 400, 800]
    assert [setting.payload for setting in lower(SETTINGS, "payload")] == [90, 100, 300, 500]


def test_bytes_are_interpolated_over_the_logarithm_of_the_error() -> None:
    assert bytes_at(SETTINGS, 0.01) == pytest.approx(400)
    assert bytes_at(SETTINGS, 10**-2.5) == pytest.approx((400 * 800) ** 0.5)
    assert bytes_at(SETTINGS, 0.5) is None
    assert bytes_at(SETTINGS, 1e-5) is None


def test_between_two_qualities_a_codec_is_read_on_its_own_curve() -> None:
    """A setting of another codec between them may be on the envelope, and yet cost more than the codec would there."""
    curve = [_setting(100, 50, 0.01), _setting(144, 90, 0.001)]
    other = _setting(140, 85, 0.003, "WebP", 2.0)
    assert other in lower([*curve, other])
    assert bytes_at([*curve, other], 10**-2.5) == pytest.approx(120)
    assert bytes_at([other, *curve], 0.003) == pytest.approx(bytes_at(curve, 0.003)) != 140
    found = curve_of([*curve, other])
    assert [point.mse for point in found] == [0.01, 0.003, 0.001]
    assert found[1].bytes == pytest.approx(bytes_at(curve, 0.003))


def test_the_best_of_each_codec_and_of_native_size_is_kept() -> None:
    worse = [_setting(500, 450, 0.02, "JPEG"), _setting(450, 440, 0.02, "JPEG", 2.0), _setting(950, 920, 0.3, "JPEG")]
    assert set(envelope.kept([*SETTINGS, *worse])) == {*SETTINGS, *worse[:2]}


def test_halving_takes_the_mean_of_four_pixels_and_leaves_out_an_odd_row() -> None:
    picture = np.array([[0, 1, 9], [1, 1, 9], [9, 9, 9]], np.uint8)[:, :, None]
    assert halved(picture).tolist() == [[[1]]]  # 3/4, rounded
    assert halved(np.full((6, 4, 3), 255, np.uint8)).tolist() == np.full((3, 2, 3), 255).tolist()


def test_pictures_are_evenly_spaced() -> None:
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread(range(3), 0) == spread(range(3), 9) == [0, 1, 2]


def test_a_group_lies_in_one_split_and_all_three_are_met() -> None:
    tiles = SETS["tiles"]
    found = {num: {tiles.split(f"a/exp{take}_num_{num}.jpg") for take in range(3)} for num in range(400)}
    assert all(len(splits) == 1 for splits in found.values())
    counts = [sum(splits == {name} for splits in found.values()) for name in ("training", "validation", "test")]
    assert counts[0] > 3 * counts[2] > 3 * counts[1] / 2 > 0


@pytest.mark.parametrize("name", SETS)
def test_stored_curves_give_the_figures_beside_them(name: str) -> None:
    settings = envelope.load(name, envelope.RESULTS)
    stored = json.loads((envelope.RESULTS / f"envelope-{name}.json").read_text(encoding="utf-8"))
    assert [mark["MSE"] for mark in stored["marks"]] == list(MARKS[name])
    for mark in stored["marks"]:
        assert bytes_at(settings, mark["MSE"]) == pytest.approx(mark["bytes"])
        assert bytes_at(settings, mark["MSE"], "payload") == pytest.approx(mark["payload"])


def test_the_peer_shown_is_the_best_that_is_not_larger_without_its_header() -> None:
    pictures = list(made_images(3, 64, 64))
    settings = [tried(BY_NAME["WebP"], scaled(pictures, 1), quality, "") for quality in (0, 50, 92)]
    found = [best_at(pictures[1], 10**6, [setting]) for setting in settings]
    assert len(found[0][0]) < len(found[1][0]) < len(found[2][0])
    assert found[1][1] == len(found[1][0]) - header_bytes("WebP", 1, 50)
    data, payload, back, setting = best_at(pictures[1], found[2][1] - 1, settings)
    assert (data, payload, setting) == (found[1][0], found[1][1], settings[1])
    assert back.shape == pictures[1].shape
    assert best_at(pictures[1], 1, settings)[0] == found[0][0]


def test_a_sheet_has_a_row_a_picture_and_a_column_a_coder() -> None:
    pictures = list(made_images(9, 40, 80))
    settings = [tried(BY_NAME["WebP"], scaled(pictures, 1), 50, "")]
    drawn = sheet(pictures, [Coded(30.0, 255 - picture) for picture in pictures], {"WebP": settings, "again": settings})
    assert drawn.size == (4 * 324, 4 * (160 + 32))
    pixels = np.asarray(drawn)
    np.testing.assert_array_equal(pixels[:160:4, :320:4, :1], pictures[0])
    np.testing.assert_array_equal(pixels[:160:4, 324:644:4, :1], 255 - pictures[0])
