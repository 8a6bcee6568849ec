"""Export of grid codes: graphs of free sizes that compute what torch does, tables, rounding, variants, and bounds."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from grid_models import made_pictures
from PIL import Image

import aekit
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import read_tables
from aekit.errors import ParityError
from aekit.exporting import samples as looked_at
from aekit.exporting.exporter import export_run, identity
from aekit.exporting.figures import storage_cost
from aekit.exporting.graphs import CodeUnits, DecoderGraph, EncoderGraph, Nearest
from aekit.exporting.packed import PackedDecoder, PackedEncoder, pixels_of
from aekit.exporting.parity import measure_parity
from aekit.exporting.rounding import GridRounding
from aekit.exporting.samples import GridSamples, crops, spread, to_floats
from aekit.images.decode import Pixels
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.spec import GridGeometry
from aekit.training.checkpoint import Run
from aekit.training.networks.grid import FoldedDecoder, FoldedEncoder
from aekit.training.pictures import PictureData
from aekit.training.trainer import load_network


@dataclass
class Exported:
    """A run, its pictures and its model."""

    run: Run
    data: PictureData
    bundle: Bundle


def exported(folder: Path, **settings: Any) -> Exported:
    """Train a tiny grid network for a few steps, and export it."""
    (folder / "pictures").mkdir(parents=True)
    for number, picture in enumerate(made_pictures(48)):
        Image.fromarray(picture).save(folder / "pictures" / f"{number:02d}.png")
    done = aekit.train(folder / "pictures", folder / "run", preset="tiny", steps=12, **settings)
    run = Run.read(done.run)
    data = run.load_data()
    assert isinstance(data, PictureData)
    return Exported(run, data, export_run(run, data, folder / "model", entropy="static"))


@pytest.fixture(scope="module")
def rate(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("rate"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(tmp_path_factory.mktemp("plain"), objective="plain")


def graphs(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    return {role: onnx.load_from_string((bundle.path / f"{role}.onnx").read_bytes()) for role in ("encoder", "decoder")}


@pytest.mark.parametrize("name", ["rate", "plain"])
def test_the_graphs_have_free_sizes_and_say_nothing_of_this_machine(name: str, request: Any) -> None:
    bundle = request.getfixturevalue(name).bundle
    assert bundle.manifest["format_version"] == 2
    for role, model in graphs(bundle).items():
        shapes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        }
        for value, last in (("image", 3), ("latent", 48), ("code", 48)):
            if value in shapes:
                batch, *sides, channels = shapes[value]
                assert (batch, channels) == ("batch", last)
                assert all(isinstance(side, str) for side in sides) and sides[0] != sides[1]
        assert {prop.key: prop.value for prop in model.metadata_props} == bundle.description
        data = (bundle.path / f"{role}.onnx").read_bytes()
        for trace in (str(bundle.path.parent), "site-packages", "stack_trace", ".py"):
            assert trace.encode() not in data
    text = (bundle.path / "model.json").read_text()
    assert str(bundle.path.parent) not in text


@pytest.mark.parametrize("name", ["rate", "plain"])
@torch.no_grad()
def test_every_size_computes_what_torch_does(name: str, request: Any) -> None:
    made: Exported = request.getfixturevalue(name)
    network, codec = load_network(made.run), Codec.load(made.bundle.path, "cpu", 1)
    scale = network.objective.code_scale(network)
    rng = np.random.default_rng(0)
    for batch, height, width in ((1, 1, 1), (2, 1, 300), (1, 300, 1), (7, 33, 47), (2, 16, 16)):
        image = np.sort(rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8), axis=1)
        z = network.encode(to_floats(image))
        latent = codec.encode(image)
        assert latent.shape == (batch, -(-height // 16), -(-width // 16), 48)
        if scale is not None:  # one step of training is one code, and 0 is 128
            np.testing.assert_allclose(latent, (z * scale + 128).numpy(), atol=0.02)
            lower = np.abs(latent - 128) - np.abs(codec.encode(image, "uint8").astype(float) - 128)
            assert lower.min() > -0.52 and lower.max() < 1.52  # rounded to the nearest, or by one towards 128
            x_hat = network.decode(torch.from_numpy(latent - 128) / scale)
            wanted = (x_hat.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
            assert np.abs(codec.decode(latent) - wanted).max() <= 1
        else:
            np.testing.assert_array_equal(codec.encode(image, "uint8"), np.rint(latent).clip(0, 255))
    parity = made.bundle.manifest["parity"]
    assert parity["batches"] == [1, 2, 7] and parity["images"] == 4 * 7 + 1
    assert parity["latent_difference"] <= 1e-3 and parity["image_levels"] <= 1


def test_the_facts_of_a_grid_model(rate: Exported) -> None:
    manifest = rate.bundle.manifest
    assert rate.bundle.spec.geometry == rate.run.geometry
    assert "latent" not in manifest and "pca_mse" not in manifest["training"]
    assert manifest["training"]["train_images"] == len(rate.data.train)
    work = rate.run.config.layout.kmac(3)
    assert list(manifest["kmac_per_pixel"].values()) == pytest.approx(work, abs=0.01)
    # The tables are of the codes that the graph gives for the training pictures: one for each channel.
    codec = Codec.load(rate.bundle.path, "cpu", 1)
    codes = codec.encode(rate.data.train, "uint8").rows()
    wanted = FrequencyTables.fit(codes).frequencies
    np.testing.assert_array_equal(read_tables(rate.bundle).tables.frequencies, wanted)


def test_errors_are_means_over_pictures(rate: Exported) -> None:
    figures = rate.bundle.manifest["validation"]
    codec = Codec.load(rate.bundle.path, "cpu", 1)
    pictures = rate.data.validation
    errors = {
        dtype: np.mean(
            [
                np.square((picture.astype(float) - again) / 255).mean()
                for picture, again in zip(pictures, codec.reconstruct(pictures, dtype), strict=True)
            ]
        )
        for dtype in ("float32", "uint8")
    }
    assert figures["mse"] == figures["mse_uint8_codes"] == pytest.approx(errors["uint8"])
    assert figures["mse_float_latents"] == pytest.approx(errors["float32"])
    assert storage_cost(codec, pictures)["mse"] == pytest.approx(errors["uint8"])
    assert 0 < figures["bits_per_pixel"] < 8


def test_validation_pictures_choose_the_rounding_of_least_cost(rate: Exported, plain: Exported) -> None:
    chosen = rate.bundle.manifest["rounding"]
    costs = [trial["cost"] for trial in chosen["tried"]]
    assert len(costs) > 1 and chosen["cost"] == min(costs)
    assert "rounding" not in plain.bundle.manifest


@torch.no_grad()
def test_the_packed_halves_compute_the_same(rate: Exported) -> None:
    folded = load_network(rate.run).folded()
    assert isinstance(folded.encoder, FoldedEncoder) and isinstance(folded.decoder, FoldedDecoder)
    for size in ((1, 1), (16, 32), (33, 50)):
        image = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        z = folded.encoder(to_floats(image))
        torch.testing.assert_close(PackedEncoder(folded.encoder)(torch.from_numpy(image)), z, atol=1e-4, rtol=1e-4)
        x_hat = folded.decoder(z).permute(0, 2, 3, 1)
        torch.testing.assert_close(pixels_of(PackedDecoder(folded.decoder)(z)), x_hat, atol=1e-5, rtol=1e-5)


def test_export_of_the_same_run_is_the_same_model(rate: Exported, tmp_path: Path) -> None:
    again = export_run(rate.run, rate.data, tmp_path / "again", entropy="static")
    assert again.model_id == rate.bundle.model_id
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (again.path / name).read_bytes() == (rate.bundle.path / name).read_bytes()


def test_the_identity_covers_the_rounding(rate: Exported) -> None:
    network, spec = load_network(rate.run), rate.bundle.spec
    ids = {
        identity(spec, {}, {**network.state_dict(), **rounding.state_dict()})
        for rounding in (Nearest(), GridRounding.of_dead_zone(48, 0.1), GridRounding.of_dead_zone(48, 0.2))
    }
    assert len(ids) == 3


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@torch.no_grad()
def test_a_graph_that_computes_something_else_does_not_pass(plain: Exported, role: str) -> None:
    network, samples = load_network(plain.run), GridSamples(plain.data)
    units = CodeUnits.calibrated(samples.latents(network))
    codec, halves = (
        Codec.load(plain.bundle.path, "cpu", 1),
        (EncoderGraph(network, units), DecoderGraph(network, units)),
    )
    assert measure_parity(*halves, codec, samples.groups()).image_levels <= 1
    for parameter in getattr(network, role).parameters():
        parameter.add_(0.01)
    with pytest.raises(ParityError, match=role):
        measure_parity(*halves, codec, samples.groups())


def test_other_codes_than_torchs_do_not_pass(plain: Exported) -> None:
    network, samples = load_network(plain.run), GridSamples(plain.data)
    units = CodeUnits.calibrated(samples.latents(network))
    codec, other = Codec.load(plain.bundle.path, "cpu", 1), GridRounding.of_dead_zone(48, 0.3)
    with pytest.raises(ParityError, match="torch's codes except for ties"):
        measure_parity(EncoderGraph(network, units, other), DecoderGraph(network, units), codec, samples.groups())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["int8", "fp16"])
def test_variants_are_the_same_model_and_keep_the_code_path_in_floats(
    rate: Exported, tmp_path: Path, variant: str
) -> None:
    bundle = export_run(rate.run, rate.data, tmp_path / "model", variant=variant, entropy="static")
    assert (bundle.model_id, bundle.variant) == (rate.bundle.model_id, variant)
    cost = bundle.manifest["variants"][variant]
    assert cost["cost_db"] < 0.2 and cost["bytes"] < 0.8 * sum(
        e["bytes"] for e in rate.bundle.manifest["files"].values()
    )
    codec, exact = Codec.load(bundle.path, "cpu", 1), Codec.load(rate.bundle.path, "cpu", 1)
    pictures = rate.data.validation
    assert [picture.shape for picture in codec.reconstruct(pictures, "uint8")] == [p.shape for p in pictures]
    assert any((codec.encode([p])[0] != exact.encode([p])[0]).any() for p in pictures)
    # Where the latents agree with fp32's, the codes are rounded by the same rule.
    latents, codes = codec.encode(pictures), codec.encode(pictures, "uint8")
    rounding = GridRounding(torch.zeros(48, 256))
    (keep,) = [t for t in graphs(bundle)["encoder"].graph.initializer if list(t.dims) == [48 * 256]]
    rounding.keep.copy_(torch.from_numpy(onnx.numpy_helper.to_array(keep).copy()))
    assert keep.data_type == onnx.TensorProto.FLOAT
    for latent, code in zip(latents, codes, strict=True):
        np.testing.assert_array_equal(rounding(torch.from_numpy(latent)).numpy(), code)


# --- the pictures that are looked at


def test_large_sets_and_pictures_are_sampled_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_at, "SIDE", 20)
    pictures = [np.full((30, 10 + row, 3), row, np.uint8) for row in range(40)]
    found = spread(pictures, 2000)
    assert all(picture.shape[0] == 20 and picture.shape[1] <= 20 for picture in found)
    assert sum(picture.shape[0] * picture.shape[1] for picture in found) <= 2400
    assert (found[0][0, 0, 0], found[-1][0, 0, 0]) == (0, 39)
    assert len(spread(pictures, 1)) == 1
    assert len(spread(pictures, 10**9)) == 40


def test_crops_have_one_size_whatever_the_pictures_have() -> None:
    pictures: list[Pixels] = [np.full((3, 5, 1), 7, np.uint8), np.full((40, 50, 1), 9, np.uint8)]
    found = crops(pictures, 6, (16, 32), np.random.default_rng(0))
    assert found.shape == (6, 16, 32, 1)
    assert [set(crop.ravel()) for crop in found[:2]] == [{7}, {9}]


def test_samples_of_pictures_smaller_than_the_stride(rate: Exported) -> None:
    small = [picture[:3, :5] for picture in rate.data.train]
    data = replace(rate.data, geometry=GridGeometry(16, 3, 4, 4), train=small, validation=small[:1])
    samples = GridSamples(data)
    assert samples.typical().shape[1:] == (16, 16, 3)
    assert [group.shape for group in samples.groups()][-1] == (1, 3, 5, 3)
    assert json.dumps([group.shape[0] for group in samples.groups()]) == "[7, 7, 7, 7, 1]"
