"""Codecs that ours is held against: real files, at native size and shrunk, and the cheapest setting that is as good."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import made_images
from PIL import Image
from test_bundle import rewrite

from aekit import jobs
from aekit.codes.tables import read_tables
from aekit.errors import AekitError
from aekit.evaluation import codecs, envelope, peers, report
from aekit.evaluation.codecs import BY_NAME, available, header_bytes
from aekit.evaluation.envelope import coded, scaled, scaling_error, tried, usable_factors
from aekit.evaluation.metrics import mse
from aekit.evaluation.peers import PICTURES, PIXELS, SIDE, find_peers, sample
from aekit.images.decode import Pixels
from aekit.images.sources import ArraySource, open_source
from aekit.model.codec import Codec

GRAY = list(made_images(6, 48, 40))
COLOUR = [np.concatenate([image, image[::-1], 255 - image], axis=2) for image in GRAY]
MIXED = [GRAY[0][:31, :20], GRAY[1], GRAY[2][:, :33]]


@pytest.fixture
def webp_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few codecs' worth of time is not needed: WebP is fast and no test below needs another."""
    monkeypatch.setattr(peers, "available", lambda: [BY_NAME["PNG"], BY_NAME["WebP"]])


def test_pillow_itself_writes_these() -> None:
    assert {"PNG", "JPEG", "WebP", "AVIF"} <= {codec.name for codec in available()}


@pytest.mark.parametrize("pictures", [GRAY[:3], COLOUR[:3], MIXED], ids=["gray", "colour", "mixed"])
def test_sizes_and_errors_are_those_of_the_files(pictures: list[Pixels]) -> None:
    found = tried(BY_NAME["JPEG"], scaled(pictures, 1), 20, "")
    sizes, errors = [], []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(file, "JPEG", quality=20, optimize=True)
        sizes.append(len(file.getvalue()))
        back = np.asarray(Image.open(file)).reshape(picture.shape).astype(float)
        errors.append(np.square((back - picture) / 255).mean())
    assert found.bytes == pytest.approx(np.mean(sizes))
    assert found.mse == pytest.approx(np.mean(errors))
    assert tried(BY_NAME["PNG"], scaled(pictures, 1), None, "").mse == 0


def test_a_codec_that_fails_is_an_error_that_names_it() -> None:
    class Failing(Image.Image):
        def save(self, *_: object, **__: object) -> None:
            raise RuntimeError("Failed to encode image")  # as libavif does where memory is short

    with pytest.raises(AekitError, match=r"AVIF could not write an image of 0x0: found Failed to encode"):
        codecs.write(BY_NAME["AVIF"], Failing(), 50)


def test_a_header_is_a_file_of_one_pixel() -> None:
    for channels, mode in ((1, "L"), (3, "RGB")):
        file = io.BytesIO()
        Image.new(mode, (1, 1), "gray").save(file, "WEBP", quality=30, method=6)
        assert header_bytes("WebP", channels, 30) == len(file.getvalue())
    found = tried(BY_NAME["WebP"], scaled(GRAY, 1), 30, "")
    assert found.payload == found.bytes - header_bytes("WebP", 1, 30)


def test_a_shrunk_picture_comes_back_in_its_own_size_by_the_better_filter() -> None:
    found = tried(BY_NAME["WebP"], scaled(MIXED, 2.0), 60, "")
    files = [coded(BY_NAME["WebP"], picture, found) for picture in MIXED]
    assert [back.shape for _, back in files] == [picture.shape for picture in MIXED]
    assert found.bytes == np.mean([len(data) for data, _ in files])
    assert found.mse == np.mean([mse(p, back) for p, (_, back) in zip(MIXED, files, strict=True)])
    assert found.bytes < tried(BY_NAME["WebP"], scaled(MIXED, 1.0), 60, "").bytes
    other = next(name for name in ("bicubic", "Lanczos") if name != found.enlarged)
    small, given = envelope.shrunk(MIXED[1], 2.0), MIXED[1]
    assert dict(envelope.enlarged(small, given, 2.0)).keys() == {found.enlarged, other}


def test_pictures_are_not_shrunk_to_nothing() -> None:
    assert usable_factors(MIXED)[-1] == 8  # 20 pixels at most divided by 10
    assert usable_factors([GRAY[0][:1]]) == [1.0]


