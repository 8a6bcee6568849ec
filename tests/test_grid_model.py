"""A model of grid codes as a folder: its version, what the commands say of it, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, json_output, one_line_error
from grid_models import made_pictures
from PIL import Image
from test_bundle import rewrite

from aekit.errors import BundleError, OptionError, SpecError
from aekit.model.bundle import Bundle
from aekit.model.codec import Codec
from aekit.model.doctor import examine
from aekit.model.interpolation import interpolate
from aekit.model.sampling import sample


def test_it_is_of_format_2_and_an_older_aekit_refuses_it_in_words(
    grid_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads((grid_model / "model.json").read_text())["format_version"] == 2
    bundle = Bundle.read(grid_model)
    assert bundle.spec.is_grid and bundle.description["aekit.format_version"] == "2"
    monkeypatch.setattr("aekit.model.bundle.FORMAT_VERSION", 1)
    with pytest.raises(BundleError, match="expected format 1 or older, found 2; update aekit"):
        Bundle.read(grid_model)


@pytest.mark.parametrize(
    "change", [{"stride": 16}, {"encoder_halo": 2}, {"max_side": 100}, {"channels": 1}, {"background": 0}], ids=str
)
def test_a_geometry_other_than_the_graphs_own_is_refused(grid_model: Path, change: dict[str, Any]) -> None:
    spec = Bundle.read(grid_model).spec.to_dict()
    rewrite(grid_model, spec={**spec, "geometry": {**spec["geometry"], **change}})
    with pytest.raises(BundleError, match=r"encoder\.onnx: aekit\.spec"):
        Codec.load(grid_model, "cpu").open()


@pytest.mark.parametrize("change", [{"stride": 0}, {"stride": 65}, {"decoder_halo": 257}, {"height": 8}], ids=str)
def test_a_geometry_out_of_bounds_names_the_file(grid_model: Path, change: dict[str, Any]) -> None:
    spec = Bundle.read(grid_model).spec.to_dict()
    rewrite(grid_model, spec={**spec, "geometry": {**spec["geometry"], **change}})
    with pytest.raises(SpecError, match=r"^.*model\.json: "):
        Bundle.read(grid_model)


def test_the_graphs_of_a_grid_model_in_the_folder_of_a_vector_model_are_refused(grid_model: Path, model: Path) -> None:
    files = Bundle.read(grid_model).manifest["files"]
    for name in files:
        (model / name).write_bytes((grid_model / name).read_bytes())
    rewrite(model, files=files)
    with pytest.raises(BundleError, match=r"encoder\.onnx: aekit\."):
        Codec.load(model, "cpu").open()


def test_the_doctor_runs_both_graphs(grid_model: Path) -> None:
    trials = [trial for trial in examine(Bundle.read(grid_model)).trials if trial.provider == "cpu"]
    assert [(trial.graph, trial.problem) for trial in trials] == [("encoder", ""), ("decoder", "")]
    assert all(trial.nodes["CPUExecutionProvider"] > 3 for trial in trials)


def test_the_commands_describe_it(grid_model: Path, aekit: Run) -> None:
    rewrite(grid_model, kmac_per_pixel={"encoder": 1.25, "decoder": 3.5})
    done = aekit("info", grid_model)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first.endswith("fp32, any size RGB, 6 numbers for each 8x8 pixels")
    text = "\n".join(lines)
    assert "halo: a code depends on 1 places around it, a block of pixels on 1" in text
    sizes = {role: (grid_model / f"{role}.onnx").stat().st_size for role in ("encoder", "decoder")}
    assert f"graphs: encoder {sizes['encoder']:,} bytes, decoder {sizes['decoder']:,} bytes" in text
    assert "thousands of multiplications a pixel: encoder 1.25, decoder 3.5" in text
    found = json_output(aekit("info", grid_model, "--json"))
    assert found["kmac_per_pixel"] == {"encoder": 1.25, "decoder": 3.5}
    assert json_output(aekit("doctor", "--model", grid_model, "--json"))["problems"] == []


@pytest.mark.parametrize("kmac", ["much", {}, {"encoder": 1}, {"encoder": "1", "decoder": 2}, [1, 2]], ids=str)
def test_info_survives_other_figures_of_work(grid_model: Path, kmac: Any, aekit: Run) -> None:
    rewrite(grid_model, kmac_per_pixel=kmac)
    done = aekit("info", grid_model)
    assert done.returncode == 0 and "multiplications" not in done.stdout


def test_it_draws_no_images_and_says_what_does(grid_model: Path, tmp_path: Path, aekit: Run) -> None:
    codec, path = Codec.load(grid_model, "cpu", 1), tmp_path / "a.png"
    Image.fromarray(made_pictures(1)[0]).save(path)
    for call in (lambda: sample(codec, 4), lambda: interpolate(codec, path, path, 3)):
        with pytest.raises(OptionError, match=r"found one of grid codes.*; train at one size"):
            call()
    for options in ((), ("--interpolate", path, path)):
        error = one_line_error(aekit("sample", "--out", "out.png", "--model", grid_model, *options))
        assert "found one of grid codes, for pictures of any size" in error
    assert not (tmp_path / "out.png").exists()


def test_the_graphs_pad_by_themselves(grid_model: Path) -> None:
    """Anyone may run the graphs without aekit: a picture's sides need not be multiples of the stride."""
    import onnxruntime

    picture = made_pictures(1)[0]
    session = onnxruntime.InferenceSession((grid_model / "encoder.onnx").read_bytes())
    (code,) = session.run(["code"], {"image": picture[None]})
    np.testing.assert_array_equal(code[0], Codec.load(grid_model, "cpu", 1).encode([picture], "uint8")[0])
