"""The device: the wheel alone in a new environment runs compress and reconstruct, and has no torch."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from conftest import TINY, write_pictures

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment that holds the built wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("edge")
    # Build from a copy: a build folder left in the checkout could bring files that the wheel should not have.
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "tests", "demo", "runs"))
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    run(folder / "env/bin/python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    return folder / "env"


def run(*command: object, cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AEKIT_MODEL")}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_edge_install_runs_and_has_no_torch(edge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    installed = {entry["name"].lower() for entry in json.loads(run(edge / "bin/pip", "list", "--format=json"))}
    assert "aekit" in installed
    assert not installed & {"torch", "onnx", "onnxscript", "safetensors", "scikit-learn", "matplotlib", "mlxtend"}

    aekit = edge / "bin" / "aekit"
    write_pictures(tmp_path / "images", 20)
    run(aekit, "compress", "images", "--out", "codes.npy", "--model", TINY, cwd=tmp_path)
    run(aekit, "reconstruct", "codes.npy", "--out", "back", "--model", TINY, cwd=tmp_path)
    assert len(list((tmp_path / "back").rglob("*.png"))) == 20
    run(aekit, "compress", "images", "--out", "codes.aek", "--model", TINY, cwd=tmp_path)
    run(aekit, "reconstruct", "codes.aek", "--out", "back8", "--model", TINY, cwd=tmp_path)
    assert len(list((tmp_path / "back8").rglob("*.png"))) == 20
    report = json.loads(run(aekit, "evaluate", "images", "--model", TINY, "--json", cwd=tmp_path))
    assert report["mse"] < 0.02

    # What needs an extra says which.
    for command, module in (("train", "torch"), ("export", "torch")):
        done = subprocess.run([aekit, command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"aekit: aekit {command} needs {module}, which is not installed; "
            "install it with: pip install 'aekit[train]'"
        ]

    size = sum(path.lstat().st_size for path in edge.rglob("*") if path.is_file() and not path.is_symlink())
    own = sum(path.stat().st_size for path in edge.glob("lib/python*/site-packages/aekit/**/*.py"))
    with capsys.disabled():
        print(f"\nedge environment: {size / 1e6:.0f} MB with pip, of which aekit's own code {own / 1e3:.0f} kB")
