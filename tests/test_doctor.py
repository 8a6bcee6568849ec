"""doctor: what it says of this install is so, and what is wrong with one it says."""

import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import onnxruntime
import pytest
from conftest import TINY, Run, json_output

from aekit.model.bundle import Bundle
from aekit.model.doctor import Report, Trial, examine
from aekit.model.providers import PROVIDERS


@pytest.fixture(scope="module")
def report() -> Report:
    return examine(Bundle.read(TINY))


def test_it_runs_both_graphs_and_says_where_their_nodes_ran(report: Report) -> None:
    assert report.offered
    assert all(PROVIDERS[name] in onnxruntime.get_available_providers() for name in report.offered)
    on_cpu = [trial for trial in report.trials if trial.provider == "cpu"]
    assert [trial.graph for trial in on_cpu] == ["encoder", "decoder"]
    for trial in on_cpu:
        assert trial.problem == ""
        assert set(trial.nodes) == {"CPUExecutionProvider"} and trial.nodes["CPUExecutionProvider"] > 5
    assert report.versions["numpy"] == version("numpy")
    assert report.versions["onnxruntime"] == onnxruntime.__version__
    assert not report.telemetry


def test_a_device_with_one_graph_is_well(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "model", ignore=shutil.ignore_patterns("decoder.onnx"))
    assert {trial.graph for trial in examine(Bundle.read(tmp_path / "model")).trials} == {"encoder"}
    assert examine(None).trials == ()


def test_what_is_wrong_is_said(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    assert replace(report, wheels=("onnxruntime",)).problems == ()
    both = replace(report, wheels=("onnxruntime", "onnxruntime-gpu"))
    assert "2 onnxruntime wheels (onnxruntime, onnxruntime-gpu) where one is right" in both.problems[0]
    assert "usage data" in replace(report, wheels=("onnxruntime",), telemetry=True).problems[0]
    broken = replace(report, wheels=("onnxruntime",), trials=(Trial("encoder", "cpu", "no kernel", {}),))
    assert broken.problems == ("encoder: no kernel",)
    # A provider that does not carry the graph is a fact, no fault: another one does.
    assert replace(broken, trials=(Trial("encoder", "openvino", "no kernel", {}),)).problems == ()


def test_a_second_wheel_in_the_environment_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime_gpu", "onnxruntime_extensions"):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    wheels = examine(None).wheels
    assert "onnxruntime-gpu" in wheels and "onnxruntime-extensions" not in wheels


def test_the_command_with_and_without_a_model(aekit: Run) -> None:
    found = json_output(aekit("doctor", "--model", TINY, "--json"))
    assert found["problems"] == [] and found["telemetry"] is False
    done = aekit("doctor")
    assert done.returncode == 0
    assert "no model at model" in done.stdout and "providers on offer: cpu" in done.stdout
    done = aekit("doctor", "--model", TINY, ORT_DISABLE_TELEMETRY="0")
    assert done.returncode == 1
    assert "telemetry: on" in done.stdout and "usage data" in done.stderr