@pytest.mark.parametrize("limit", [0.0004, 0.003])
def test_the_search_finds_what_trying_everything_finds(webp_alone: None, limit: float) -> None:
    found = find_peers(GRAY, limit)
    every = [
        tried(BY_NAME["WebP"], scaled(GRAY, factor), quality, "")
        for factor in usable_factors(GRAY)
        for quality in range(101)
    ]
    best = min((setting for setting in every if setting.mse <= limit), key=lambda setting: setting.bytes)
    assert found.best is not None and found.best.factor > 1
    # Files of neighbouring qualities differ by a byte or two, and their errors are not in perfect order.
    assert best.bytes <= found.best.bytes <= 1.03 * best.bytes
    assert found.best.mse <= limit
    assert found.is_spanned
    assert found.best in every


def test_at_native_size_the_coarsest_quality_counts_that_is_good_enough(webp_alone: None) -> None:
    found = find_peers(COLOUR, 0.001).native["WebP"]
    assert found is not None and found.quality is not None and found.factor == 1
    assert found.mse <= 0.001 < tried(BY_NAME["WebP"], scaled(COLOUR, 1), found.quality - 1, "").mse


def test_of_two_resolutions_of_colour_the_cheaper_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "available", lambda: [BY_NAME["JPEG"]])
    found = find_peers(COLOUR, 0.002).native["JPEG"]
    assert found is not None and found.quality is not None
    for chroma in ("4:4:4", "4:2:0"):
        every = [tried(BY_NAME["JPEG"], scaled(COLOUR, 1), quality, chroma) for quality in range(1, 96)]
        assert found.bytes <= min((each.bytes for each in every if each.mse <= 0.002), default=np.inf)


def test_a_codec_that_can_not_be_so_coarse_is_named(webp_alone: None) -> None:
    flat = [np.full_like(GRAY[0], 90)]
    found = find_peers(flat, 0.01)
    assert found.coarsest == {"WebP"} and not found.is_spanned
    coarse = find_peers(GRAY, 0.05)
    assert coarse.coarsest == {"WebP"}
    assert coarse.native["WebP"] is not None and coarse.native["WebP"].mse < 0.05
    assert not find_peers(GRAY, 0.0003).coarsest


def test_what_no_setting_reaches_is_none(webp_alone: None) -> None:
    found = find_peers(COLOUR, 1e-9)
    assert found.native["WebP"] is None
    assert found.best == found.native["PNG"]  # lossless


def test_shrinking_alone_has_an_error_that_ends_the_search() -> None:
    errors = [scaling_error(scaled(GRAY, factor)) for factor in (1.0, 2.0, 6.0)]
    assert errors[0] == 0 < errors[1] < errors[2]


def test_a_sample_is_bounded_and_takes_the_middle_of_large_pictures() -> None:
    small = made_images(100, 8, 8)
    assert len(sample(small).pictures) == PICTURES and not sample(small).is_cropped
    large = [np.arange(900 * 700, dtype=np.uint32).astype(np.uint8).reshape(900, 700, 1)] * 40
    chosen = sample(large)
    assert chosen.is_cropped
    assert all(picture.shape == (SIDE, SIDE, 1) for picture in chosen.pictures)
    assert 1 < len(chosen.pictures) <= PIXELS // SIDE**2
    np.testing.assert_array_equal(chosen.pictures[0], large[0][290:610, 190:510])


def test_the_report_shows_the_archive_as_compress_writes_it(tmp_path: Path, tiny_codec: Codec) -> None:
    images = made_images(300)
    figures = report.evaluate(tiny_codec, report.TestImages(images, "blobs")).figures
    made = jobs.compress(ArraySource("a", images), tmp_path / "codes.aek", tiny_codec)
    assert figures["archive_bytes_per_image"] == made.bytes / 300
    assert figures["archive_bytes_per_image_with_names"] is None
    codes = tiny_codec.encode(images, "uint8")
    entropy = read_tables(tiny_codec.bundle).tables.entropy_bits(codes) / 2400
    assert figures["entropy_bytes_per_image"] == pytest.approx(entropy)
    without_header = figures["archive_bytes_per_image"] - figures["archive_header_bytes"] / 300
    assert 0 <= without_header - entropy < 0.3
    assert figures["archive_bits_per_pixel"] == pytest.approx(8 * made.bytes / 300 / 256)


