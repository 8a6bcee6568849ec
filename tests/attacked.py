"""Commands under attack: a folder to attack them in, and ways to run and to stop them."""

from pathlib import Path

import pytest
from conftest import TINY

from aekit import jobs
from aekit.errors import AekitError
from aekit.images.sources import open_source
from aekit.model.codec import Codec

COMMANDS = {
    "o.npy": ["compress", "in", "--out", "o.npy"],
    "o.aek": ["compress", "in", "--out", "o.aek"],
    "b": ["reconstruct", "codes.npy", "--out", "b"],
    "i.npy": ["denoise", "in", "--out", "i.npy"],
    "p.png": ["sample", "--n", "4", "--out", "p.png"],
    "r": ["evaluate", "in", "--out", "r"],
}
"""A command for each output."""
FEW = jobs.JobOptions(batch_size=2, workers=0)
MINE = b"a user's own bytes"


def invoke(*arguments: object) -> None:
    """Run a command in this process; raises its AekitError."""
    from typer.testing import CliRunner

    from aekit.cli import app

    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=True)
    if done.exit_code:
        raise done.exception if isinstance(done.exception, AekitError) else AssertionError(repr(done.exception))


def stopped(out: Path, command: str = "denoise") -> None:
    """Leave a job that was interrupted after its first batch."""

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    codec = Codec.load(TINY, "cpu", 1)
    job = getattr(jobs, command)
    with pytest.raises(KeyboardInterrupt):
        job(open_source("in"), out, codec, jobs.JobOptions(batch_size=2, workers=0, progress=stop))
