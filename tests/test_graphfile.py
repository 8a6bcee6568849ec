"""graphfile and codec: a graph from outside opens no file, is what model.json promises, or is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, made_images
from hypothesis import given, settings
from hypothesis import strategies as st

from aekit.errors import AekitError, BundleError, ProviderError
from aekit.model.bundle import Bundle, write_bundle
from aekit.model.codec import Codec
from aekit.model.graph_check import check_self_contained

onnx = pytest.importorskip("onnx")
helper = onnx.helper
IMAGES = made_images(3)
ENCODER = Bundle.read(TINY).graph("encoder")


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    low, high = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def outside(name: str, location: str) -> Any:
    """A tensor [4, 4] whose numbers lie in another file."""
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[4, 4])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def foreign(folder: Path, **graphs: bytes) -> Codec:
    """A model as someone might hand it to us: other graphs, and checksums that fit them."""
    tiny = Bundle.read(TINY)
    made = {role: tiny.graph(role) for role in ("encoder", "decoder")} | graphs
    write_bundle(folder, made, tiny.spec, tiny.model_id, tiny.variant, {})
    return Codec.load(folder, "cpu", threads=1)


def changed(role: str, change: Callable[[Any], None]) -> bytes:
    """The tiny model's graph with a change."""
    model = onnx.load_from_string(Bundle.read(TINY).graph(role))
    change(model)
    return bytes(model.SerializeToString())


# --- other files


def as_initializer(model: Any, tensor: Any) -> None:
    model.graph.initializer.append(tensor)


def as_constant(model: Any, tensor: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["more"], value=tensor))


def as_one_of_several(model: Any, tensor: Any) -> None:
    model.graph.node.append(onnx.NodeProto(op_type="Odd", attribute=[helper.make_attribute("a", [tensor])]))


def as_a_branch(model: Any, tensor: Any) -> None:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def as_sparse(model: Any, tensor: Any) -> None:
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, dims=[4, 4]))


def as_a_function(model: Any, tensor: Any) -> None:
    node = helper.make_node("Constant", [], ["y"], value=tensor)
    model.functions.append(helper.make_function("odd", "f", [], ["y"], [node], [helper.make_opsetid("", 20)]))


def as_training(model: Any, tensor: Any) -> None:
    model.training_info.append(onnx.TrainingInfoProto(algorithm=helper.make_graph([], "g", [], [], [tensor])))


HIDING_PLACES = [as_initializer, as_constant, as_one_of_several, as_a_branch, as_sparse, as_a_function, as_training]


@pytest.mark.parametrize("hide", HIDING_PLACES)
@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "../../../../etc/passwd", "/etc/passwd"])
def test_external_data_is_refused_wherever_it_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hide: Callable[..., None], location: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (tmp_path, tmp_path / "here"):  # the file is there to be read
        np.zeros((4, 4), np.float32).tofile(folder / "weights.bin")
    codec = foreign(tmp_path, encoder=changed("encoder", lambda model: hide(model, outside("w", location))))
    with pytest.raises(
        BundleError, match=r"encoder\.onnx: expected a graph that holds its own weights, found external"
    ):
        codec.encode(IMAGES)


def test_a_node_that_opens_files_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="/etc/x")
    codec = foreign(tmp_path, encoder=changed("encoder", lambda model: model.graph.node.append(node)))
    with pytest.raises(BundleError, match="EPContext, which opens files"):
        codec.encode(IMAGES)


def test_external_data_is_found_however_deep_it_is_nested() -> None:
    data = field(5, outside("w", "x").SerializeToString())
    for _ in range(2000):  # graph → node → attribute → graph
        data = field(1, field(5, field(6, data)))
    with pytest.raises(BundleError, match="external data"):
        check_self_contained(field(7, data), "deep")


@pytest.mark.parametrize(
    "data",
    [
        field(7, b"")[:-1] + b"\x05",  # longer than what is left
        b"\x3a",
        b"\x3b\x3c",  # a group
        b"\x00\x01",  # field 0
        varint((13 + (1 << 29)) << 3 | 2) + b"\x00",  # 13, if a reader cuts it to 32 bits
        b"\x08" + b"\xff" * 20,
        b"\x09abc",
        b"not a graph at all",
    ],
)
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match="x: expected an ONNX graph"):
        check_self_contained(data, "x")


