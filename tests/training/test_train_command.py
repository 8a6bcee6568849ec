"""The command `aekit train`: signals, and options that do not fit."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_images
from small_runs import same_bits

from aekit.errors import OptionError
from aekit.training.checkpoint import Run
from aekit.training.devices import choose_device


def test_absent_device_is_an_error() -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(OptionError, match=absent):
        choose_device(absent)


def test_ctrl_c_ends_the_command_with_its_state_saved(tmp_path: Path) -> None:
    """The real command, a real SIGINT; then --resume ends it, with the weights of a run that was left alone."""
    np.save(tmp_path / "blobs.npy", made_images(400))
    settings = ["blobs.npy", "--epochs", "12", "--hidden", "16", "--code-dim", "3", "--batch-size", "4"]
    settings += ["--objective", "plain"]  # which does not end early here

    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "aekit", "train", *arguments]

    process = subprocess.Popen(command(*settings, "--out", "cut"), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "epoch   1/12" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert time.monotonic() - began < 30
    assert "--resume --out cut" in rest and "Traceback" not in rest
    export = [sys.executable, "-m", "aekit", "export", "cut"]
    done = subprocess.run(export, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "warning: cut stopped after step" in done.stderr, done.stderr
    for arguments in (["--resume", "--out", "cut"], [*settings, "--out", "whole"]):
        began = time.monotonic()
        done = subprocess.run(command(*arguments), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "warning: 40 held-out images give only a rough error" in done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
        assert lines[-1].startswith("epoch  12/12") and len(lines) <= time.monotonic() - began + 2  # one a second
    assert same_bits(Run.read(tmp_path / "cut"), Run.read(tmp_path / "whole"))


def test_what_does_not_fit_leaves_no_run_behind(tmp_path: Path) -> None:
    """The real command, options that no network or objective takes: one line, no folder, no `latest`."""
    np.save(tmp_path / "blobs.npy", made_images(50))
    wrong = [
        (["--objective", "magic"], "plain or denoising"),
        (["--objective", "sparse", "-O", "active=99"], "at most the code's 32 units"),
        (["-O", "beta=2"], "give --objective variational, which has it"),
        (["--for", "serach"], "did you mean 'search'?"),
        (["--for", "search", "--bytes", "3"], "--for compression, found --for search"),
        (["--network", "conv", "--hidden", "none"], "channels of the conv network's stages"),
        (["--network", "conv", "--hidden", "8,8,8,8,8"], "at most 4 stages for 16x16 gray"),
        (["--hidden", "16,8"], "blocks of one width"),
        (["--budget", "5m", "--epochs", "3"], "no --epochs beside it"),
        (["--budget", "soon"], "a time such as 90s"),
    ]
    np.save(tmp_path / "one.npy", made_images(1))
    np.save(tmp_path / "gray.npy", np.full((30, 16, 16), 7, np.uint8))
    np.save(tmp_path / "nan.npy", np.where(np.eye(16) > 0, np.nan, made_images(30)[..., 0] / 255))
    sets = [("one.npy", "at least 2"), ("gray.npy", "of one constant colour"), ("nan.npy", "found NaN")]
    wrong = [(["blobs.npy", *options], expected) for options, expected in wrong]
    for arguments, expected in [*wrong, *(([name], expected) for name, expected in sets)]:
        command = [sys.executable, "-m", "aekit", "train", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1 and expected in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "runs").exists()
