"""Export: the graphs are what they should be, compute what torch does, and say nothing of where they were made."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import made_images

from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import read_tables
from aekit.errors import OptionError, OutputExists, ParityError
from aekit.evaluation.archive_size import archive_size
from aekit.evaluation.metrics import mse, psnr
from aekit.exporting.exporter import export_run, identity
from aekit.exporting.graphs import (
    FREE_CODE,
    OPSET,
    CodeUnits,
    DecoderGraph,
    EncoderGraph,
    check_dimensions,
    export_graph,
)
from aekit.exporting.parity import VariantCost, fastest, measure_parity
from aekit.exporting.quantize import make_variant
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.pca import Pca
from aekit.spec import Geometry, GridGeometry, ModelSpec
from aekit.training.checkpoint import Run
from aekit.training.config import make_config
from aekit.training.data import TrainingData, load_training_data
from aekit.training.networks import components_wanted, make_network
from aekit.training.trainer import load_network, train

NETWORKS = {
    "default-gray": ({"hidden": (20, 20)}, (16, 16, 1)),
    "default-colour": ({"hidden": (24,)}, (9, 12, 3)),
    "mlp-deep": ({"network": "mlp", "hidden": (20, 12)}, (16, 16, 1)),
    "no-hidden-odd": ({"network": "mlp", "hidden": ()}, (9, 13, 1)),
    "squash": ({"network": "mlp", "hidden": (), "squash": True}, (12, 8, 3)),
    "conv-colour": ({"network": "conv", "hidden": (8, 12)}, (20, 15, 3)),
    "conv-gray": ({"network": "conv", "hidden": (6,)}, (17, 9, 1)),
}


def trained(folder: Path, settings: dict[str, object], shape: tuple[int, int, int]) -> tuple[Run, TrainingData]:
    images = made_images(160, shape[0], shape[1])
    np.save(folder / "images.npy", np.concatenate([images, images // 2, 255 - images][: shape[2]], axis=3))
    data = load_training_data(str(folder / "images.npy"))
    config = make_config("default", data=str(folder / "images.npy"), code_dim=5, epochs=2, batch_size=16, **settings)
    run = Run.create(folder / "run", config, data.geometry, data.facts())
    train(run, data, principal=Pca.fit(data.train, components_wanted(config, data.geometry) or 1))
    return run, data


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_exports_and_computes_what_torch_does(tmp_path: Path, name: str) -> None:
    settings, shape = NETWORKS[name]
    run, data = trained(tmp_path, settings, shape)
    bundle = export_run(run, data, tmp_path / "model")

    assert sorted(path.name for path in bundle.path.iterdir()) == ["decoder.onnx", "encoder.onnx", "model.json"]
    parity = bundle.manifest["parity"]
    assert parity["images"] == len(data.validation) and parity["batches"] == [1, 2, 7]
    assert parity["latent_difference"] <= 1e-3 and parity["image_levels"] <= 1
    dims = {"image": ["batch", *shape], "latent": ["batch", 5], "code": ["batch", 5]}
    kinds = {"image": onnx.TensorProto.UINT8, "latent": onnx.TensorProto.FLOAT, "code": onnx.TensorProto.UINT8}
    for role, inputs, outputs in (("encoder", ["image"], ["latent", "code"]), ("decoder", ["latent"], ["image"])):
        data_bytes = (bundle.path / f"{role}.onnx").read_bytes()
        model = onnx.load_from_string(data_bytes)
        assert [(i.domain, i.version) for i in model.opset_import] == [("", OPSET)]
        assert [value.name for value in model.graph.input] == inputs
        assert [value.name for value in model.graph.output] == outputs
        for value in (*model.graph.input, *model.graph.output):
            found = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            assert (found, value.type.tensor_type.elem_type) == (dims[value.name], kinds[value.name])
        assert {prop.key: prop.value for prop in model.metadata_props} == bundle.description
        assert not any(tensor.external_data for tensor in model.graph.initializer)
        for trace in (str(tmp_path), "site-packages", "stack_trace", str(Path(__file__).parents[2]), ".py"):
            assert trace.encode() not in data_bytes

    # The network as trained, written out once more by hand, against the shipped Codec.
    network = load_network(run)
    codec = Codec.load(bundle.path)
    with torch.no_grad():
        x = torch.from_numpy(data.validation).permute(0, 3, 1, 2) / 255
        x_hat = (network.decode(network.encode(x)).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(codec.reconstruct(data.validation).astype(int), x_hat, atol=1)
    latents = codec.encode(data.train)
    assert latents.min() > -0.01 and latents.max() < 255.01  # calibrated: training latents fill 0..255
    np.testing.assert_allclose(np.ptp(latents, axis=0), 255, atol=0.1)
    # What archives are coded with: tables of the codes that the graph gives for the training images.
    fitted = FrequencyTables.fit(codec.encode(data.train, "uint8"))
    np.testing.assert_array_equal(read_tables(bundle).tables.frequencies, fitted.frequencies)


def test_uint8_codes_cost_is_measured(tmp_path: Path) -> None:
    run, data = trained(tmp_path, {"hidden": (20,)}, (16, 16, 1))
    bundle = export_run(run, data, tmp_path / "model")
    cost = bundle.manifest["validation"]
    codec = Codec.load(bundle.path)

    def mse(dtype: str) -> float:
        return float(
            np.square((codec.reconstruct(data.validation, dtype) - data.validation.astype(float)) / 255).mean()
        )

    assert cost["mse"] == pytest.approx(mse("float32")) and cost["mse_uint8_codes"] == pytest.approx(mse("uint8"))
    assert cost["uint8_cost_db"] == pytest.approx(10 * np.log10(mse("uint8") / mse("float32")))


def test_export_of_the_same_run_is_the_same_model(tmp_path: Path) -> None:
    run, data = trained(tmp_path, {"hidden": (20,)}, (16, 16, 1))
    one, other = export_run(run, data, tmp_path / "one"), export_run(run, data, tmp_path / "other")
    assert one.model_id == other.model_id
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes()


def test_identity_covers_spec_options_and_every_weight() -> None:
    config, geometry = make_config("default", hidden=(8,), code_dim=2), Geometry(8, 8, 1)
    state = make_network(config, geometry).state_dict()
    base = identity(config.spec(geometry), {}, state)
    for name in state:
        changed = {**state, name: state[name] + 1e-6}
        assert identity(config.spec(geometry), {}, changed) != base
    assert identity(config.spec(Geometry(8, 8, 1, background=0)), {}, state) != base
    assert identity(config.spec(geometry), {"active": "3"}, state) != base


def test_an_existing_model_stands(tmp_path: Path) -> None:
    run, data = trained(tmp_path, {"network": "mlp", "hidden": ()}, (8, 8, 1))
    first = export_run(run, data, tmp_path / "model")
    with pytest.raises(OutputExists, match="--overwrite"):
        export_run(run, data, tmp_path / "model")
    export_run(run, data, tmp_path / "model", overwrite=True)
    assert Bundle.read(tmp_path / "model").model_id == first.model_id
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"dear")
    with pytest.raises(OutputExists, match=r"did not make it"):
        export_run(run, data, tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "me.jpg").read_bytes() == b"dear"


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_a_graph_that_computes_something_else_does_not_pass(tmp_path: Path, role: str) -> None:
    """The gate itself: parity against torch modules whose weights were moved a little must fail."""
    run, data = trained(tmp_path, {"hidden": (20,)}, (16, 16, 1))
    bundle = export_run(run, data, tmp_path / "model")
    network = load_network(run)
    with torch.no_grad():
        z = network.encode(torch.from_numpy(data.train).permute(0, 3, 1, 2) / 255)
        units = CodeUnits.calibrated(z)
        encoder, decoder = EncoderGraph(network, units), DecoderGraph(network, units)
        assert measure_parity(encoder, decoder, Codec.load(bundle.path), [data.validation]).image_levels <= 1
        for parameter in getattr(network, role).parameters():
            parameter.add_(0.01)
    with pytest.raises(ParityError, match=role):
        measure_parity(encoder, decoder, Codec.load(bundle.path), [data.validation])


class Fixed(torch.nn.Module):
    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.to(torch.uint8).repeat(1, 64).reshape(latent.shape[0], 8, 8, 1)


def test_hard_coded_batch_is_found_out() -> None:
    model, spec = export_graph(Fixed(), torch.zeros(2, 1), ["latent"], ["image"]), made_spec(Geometry(8, 8, 1), 1)
    check_dimensions(model, spec)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(ParityError, match="image"):
        check_dimensions(model, spec)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_side_that_a_grid_model_must_leave_free_is_found_out(place: int) -> None:
    class Blocks(torch.nn.Module):
        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            return latent.to(torch.uint8).repeat_interleave(8, 1).repeat_interleave(8, 2)

    model = export_graph(Blocks(), torch.zeros(2, 3, 4, 1), ["latent"], ["image"], FREE_CODE)
    spec = made_spec(GridGeometry(8, 1, 0, 0), 1)
    check_dimensions(model, spec)
    model.graph.output[0].type.tensor_type.shape.dim[place].dim_value = 16
    with pytest.raises(ParityError, match=r"expected \['batch', 'free', 'free', 1\], found .*16"):
        check_dimensions(model, spec)


def made_spec(geometry: Geometry | GridGeometry, code_dim: int) -> ModelSpec:
    return ModelSpec(geometry, code_dim, "plain", "grid", "default")


def test_a_still_latent_is_kept_at_128() -> None:
    """A dimension that never moves in training must not be blown up by its calibration."""
    latents = torch.stack([torch.linspace(-1, 3, 50), torch.full((50,), 7.25)], 1)
    units = CodeUnits.calibrated(latents)
    code = units(latents)
    assert torch.allclose(code[:, 1], torch.full((50,), 128.0))
    assert code[:, 0].min() == pytest.approx(0, abs=1e-3) and code[:, 0].max() == pytest.approx(255, abs=1e-3)
    assert torch.allclose(units.inverse(code), latents, atol=1e-5)


def test_the_entropy_model_is_the_one_asked_for(tmp_path: Path) -> None:
    run, data = trained(tmp_path, {"network": "mlp", "hidden": ()}, (8, 8, 1))
    bundles = {name: export_run(run, data, tmp_path / name, entropy=name) for name in ("auto", "context")}
    kept = {name: bundle.manifest["entropy"]["kept"] for name, bundle in bundles.items()}
    assert kept == {"auto": "static", "context": "context"}  # plain models seldom write archives
    assert [bundle.manifest["format_version"] for bundle in bundles.values()] == [1, 4]
    assert [read_tables(bundle).context is not None for bundle in bundles.values()] == [False, True]
    figures, codec = bundles["context"].manifest["entropy"], Codec.load(bundles["context"].path)
    codes = codec.encode(data.validation, "uint8")
    for name, bundle in zip(("static", "context"), bundles.values(), strict=True):
        # The rest of the file is its header and its block's, of some hundred bytes.
        rest = archive_size(bundle, codes).file - len(codes) * figures[f"{name}_bytes_per_image"]
        assert 0 < rest < 500
    with pytest.raises(OptionError, match="--entropy: expected auto or static or context, found 'best'"):
        export_run(run, data, tmp_path / "none", entropy="best")


def test_model_json_holds_no_path(tmp_path: Path) -> None:
    run, data = trained(tmp_path, {"network": "mlp", "hidden": ()}, (8, 8, 1))
    text = (export_run(run, data, tmp_path / "model").path / "model.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["training"]["data"] == "array"


@pytest.mark.parametrize(("name", "variants"), [("default-gray", ["int8", "fp16"]), ("conv-colour", ["int8"])])
def test_variants_are_the_same_model_and_say_what_they_cost(tmp_path: Path, name: str, variants: list[str]) -> None:
    settings, shape = NETWORKS[name]
    run, data = trained(tmp_path, settings, shape)
    exact = export_run(run, data, tmp_path / "fp32")
    wanted = Codec.load(exact.path).encode(data.validation)
    for variant in variants:
        bundle = export_run(run, data, tmp_path / variant, variant=variant)
        assert (bundle.model_id, bundle.variant) == (exact.model_id, variant)
        cost = bundle.manifest["variants"][variant]
        codec = Codec.load(bundle.path)
        codes = codec.encode(data.validation)
        # It is another graph, near enough to fp32's, and what model.json says of it is so.
        assert not np.array_equal(codes, wanted)
        assert np.abs(codes - wanted).max() / np.ptp(wanted) == pytest.approx(cost["latent_difference"], rel=1e-3)
        errors = [
            mse(data.validation, Codec.load(path).reconstruct(data.validation)) for path in (exact.path, bundle.path)
        ]
        assert psnr(errors[0]) - psnr(errors[1]) == pytest.approx(cost["cost_db"], abs=1e-4)
        assert cost["cost_db"] < 0.5 and cost["encoder_speed"] > 0
        nodes = onnx.load(bundle.path / "encoder.onnx").graph.node
        kinds = {node.op_type for node in nodes}
        assert ("DequantizeLinear" in kinds) == (variant == "int8")
        # The code path is float: what rounds and clips is fed by no dequantised number.
        makers = {output: node.op_type for node in nodes for output in node.output}
        assert all(makers[node.input[0]] in ("Add", "Cast") for node in nodes if node.op_type == "Round")
        # Each decodes the other's codes.
        assert mse(data.validation, Codec.load(exact.path).decode(codes)) == pytest.approx(errors[0], rel=0.15)


def test_auto_keeps_the_fastest_that_is_good_enough(tmp_path: Path) -> None:
    settings, shape = NETWORKS["default-gray"]
    run, data = trained(tmp_path, settings, shape)
    bundle = export_run(run, data, tmp_path / "model", variant="auto")
    measured = {name: VariantCost(**cost) for name, cost in bundle.manifest["variants"].items()}
    assert set(measured) == {"fp16", "int8"}
    assert bundle.variant == fastest(measured)

    cost = VariantCost(1, 0.0, 0.05, 0.0, 2.0, 2.0, 1)
    assert fastest({"int8": cost}) == "int8"
    assert fastest({"int8": replace(cost, cost_db=0.11)}) == "fp32"
    assert fastest({"int8": replace(cost, encoder_speed=0.9)}) == "fp32"
    assert fastest({"int8": cost, "fp16": replace(cost, encoder_speed=2.1)}) == "fp16"


def test_a_variant_that_costs_too_much_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, shape = NETWORKS["default-gray"]
    run, data = trained(tmp_path, settings, shape)
    # Calibrated on images of nothing, activations of real ones are cut off.
    monkeypatch.setattr(
        "aekit.exporting.variants.make_variant",
        lambda model, variant, inputs: make_variant(model, variant, np.zeros_like(inputs)),
    )
    with pytest.raises(ParityError, match=r"the variant int8: expected a cost of at most 0.5 dB, found [0-9.]+ dB"):
        export_run(run, data, tmp_path / "model", variant="int8")
    assert not (tmp_path / "model").exists()
    with pytest.raises(OptionError, match="--variant: expected auto or one of fp32, fp16, int8, found 'int4'"):
        export_run(run, data, tmp_path / "model", variant="int4")