def test_names_are_counted_as_compress_writes_them(tmp_path: Path, pictures: Path, tiny_codec: Codec) -> None:
    found = report.open_test_images(str(pictures), tiny_codec.bundle)
    figures = report.evaluate(tiny_codec, found).figures
    made = jobs.compress(open_source(str(pictures)), tmp_path / "codes.aek", tiny_codec)
    assert figures["archive_bytes_per_image_with_names"] == made.bytes / 12
    assert figures["archive_bytes_per_image"] < made.bytes / 12


def test_ours_and_the_codecs_are_measured_on_the_same_pictures(tiny_codec: Codec) -> None:
    images = made_images(300)
    found = report.evaluate(tiny_codec, report.TestImages(images, "blobs")).figures["codecs"]
    assert json.loads(json.dumps(found)) == found
    chosen = np.stack(sample(images).pictures)
    assert found["images"] == len(chosen)
    assert found["mse"] == pytest.approx(mse(chosen, tiny_codec.reconstruct(chosen, "uint8")))
    entropy = read_tables(tiny_codec.bundle).tables.entropy_bits(tiny_codec.encode(chosen, "uint8")) / 8 / len(chosen)
    assert found["aekit"]["payload"] == pytest.approx(entropy, abs=0.3)
    assert found["aekit"]["bytes"] > found["aekit"]["payload"]
    assert found["best"]["mse"] <= found["mse"]
    assert found["codecs_win"] == (found["best"]["bytes"] < found["aekit"]["bytes"])


def test_a_model_without_tables_is_measured_all_the_same(model: Path) -> None:
    rewrite(model, tables=None)
    figures = report.evaluate(Codec.load(model, "cpu"), report.TestImages(made_images(4), "blobs")).figures
    assert (figures["archive_bytes_per_image"], figures["entropy_bytes_per_image"]) == (None, None)
    assert figures["codecs"]["aekit"] is None and figures["codecs"]["codecs_win"] is None
    assert figures["codecs"]["native"]["PNG"]["mse"] == 0


def settings_of(codec: str, **changes: Any) -> dict[str, Any]:
    """A setting in a report."""
    values = {"codec": codec, "factor": 1.0, "enlarged": "", "quality": 20, "chroma": "", "mse": 0.002}
    return {**values, "bytes": 100.0, "payload": 60.0, **changes}


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ((50.0, 40.0), "aekit takes 0.50 of the bytes of the best of them"),
        ((90.0, 80.0), "aekit takes 0.90 of the bytes of the best of them; without headers codecs do better here"),
        ((130.0, 80.0), "codecs do better here: aekit takes 1.30 times the bytes of the best of them"),
    ],
)
def test_the_report_says_who_wins_and_with_which_setting(ours: tuple[float, float], said: str) -> None:
    from aekit.cli.report_lines import _codecs

    best = settings_of("WebP", factor=8.0, enlarged="Lanczos")
    lines = _codecs(
        {
            "images": 24,
            "middle": None,
            "mse": 0.0021,
            "aekit": {"bytes": ours[0], "payload": ours[1]},
            "best": best,
            "best_payload": best,
            "is_spanned": True,
            "native": {
                "WebP": settings_of("WebP", bytes=300.0),
                "AVIF": settings_of("AVIF", bytes=777.0),
                "JPEG": None,
            },
            "coarsest": ["AVIF"],
            "codecs_win": ours[0] > 100,
            "codecs_win_payload": ours[1] > 60,
        }
    )
    text = "\n".join(lines)
    assert "100.0 (60.0), WebP, sides divided by 8 and enlarged again (Lanczos), quality 20, MSE 0.00200" in text
    assert "AVIF at native size: can't be so coarse; its lowest quality has MSE 0.00200" in text
    assert "777" not in text  # the size of the coarsest setting is not what AVIF needs
    assert "JPEG at native size: no quality is good enough" in text
    assert lines[-1].strip() == said


def test_codecs_are_known_by_name() -> None:
    assert codecs.BY_NAME["AVIF"].chromas(3) == ("4:4:4", "4:2:0") and codecs.BY_NAME["AVIF"].chromas(1) == ("",)
