"""The envelope of codecs and scales: which settings stand on it, how it is read, and what a file is counted as."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import envelope
from envelope import Setting, bytes_at, coded, halved, payload

from aekit.evaluation.codecs import CODECS


def _setting(size: float, inner: float, mse: float) -> Setting:
    return Setting("AVIF", 1.0, 50, "", size, inner, mse)


SETTINGS = [_setting(400, 100, 0.01), _setting(800, 500, 0.001), _setting(900, 300, 0.002), _setting(100, 90, 0.1)]
"""The third is beaten by the second, unless payloads count."""


def test_settings_that_another_beats_are_not_on_the_envelope() -> None:
    assert [setting.bytes for setting in envelope.envelope(SETTINGS)] == [100, 400, 800]
    assert [setting.payload for setting in envelope.envelope(SETTINGS, "payload")] == [90, 100, 300, 500]


def test_bytes_are_interpolated_over_the_logarithm_of_the_error() -> None:
    assert bytes_at(SETTINGS, 0.01) == pytest.approx(400)
    assert bytes_at(SETTINGS, 10**-2.5) == pytest.approx((400 * 800) ** 0.5)
    assert bytes_at(SETTINGS, 0.5) is None
    assert bytes_at(SETTINGS, 1e-5) is None


def test_halving_takes_the_mean_of_four_pixels_and_leaves_out_an_odd_row() -> None:
    picture = np.array([[0, 1, 9], [1, 1, 9], [9, 9, 9]], np.uint8)[:, :, None]
    assert halved(picture).tolist() == [[[1]]]  # 3/4, rounded
    assert halved(np.full((6, 4, 3), 255, np.uint8)).tolist() == np.full((3, 2, 3), 255).tolist()


@pytest.mark.parametrize("name", ["WebP", "AVIF"])
def test_a_shrunk_file_is_smaller_and_its_payload_leaves_out_the_container(name: str) -> None:
    codec = next(codec for codec in CODECS if codec.name == name)
    rng = np.random.default_rng(0)
    smooth = np.cumsum(np.cumsum(rng.normal(0, 1, (64, 48, 3)), 0), 1)
    picture = ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)
    whole, inside, error = coded(codec, picture, 1.0, 60, "")
    assert 20 <= whole - inside < 400
    small, _, worse = coded(codec, picture, 4.0, 60, "")
    assert small < whole and error < worse < 0.05


@pytest.mark.parametrize("name", envelope.SETS)
def test_stored_curves_give_the_figures_beside_them(name: str) -> None:
    settings = envelope.load(name, envelope.RESULTS)
    stored = json.loads((envelope.RESULTS / f"envelope-{name}.json").read_text(encoding="utf-8"))
    assert [mark["MSE"] for mark in stored["marks"]] == list(envelope.MARKS[name])
    for mark in stored["marks"]:
        assert bytes_at(settings, mark["MSE"]) == pytest.approx(mark["bytes"])
        assert bytes_at(settings, mark["MSE"], "payload") == pytest.approx(mark["payload"])


def test_the_payload_of_a_bare_codestream_is_all_of_it() -> None:
    assert payload("JPEG XL", b"\xff\x0a1234") == 6
