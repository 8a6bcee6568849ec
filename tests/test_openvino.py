"""A second provider, the real one: onnxruntime-openvino in an environment of its own."""

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, write_pictures

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with OpenVINO's wheel of onnxruntime, and none other."""
    folder = tmp_path_factory.mktemp("openvino") / "env"
    venv.create(folder, with_pip=True)
    others = [need for need in PROJECT["dependencies"] if not need.startswith("onnxruntime")]
    install(folder / "bin/python", *others, "onnxruntime-openvino")
    return folder / "bin/python"


def install(python: Path, *what: str) -> None:
    command = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *what]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if "No matching distribution found for onnxruntime-openvino" in done.stderr:
        pytest.skip("no wheel of onnxruntime-openvino for this machine")
    assert done.returncode == 0, done.stderr


def aekit(python: Path, cwd: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [python, "-m", "aekit", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AEKIT_MODEL": str(TINY)}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="folders of environments differ there")
def test_openvino_carries_both_graphs_and_gives_the_codes_of_the_cpu(python: Path, tmp_path: Path) -> None:
    report = json.loads(aekit(python, tmp_path, "doctor", "--json").stdout)
    assert (report["offered"], report["wheels"], report["problems"]) == (
        ["cpu", "openvino"],
        ["onnxruntime-openvino"],
        [],
    )
    trials = {(trial["graph"], trial["provider"]): trial for trial in report["trials"]}
    for graph in ("encoder", "decoder"):
        trial = trials[graph, "openvino"]
        assert trial["problem"] == "" and set(trial["nodes"]) == {"OpenVINOExecutionProvider"}
        assert set(trials[graph, "cpu"]["nodes"]) == {"CPUExecutionProvider"}

    write_pictures(tmp_path / "in", 300)
    for name in ("cpu", "openvino"):
        made = json.loads(
            aekit(python, tmp_path, "compress", "in", "--out", f"{name}.npy", "--provider", name, "--json").stdout
        )
        assert (made["images"], made["provider"]) == (300, name)
    codes, theirs = (np.load(tmp_path / f"{name}.npy") for name in ("cpu", "openvino"))
    np.testing.assert_allclose(theirs, codes, atol=0.01)  # of 255 code units
    for name in ("cpu", "openvino"):
        done = aekit(
            python, tmp_path, "reconstruct", "cpu.npy", "--out", f"back-{name}.npy", "--provider", name, "--json"
        )
        assert json.loads(done.stdout)["provider"] == name
    images, theirs = (np.load(tmp_path / f"back-{name}.npy").astype(int) for name in ("cpu", "openvino"))
    assert np.abs(theirs - images).max() <= 1

    refused = aekit(python, tmp_path, "compress", "in", "--out", "x.npy", "--provider", "cuda")
    assert refused.returncode == 1
    assert "provider 'cuda' is not in this onnxruntime" in refused.stderr and "found cpu, openvino" in refused.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="folders of environments differ there")
def test_two_wheels_of_onnxruntime_are_named_as_what_is_wrong(python: Path, tmp_path: Path) -> None:
    install(python, "onnxruntime")
    done = aekit(python, tmp_path, "doctor", "--json")
    report = json.loads(done.stdout)
    assert report["wheels"] == ["onnxruntime", "onnxruntime-openvino"]
    assert "2 onnxruntime wheels (onnxruntime, onnxruntime-openvino), expected one" in report["problems"][0]
    assert done.returncode == 1