@settings(max_examples=40)
@given(st.integers(0, len(ENCODER) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_graphs_never_raise_anything_but_a_named_error(place: int, patch: bytes) -> None:
    data = ENCODER[:place] + patch + ENCODER[place + len(patch) :]
    try:
        check_self_contained(data, "x")
    except BundleError as error:
        assert "\n" not in str(error)


# --- graphs that are not what model.json promises


def renamed(model: Any) -> None:
    model.graph.output[1].name = model.graph.node[-1].output[0] = "codes"


def fixed(model: Any) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3


def fewer(model: Any) -> None:
    del model.graph.output[1]


def swapped(model: Any) -> None:
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[::-1])


@pytest.mark.parametrize("change", [renamed, fixed, fewer, swapped])
def test_other_inputs_or_outputs_than_promised_are_refused(tmp_path: Path, change: Callable[[Any], None]) -> None:
    with pytest.raises(BundleError, match=r"encoder\.onnx: expected \(inputs, outputs\) .* found"):
        foreign(tmp_path, encoder=changed("encoder", change)).encode(IMAGES)


def after(name: str, op: str, constant: Any, **attributes: Any) -> Callable[[Any], None]:
    """Put a node between what makes the output `name` and the output."""

    def change(model: Any) -> None:
        for node in model.graph.node:
            for names in (node.output, node.input):
                for place, found in enumerate(names):
                    if found == name:
                        names[place] = "before"
        inputs = ["before"]
        if constant is not None:
            model.graph.initializer.append(onnx.numpy_helper.from_array(constant, "constant"))
            inputs.append("constant")
        model.graph.node.append(helper.make_node(op, inputs, [name], **attributes))

    return change


def test_a_graph_that_gives_fewer_rows_than_it_was_given_is_refused(tmp_path: Path) -> None:
    first = after("latent", "Compress", np.array([True]), axis=0)  # numpy would repeat the row for every image
    with pytest.raises(BundleError, match=r"encoder\.onnx: latent: expected shape \(3, 4\), found \(1, 4\)"):
        foreign(tmp_path, encoder=changed("encoder", first)).encode(IMAGES)


def test_a_graph_that_fails_when_it_runs_is_one_named_error(tmp_path: Path) -> None:
    def pair(model: Any) -> None:
        after("latent", "Compress", np.array([True, True]), axis=0)(model)
        model.graph.node[-1].output[0] = "two"
        model.graph.node.append(helper.make_node("Add", ["before", "two"], ["latent"]))

    codec = foreign(tmp_path, encoder=changed("encoder", pair))
    with pytest.raises(ProviderError, match=r"encoder\.onnx could not be run on 3 rows: found") as caught:
        codec.encode(IMAGES)
    assert "\n" not in str(caught.value)


def test_latents_that_are_no_numbers_are_refused_when_they_arise(tmp_path: Path) -> None:
    nan = after("latent", "Mul", np.array([1, np.nan, 1, 1], np.float32))
    with pytest.raises(BundleError, match=r"encoder\.onnx: latent: expected numbers, found NaN"):
        foreign(tmp_path, encoder=changed("encoder", nan)).encode(IMAGES)


@pytest.mark.filterwarnings("error")
def test_latents_beyond_half_precision_are_clipped_to_it_and_decode(tmp_path: Path) -> None:
    large = after("latent", "Mul", np.array([1, 1e6, -1e6, 1], np.float32))
    codec = foreign(tmp_path, encoder=changed("encoder", large))
    codes = codec.encode(IMAGES, "float16")
    assert set(codes[:, 1]) == {65504} and set(codes[:, 2]) == {-65504}
    assert np.isfinite(codec.encode(IMAGES)).all()
    assert codec.decode(codes).shape == IMAGES.shape


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_junk_with_a_checksum_that_fits_is_refused(tmp_path: Path, role: str) -> None:
    for data in (b"", b"junk", bytes(onnx.ModelProto(ir_version=9).SerializeToString())):
        with pytest.raises(AekitError):
            foreign(tmp_path, **{role: data}).reconstruct(IMAGES)


def test_a_pickled_object_in_place_of_a_graph_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([object()], object), allow_pickle=True)
    with pytest.raises(BundleError, match="expected an ONNX graph"):
        foreign(tmp_path, encoder=stream.getvalue()).encode(IMAGES)
