"""The journal of a job: its lock, what it tells of a killed job, and what a forged one can't do."""

import json
import os
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attacked import COMMANDS, invoke, stopped
from conftest import made_images

from aekit import jobs
from aekit.codes.files import open_codes
from aekit.errors import OutputError, OutputExists
from aekit.images.sources import open_source
from aekit.model.codec import Codec
from aekit.outputs.journal import journaled
from aekit.outputs.log import to_line

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX systems")


def test_of_two_jobs_in_two_threads_the_second_is_refused(tmp_path: Path) -> None:
    found: list[str] = []

    def second() -> None:
        try:
            with journaled(tmp_path / "o.npy", {}):
                found.append("both")
        except OutputError as error:
            found.append(str(error))

    with journaled(tmp_path / "o.npy", {}):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert f"another at work (process {os.getpid()})" in found[0]
    second()
    assert found[1:] == ["both"]


def test_a_journal_that_was_left_by_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    code = "import os; from pathlib import Path; from aekit.outputs.journal import journaled\n"
    code += "with journaled(Path('o.npy'), {'a': 1}): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert (tmp_path / "o.npy.journal").exists()
    with journaled(tmp_path / "o.npy", {"a": 2}) as journal:
        assert journal.facts == {"a": 2}
    assert not list(tmp_path.iterdir())


def test_the_lock_lives_on_in_a_forked_worker(tmp_path: Path) -> None:
    """The worker of a killed job may still write: a second job must wait for its end."""
    code = "import os, time; from pathlib import Path; from aekit.outputs.journal import journaled\n"
    code += "with journaled(Path('o.npy'), {}):\n if os.fork() == 0:\n  time.sleep(1.5); os._exit(0)\n"
    code += " os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    began = time.monotonic()
    with journaled(tmp_path / "o.npy", {}):
        assert time.monotonic() - began > 0.5


def test_a_pair_that_an_overwrite_left_half_renamed_is_completed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("compress", "in", "--out", "o.npy", "--dtype", "uint8")
    code = "import os; real = os.replace\ndef replace(a, b):\n"
    code += " if str(b).endswith('o.npy'): os.kill(os.getpid(), 9)\n real(a, b)\n"
    code += "os.replace = replace\nfrom aekit.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *COMMANDS["o.npy"], "--overwrite"], cwd=work, check=False)
    assert (work / "o.npy.part").exists() and not (work / "o.jsonl.part").exists()
    with pytest.raises(OutputExists, match="--overwrite"):
        invoke(*COMMANDS["o.npy"])  # refused, but it completes the pair first
    with open_codes(Path("o.npy")) as codes:
        assert next(codes.batches(4)).dtype == np.float32
    assert not list(work.glob("o.*.*"))


def test_the_journal_tells_its_parts(work: Path) -> None:
    stopped(Path("c.npy"), "compress")
    lines = [json.loads(line.partition(b" ")[2]) for line in (work / "c.npy.journal").read_bytes().splitlines()]
    parts: dict[str, Any] = dict(entry["part"] for entry in lines if "part" in entry)
    assert parts == {name: os.stat(name).st_ino for name in ("c.npy.part", "c.jsonl.part")}


@pytest.mark.parametrize("name", ["{victim}", "../victim.part", "sub/victim.part", "victim.part\0"])
def test_a_forged_journal_can_not_have_a_file_elsewhere_removed(tmp_path: Path, tiny_codec: Codec, name: str) -> None:
    victim = tmp_path / "victim.part"
    victim.write_bytes(b"precious")
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    np.save(here / "in.npy", made_images(5))
    part = name.format(victim=victim)
    lines = [{"journal": 3, "pid": 1, "inode": 1}, {"making": part}, {"part": [part, 1]}]
    (here / "codes.npy.journal").write_bytes(b"".join(map(to_line, lines)))
    jobs.compress(open_source(str(here / "in.npy")), here / "codes.npy", tiny_codec)
    assert victim.read_bytes() == b"precious"
    assert np.load(here / "codes.npy").shape == (5, 4)


@pytest.mark.parametrize(
    "entry",
    [{"journal": 3, "pid": 1, "inode": float("inf")}, {"journal": 3, "pid": 1, "inode": 1, "rewind": float("inf")}],
)
def test_an_infinite_number_ends_a_journal(tmp_path: Path, entry: dict[str, Any]) -> None:
    (tmp_path / "o.npy.journal").write_bytes(to_line(entry).replace(b"Infinity", b"1e999"))
    text = (tmp_path / "o.npy.journal").read_bytes()[9:].rstrip()
    (tmp_path / "o.npy.journal").write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    with journaled(tmp_path / "o.npy", {}) as journal:
        assert journal.marks == []


def test_a_format_of_many_letters_is_cut_short_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "o.npy.journal").write_bytes(to_line({"journal": "x" * 9000, "pid": 1, "inode": 1}))
    with pytest.raises(OutputError) as error, journaled(tmp_path / "o.npy", {}, resume=True):
        raise AssertionError
    assert "expected format 3, found format xxx" in str(error.value) and len(str(error.value)) < 500
