"""bundle: a model folder that is whole opens; one that is not says what is wrong with it."""

import base64
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, made_images
from hypothesis import given
from hypothesis import strategies as st
from test_spec import JUNK

from aekit.errors import AekitError, BundleError, SpecError
from aekit.model.bundle import MANIFEST, Bundle, write_bundle
from aekit.model.codec import Codec

IMAGES = made_images(3)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change values of model.json; None takes one out."""
    values = {**json.loads((folder / MANIFEST).read_text()), **changes}
    (folder / MANIFEST).write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


def use(folder: Path) -> None:
    Codec.load(folder, "cpu").reconstruct(IMAGES)


def test_what_is_written_is_read_and_its_graphs_are_verified(tmp_path: Path) -> None:
    tiny = Bundle.read(TINY)
    graphs = {role: tiny.graph(role) for role in ("encoder", "decoder")}
    write_bundle(tmp_path, graphs, tiny.spec, "0123456789abcdef", "fp32", {"note": "here"})
    bundle = Bundle.read(tmp_path)
    assert (bundle.spec, bundle.model_id, bundle.variant) == (tiny.spec, "0123456789abcdef", "fp32")
    assert bundle.manifest["note"] == "here"
    assert {role: bundle.graph(role) for role in graphs} == graphs


def test_the_encoder_alone_encodes_and_the_decoder_alone_decodes(model: Path, tmp_path: Path) -> None:
    codes = Codec.load(model).encode(IMAGES)
    (model / "decoder.onnx").rename(tmp_path / "decoder.onnx")
    alone = Codec.load(model)
    np.testing.assert_array_equal(alone.encode(IMAGES), codes)
    with pytest.raises(BundleError, match=r"decoder\.onnx: .*nothing there; copy decoder\.onnx here"):
        alone.decode(codes)
    (tmp_path / "decoder.onnx").rename(model / "decoder.onnx")
    (model / "encoder.onnx").unlink()
    assert Codec.load(model).decode(codes).shape == IMAGES.shape


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize("place", [0, 1000, -1])
def test_an_altered_byte_in_a_graph_is_refused(model: Path, role: str, place: int) -> None:
    data = bytearray((model / f"{role}.onnx").read_bytes())
    data[place] ^= 1
    (model / f"{role}.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=rf"{role}\.onnx was altered: expected SHA-256"):
        use(model)


def test_graphs_of_another_model_are_refused_even_if_the_checksums_fit(model: Path) -> None:
    own = Bundle.read(model).model_id
    rewrite(model, model_id="0123456789abcdef")
    with pytest.raises(BundleError, match=rf"aekit\.model_id: expected 0123456789abcdef, found {own}"):
        use(model)


def test_graphs_that_changed_places_are_refused_even_if_the_checksums_fit(model: Path) -> None:
    files = Bundle.read(model).manifest["files"]
    (model / "encoder.onnx").rename(model / "x")
    (model / "decoder.onnx").rename(model / "encoder.onnx")
    (model / "x").rename(model / "decoder.onnx")
    rewrite(model, files={"encoder.onnx": files["decoder.onnx"], "decoder.onnx": files["encoder.onnx"]})
    with pytest.raises(BundleError, match=r"encoder\.onnx: expected \(inputs, outputs\)"):
        use(model)


def test_a_variant_or_spec_other_than_the_graphs_own_is_refused(model: Path) -> None:
    spec = Bundle.read(model).spec.to_dict()
    for change in ({"variant": "int8"}, {"spec": {**spec, "code_dim": 5}}):
        rewrite(model, **change)
        with pytest.raises(BundleError, match=r"encoder\.onnx: aekit\."):
            use(model)


def test_a_folder_without_a_model_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="make one with `aekit export`, or name another"):
            Codec.load(path)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_a_model_json_that_is_not_json_is_refused(model: Path, data: bytes) -> None:
    (model / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.json: expected JSON, found"):
        use(model)


def test_a_huge_model_json_is_refused_unread(model: Path) -> None:
    with (model / MANIFEST).open("wb") as file:
        file.truncate(2**40)  # a hole: it takes no room, but would not fit into memory
    with pytest.raises(BundleError, match="1,099,511,627,776 bytes"):
        use(model)


@pytest.mark.parametrize("data", [b"[]", b"null", b"3", b"{}", b'{"format_version": "1"}', b'{"format_version": 0}'])
def test_a_model_json_of_another_kind_is_refused(model: Path, data: bytes) -> None:
    (model / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError, match="a model description with format_version"):
        use(model)


def test_a_newer_format_is_refused_with_what_to_do(model: Path) -> None:
    rewrite(model, format_version=4)
    with pytest.raises(BundleError, match="expected format 3 or older, found 4; update aekit"):
        use(model)


@pytest.mark.parametrize(
    "change",
    [
        *[{name: value} for name in ("model_id", "variant") for value in (None, 3, "", "x" * 65, ["a"])],
        *[{"files": value} for value in (None, [], "x", {}, {"encoder.onnx": "x"}, {"encoder.onnx": {"sha256": 1}})],
    ],
    ids=str,
)
def test_each_missing_or_hostile_value_is_refused(model: Path, change: dict[str, Any]) -> None:
    rewrite(model, **change)
    with pytest.raises(BundleError, match=str(model)):
        use(model)


def test_a_broken_spec_names_the_file(model: Path) -> None:
    rewrite(model, spec={"geometry": None})
    with pytest.raises(SpecError, match=r"model\.json: ModelSpec: expected the fields"):
        use(model)


@given(st.sampled_from(["format_version", "model_id", "variant", "spec", "files"]), JUNK)
def test_junk_never_raises_anything_but_a_named_error(tmp_path_factory: Any, name: str, junk: Any) -> None:
    folder = tmp_path_factory.mktemp("junk")
    (folder / MANIFEST).write_bytes((TINY / MANIFEST).read_bytes())
    rewrite(folder, **{name: junk})
    with pytest.raises(AekitError):
        use(folder)


@pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")
@pytest.mark.parametrize("name", [MANIFEST, "encoder.onnx"])
def test_a_named_pipe_in_a_model_folder_is_refused_without_waiting(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(BundleError, match=rf"{name}: expected .*, found a named pipe, not a regular file"):
        use(model)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize("text", [b"[" + b"[]," * 20_000_000 + b"0]", b'{"dimensions": [' + b"0," * 20_000_000])
def test_tables_that_unpack_to_gigabytes_are_refused_in_little_memory(model: Path, text: bytes) -> None:
    rewrite(model, tables=base64.b64encode(zlib.compress(text, 9)).decode())
    code = (
        "import re\nfrom pathlib import Path\nfrom aekit.codes.tables import read_tables\n"
        "from aekit.errors import BundleError\nfrom aekit.model.bundle import Bundle\n"
        f"try: read_tables(Bundle.read(Path({str(model)!r})))\nexcept BundleError as error: print(error)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, peak = done.stdout.splitlines()
    assert "tables: expected packed frequency tables, found a stream that is cut short or too long" in said
    assert int(peak) < 150_000  # KB; parsed whole, the values would take over 1 GB
