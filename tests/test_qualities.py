"""One model of several qualities, trained a little: its graphs, codes, messages and jobs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run as Command
from conftest import json_output, one_line_error
from grid_models import made_pictures
from PIL import Image

import aekit
from aekit import jobs
from aekit.codes.archive import Archive
from aekit.codes.messages import Messages
from aekit.codes.tables import read_tables
from aekit.errors import CodesError, OptionError
from aekit.evaluation.metrics import mse
from aekit.exporting.graphs import CodeUnits
from aekit.images.decode import Pixels
from aekit.images.sources import open_source
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.spec import GridGeometry
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.networks import make_network
from aekit.training.networks.modulation import Modulation
from aekit.training.objectives import make_objective
from aekit.training.objectives.grid_rate import GridRate
from aekit.training.objectives.latents import model_of
from aekit.training.trainer import load_network

PICTURES = made_pictures(32)
FEW = PICTURES[:8]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures`, a `few` of them, and a `model` of 3 qualities, trained on them for a few steps."""
    folder = tmp_path_factory.mktemp("qualities")
    for name, pictures in (("pictures", PICTURES), ("few", FEW)):
        (folder / name).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{number:02d}.png")
    aekit.train(folder / "pictures", folder / "run", preset="tiny", steps=6, options={"qualities": "3"})
    aekit.export(folder / "run", folder / "model", entropy="context")
    return folder


@pytest.fixture(scope="module")
def codec(work: Path) -> Codec:
    return Codec.load(work / "model", provider="cpu", threads=1)


def sizes(codec: Codec, picture: Pixels) -> list[int]:
    return [len(Messages(codec).pack(picture, quality=quality)) for quality in (1, 2, 3)]


def test_a_higher_quality_takes_more_bytes_and_has_less_error(codec: Codec) -> None:
    spec, facts = codec.spec, codec.bundle.manifest["validation"]["qualities"]
    assert (spec.qualities, spec.default_quality, spec.format_version) == (3, 2, 3)
    for name, sign in (("bits_per_pixel", 1), ("mse", -1), ("psnr", 1)):
        values = [sign * entry[name] for entry in facts]
        assert values == sorted(values) and values[0] < values[-1], name
    assert codec.bundle.manifest["validation"]["bits_per_pixel"] == facts[1]["bits_per_pixel"]
    tables = read_tables(codec.bundle)
    assert tables.tables.sets == 3 and tables.context is not None and tables.context.qualities == 3


def test_a_picture_has_the_same_code_alone_and_among_others(codec: Codec) -> None:
    pictures, qualities = PICTURES[:6] * 2, [1, 2, 3, 3, 2, 1, 3, 1, 2, 1, 3, 2]
    codes = codec.encode(pictures, "uint8", quality=qualities)
    assert codes.qualities == tuple(qualities)
    for row, (picture, quality) in enumerate(zip(pictures, qualities, strict=True)):
        alone = codec.encode([picture], "uint8", quality=quality)
        np.testing.assert_array_equal(alone[0], codes[row])
        np.testing.assert_array_equal(codec.decode(alone)[0], codec.decode(codes)[row])
    errors = [
        mse(PICTURES[0][None], codec.reconstruct([PICTURES[0]], "uint8", quality=each)[0][None]) for each in (1, 3)
    ]
    assert errors[0] > errors[1]
    assert codec.encode(PICTURES[:2], "uint8", quality=np.array([1, 3])).qualities == (1, 3)
    default = codec.encode(PICTURES[:2], "uint8")
    assert default.qualities == (2, 2) and (default + codes).qualities[:3] == (2, 2, 1)


def test_arrays_need_their_quality_to_be_decoded(codec: Codec) -> None:
    images = np.stack([PICTURES[0], PICTURES[8]])
    codes = codec.encode(images, "uint8", quality=3)
    given = codec.decode(GridCodes(tuple(codes), ((20, 33),) * 2, (3, 3)))
    np.testing.assert_array_equal(codec.decode(codes, quality=3)[0, :20, :33], given[0])
    with pytest.raises(OptionError, match="quality: expected the quality of the codes, 1 to 3, found none"):
        codec.decode(codes)


@pytest.mark.parametrize("quality", [0, 4, [1, 2], [1], "2"])
def test_a_quality_that_the_model_lacks_is_refused(codec: Codec, quality: Any) -> None:
    with pytest.raises(OptionError, match="quality: expected 1 to 3"):
        codec.encode(PICTURES[:3], "uint8", quality=quality)


def test_a_model_of_one_quality_refuses_one(grid_codec: Codec, tiny_codec: Codec) -> None:
    for other, image in ((grid_codec, PICTURES[0][None]), (tiny_codec, np.zeros((1, 16, 16, 1), np.uint8))):
        with pytest.raises(OptionError, match="the model has one quality"):
            other.encode(image, quality=1)


def test_messages_state_their_quality(codec: Codec) -> None:
    messages = Messages(codec)
    for quality in (1, 3):
        message = messages.pack(PICTURES[1], quality=quality)
        codes = codec.encode([PICTURES[1]], "uint8", quality=quality)
        assert message[3] == quality and messages.size(codes) == len(message)
        np.testing.assert_array_equal(messages.unpack(message), codec.decode(codes)[0])
    for wrong in (0, 1, 2, 4, 255):  # of quality 3
        with pytest.raises(CodesError):
            messages.unpack(message[:3] + bytes([wrong]) + message[4:])


