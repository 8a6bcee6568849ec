"""doctor: what it says of this install is so, and what is wrong with one it says."""

import shutil
import tempfile
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
    assert "2 onnxruntime wheels (onnxruntime, onnxruntime-gpu), expected one" in both.problems[0]
    assert "usage data" in replace(report, wheels=("onnxruntime",), telemetry=True).problems[0]
    broken = replace(report, wheels=("onnxruntime",), trials=(Trial("encoder", "cpu", "no kernel", {}),))
    assert broken.problems == ("encoder: no kernel",)
    # A provider that does not carry the graph is a fact, no fault: another one does.
    assert replace(broken, trials=(Trial("encoder", "openvino", "no kernel", {}),)).problems == ()


def install(place: Path, name: str, version: str) -> None:
    """Put a distribution's metadata where Python finds it."""
    folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_a_second_wheel_in_the_environment_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "onnxruntime-gpu", "1.0")
    install(tmp_path, "onnxruntime-extensions", "1.0")
    monkeypatch.syspath_prepend(str(tmp_path))
    wheels = examine(None).wheels
    assert "onnxruntime-gpu" in wheels and "onnxruntime-extensions" not in wheels


@pytest.mark.parametrize(
    ("name", "version", "plugin"),
    [
        ("onnxruntime-ep-webgpu", "0.1.0", True),
        ("onnxruntime-qnn", "2.0.0", True),
        ("onnxruntime-qnn", "2.3.1rc1", True),
        ("onnxruntime-qnn", "1.24.4", False),
        ("onnxruntime-openvino", "1.24.1", False),
    ],
)
def test_plugin_providers_are_no_colliding_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, version: str, plugin: bool
) -> None:
    install(tmp_path, name, version)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = examine(None)
    assert (name in found.plugins, name in found.wheels) == (plugin, not plugin)
    assert (found.problems == ()) == plugin


def test_without_a_folder_for_temporary_files_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nowhere"])
    trials = examine(Bundle.read(TINY)).trials
    assert {trial.problem for trial in trials} == {
        "no folder for temporary files can be written; set TMPDIR to one that can"
    }


def test_the_command_with_and_without_a_model(aekit: Run) -> None:
    found = json_output(aekit("doctor", "--model", TINY, "--json"))
    assert found["problems"] == [] and found["telemetry"] is False
    done = aekit("doctor")
    assert done.returncode == 0
    assert "no model at model" in done.stdout and "providers on offer: cpu" in done.stdout
    done = aekit("doctor", "--model", TINY, ORT_DISABLE_TELEMETRY="0")
    assert done.returncode == 1
    assert "telemetry: on" in done.stdout and "usage data" in done.stderr


@pytest.mark.parametrize("name", ["nowhere", "loop", "empty"])
def test_a_model_that_is_named_must_be_there(name: str, aekit: Run, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").mkdir()
    done = aekit("doctor", "--model", tmp_path / name)
    assert done.returncode == 1 and done.stdout == ""
    assert str(tmp_path / name) in done.stderr
    assert len(done.stderr.splitlines()) == 1