def test_each_picture_gets_the_best_quality_that_fits(work: Path, codec: Codec, tmp_path: Path) -> None:
    each = [sizes(codec, picture) for picture in FEW]
    most = sorted(size for several in each for size in several)[len(each)]
    done = jobs.compress(open_source(str(work / "few")), tmp_path / "a.aek", codec, most_bytes=most)
    wanted = [max((quality for quality in (1, 2, 3) if several[quality - 1] <= most), default=1) for several in each]
    with Archive.open(tmp_path / "a.aek", codec.bundle) as archive:
        assert list(archive.qualities()) == wanted
        codes = archive.codes()
    assert set(wanted) == {1, 2, 3}
    assert done.oversized == sum(several[0] > most for several in each) > 0
    alone = jobs.compress_to_messages(open_source(str(work / "few")), tmp_path / "sent", codec, most_bytes=most)
    assert alone.oversized == done.oversized
    sent = [file.stat().st_size for file in sorted((tmp_path / "sent").rglob("*.aem"))]
    assert sent == [several[quality - 1] for several, quality in zip(each, wanted, strict=True)]
    assert isinstance(codes, GridCodes)
    for row, quality in enumerate(wanted[:3]):
        np.testing.assert_array_equal(codes[row], codec.encode([PICTURES[row]], "uint8", quality=quality)[0])


def test_the_commands_choose_and_tell_qualities(work: Path, aekit: Command) -> None:
    model = ("--model", work / "model")
    assert not aekit("compress", work / "few", "--out", "a.aek", *model, "--bytes", 1).returncode
    assert json_output(aekit("info", "a.aek", "--json"))["qualities"] == {"1": 8}
    told = aekit("info", work / "model").stdout
    assert "qualities: 1 to 3, 2 by default" in told and "quality 3: " in told
    wrong = aekit("compress", work / "few", "--out", "b.npy", *model)
    assert "expected a name that ends in .aek: the model has several qualities" in one_line_error(wrong)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"quality": 4}, "--quality: expected 1 to 3, found 4"),
        ({"most_bytes": 0}, "--bytes: expected 1 or more, found 0"),
        ({"quality": 1, "most_bytes": 9}, "--quality and --bytes: expected one of them, found both"),
    ],
)
def test_choices_that_do_not_fit_are_refused(
    work: Path, codec: Codec, grid_codec: Codec, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    source = open_source(str(work / "few"))
    with pytest.raises(OptionError, match=said):
        jobs.compress(source, tmp_path / "a.aek", codec, **given)
    with pytest.raises(OptionError, match="a model of several qualities"):
        jobs.compress(source, tmp_path / "a.aek", grid_codec, **given)
    assert not (tmp_path / "a.aek").exists()


def test_training_moves_what_differs_by_quality(work: Path) -> None:
    network = load_network(Run.read(work / "run"))
    changed = [layer for layer in network.modules() if isinstance(layer, Modulation)]
    assert len(changed) == 6 and all(float(layer.gain.detach().abs().max()) > 0 for layer in changed)
    scale = model_of(network).scale
    assert scale.shape == (3, 48)
    assert bool((scale[1:] >= scale[:-1]).all())  # finer steps at a higher quality
    units = CodeUnits.on_grid(scale.detach(), model_of(network).size.detach())
    z, quality = torch.randn(2, 4, 5, 48), torch.tensor([3, 1])
    rounded = (units(z, quality) - 128) * model_of(network).size[quality - 1][:, None, None]
    torch.testing.assert_close(units.inverse(units(z, quality), quality), rounded, atol=1e-3, rtol=0)
    torch.testing.assert_close(units(z, quality)[1], units.each()[0](z[1]))


def test_crops_of_a_batch_have_all_qualities_alike() -> None:
    objective = make_objective("rate", {"qualities": "4", "lambda": "0.01"}, grid=True)
    assert isinstance(objective, GridRate)
    drawn = objective._mixed(8, torch.Generator().manual_seed(0))
    assert drawn is not None and sorted(drawn.tolist()) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert objective.weights() == pytest.approx([0.01 * 5**power for power in (-1, -1 / 3, 1 / 3, 1)])


@pytest.mark.parametrize(
    "options, grid, said",
    [
        ({"qualities": "8"}, False, "qualities: expected 1 for vector codes, found 8"),
        ({"qualities": "65"}, True, "qualities: expected 1 to 64, found 65"),
        ({"qualities": "0"}, True, "qualities: expected 1 to 64, found 0"),
        ({"qualities": "8", "bytes": "90"}, True, "bytes and qualities: expected one of them, found both"),
    ],
)
def test_qualities_that_training_lacks_are_refused(options: dict[str, str], grid: bool, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        make_objective("rate", options, grid=grid)


def test_a_model_of_one_quality_has_nothing_of_them() -> None:
    config = make_config("tiny", network="grid")
    network = make_network(config, GridGeometry(16, 3, *config.layout.halo))
    assert not any(isinstance(layer, Modulation) for layer in network.modules())
    assert model_of(network).log_scale.ndim == 1 and config.spec(GridGeometry(16, 3, 1, 1)).qualities == 1
    assert dataclasses.replace(config, options={"qualities": "2"}).spec(GridGeometry(16, 3, 1, 1)).qualities == 2
