"""The command as a guest of its system: signals, closed streams, no home, no room, nowhere to write, an odd clock."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, json_output, made_images, tree, write_pictures

from aekit.errors import AekitError
from aekit.outputs.staging import staged_file

POSIX = pytest.mark.skipif(os.name != "posix", reason="of POSIX systems")
UNWRITABLE = Path("/proc")  # even root can't make a file there
AEKIT = [sys.executable, "-m", "aekit"]


def shell(line: str, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of sh in which $AEKIT is the command and $TINY the model."""
    given = {"AEKIT": " ".join(AEKIT), "TINY": str(TINY), "PATH": os.environ["PATH"], **environment}
    return subprocess.run(["sh", "-c", line], cwd=cwd, env=given, capture_output=True, text=True, timeout=120)


# --- signals


LONG = {
    "compress": ["in.npy", "--out", "made.npy", "--batch-size", "1"],
    "denoise": ["in.npy", "--out", "made", "--batch-size", "1"],
    "reconstruct": ["codes.npy", "--out", "made", "--no-index", "--batch-size", "1"],
}


@POSIX
@pytest.mark.parametrize("command", LONG)
def test_term_ends_a_job_like_ctrl_c_with_130_and_nothing_half_written(tmp_path: Path, command: str) -> None:
    np.save(tmp_path / "in.npy", np.zeros((200_000, 16, 16), np.uint8))
    np.save(tmp_path / "codes.npy", np.zeros((200_000, 4), np.uint8))
    started = [*AEKIT, command, *LONG[command], "--model", str(TINY), "--provider", "cpu", "--threads", "1"]
    with subprocess.Popen(started, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        while not list(tmp_path.glob("made*.part")):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & {"made", "made.npy", "made.jsonl"}
    if "made.journal" in names or "made.npy.journal" in names:
        assert "--resume goes on" in said and len(said.splitlines()) == 1
    else:
        assert said == "aekit: interrupted; nothing was left half-written\n"
        assert names == {"codes.npy", "in.npy"}


@POSIX
def test_a_signal_that_the_starter_ignores_stays_ignored(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((3000, 16, 16), np.uint8))
    line = 'trap "" TERM INT; $AEKIT compress in.npy --out made.npy --model $TINY --batch-size 1 & '
    line += "while ! ls made.npy.part 2>/dev/null; do sleep 0.01; done; kill -TERM $!; kill -INT $!; wait $!"
    assert shell(line, tmp_path).returncode == 0
    assert np.load(tmp_path / "made.npy").shape == (3000, 4)


# --- streams


@POSIX
@pytest.mark.parametrize(
    ("line", "status", "error"),
    [
        ("$AEKIT info $TINY | true", 0, ""),
        ("$AEKIT info $TINY --json >&-", 0, ""),
        ("$AEKIT info $TINY <&- >&- 2>&-", 0, ""),
        ("$AEKIT info nowhere 2>&-", 1, ""),
        ("$AEKIT --help | true", 0, ""),
    ],
)
def test_a_closed_stream_is_no_traceback(tmp_path: Path, line: str, status: int, error: str) -> None:
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr) == (status, error)


@POSIX
def test_a_reader_that_left_is_no_failure_and_a_full_disk_is_one(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as gone:
        done = subprocess.run([*AEKIT, "info", TINY], stdout=gone, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (0, "")
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = shell("$AEKIT info $TINY > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "aekit: stdout could not be written: found No space left on device\n",
    )


@POSIX
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("options", ["--help", "compress --help", "--version"])
def test_help_that_can_not_be_printed_is_one_line(tmp_path: Path, options: str) -> None:
    done = shell(f"$AEKIT {options} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "aekit: stdout could not be written: found No space left on device\n"


@POSIX
def test_closed_streams_never_give_their_number_to_an_output(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", made_images(5))
    for name, streams in (("open", ""), ("closed", "<&- >&- 2>&-")):
        assert shell(f"$AEKIT compress in.npy --out {name}.npy --model $TINY {streams}", tmp_path).returncode == 0
    assert (tmp_path / "open.npy").read_bytes() == (tmp_path / "closed.npy").read_bytes()


@POSIX
def test_notes_that_nobody_reads_do_not_stop_the_work(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 4)
    (tmp_path / "in" / "bad.png").touch()  # of which there is something to say
    done = shell("$AEKIT compress in --out codes.npy --model $TINY 2>&1 >/dev/null | true", tmp_path)
    assert done.returncode == 0
    assert np.load(tmp_path / "codes.npy").shape == (4, 4)


@POSIX
@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-16", "cp437"])
def test_any_encoding_of_the_streams_will_do(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "ö").mkdir()
    done = subprocess.run(
        [*AEKIT, "info", "ö"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "LANG": "C"},
        capture_output=True,
        timeout=60,
    )
    said = done.stderr.decode(encoding.partition(":")[0])
    assert done.returncode == 1
    assert said.startswith("aekit: ") and "Traceback" not in said


# --- paths and memory that the system refuses


LONG_NAME = "x" * 300
REFUSED = [
    *[(f"{command} {LONG_NAME}", "File name too long") for command in ("info", "info --json")],
    (f"doctor --model {LONG_NAME}", "File name too long"),
    (f"evaluate in.npy --model {LONG_NAME}", "File name too long"),
    (f"evaluate in.npy --model $TINY --out {LONG_NAME}", "File name too long"),
    (f"evaluate in.npy --model $TINY --run {LONG_NAME}", "File name too long"),
    (f"evaluate {LONG_NAME} --model $TINY", "File name too long"),
    (f"sample --model $TINY --out {LONG_NAME}.png", "File name too long"),
    (f"sample --model $TINY --out o.png --interpolate {LONG_NAME} in.npy", "File name too long"),
    (f"compress {LONG_NAME} --model $TINY --out o.npy", "File name too long"),
    (f"compress in.npy --model $TINY --out {LONG_NAME}.npy", "File name too long"),
    ("info loop", "nothing there"),
    ("info loop/x.aek", "Too many levels of symbolic links"),
    ("compress loop --model $TINY --out o.npy", ""),
    ("info in.npy/x", "nothing there"),
    ("doctor --model in.npy/x", ""),
]


@POSIX
@pytest.mark.parametrize(("line", "said"), REFUSED, ids=[line.replace(LONG_NAME, "LONG") for line, _ in REFUSED])
def test_a_path_that_the_system_refuses_is_one_line_that_names_it(tmp_path: Path, line: str, said: str) -> None:
    np.save(tmp_path / "in.npy", made_images(5))
    (tmp_path / "loop").symlink_to("loop")
    done = shell(f"$AEKIT {line}", tmp_path)
    assert "Traceback" not in done.stderr and said in done.stderr
    if said:
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
        assert any(name in done.stderr for name in (LONG_NAME, "loop", "in.npy/x"))


@pytest.mark.parametrize(
    ("words", "said"), [("x.so: failed to map segment from shared object", "not enough memory"), ("no such name", "")]
)
def test_a_library_that_the_memory_is_too_small_for_is_one_line(tmp_path: Path, words: str, said: str) -> None:
    program = f"import aekit.cli\ndef fail(): raise ImportError({words!r})\naekit.cli.app = fail; aekit.cli.main()"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    if said:
        assert said in done.stderr and len(done.stderr.splitlines()) == 1
    else:
        assert "Traceback" in done.stderr  # a mistake in aekit stays one


def test_a_system_that_starts_no_more_threads_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", made_images(500))
    program = (
        "import threading\n"
        'def refuse(*_, **__): raise RuntimeError("can\'t start new thread")\n'
        "threading._start_new_thread = threading._start_joinable_thread = refuse\n"
        "import aekit.cli; aekit.cli.main()"
    )
    options = ["compress", "in.npy", "--out", "o.npy", "--model", str(TINY), "--workers", "2"]
    done = subprocess.run([sys.executable, "-c", program, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("aekit: the system starts no more threads; free some memory, or raise")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tree(tmp_path)) == ["in.npy"]


@POSIX
@pytest.mark.parametrize(
    "line",
    [
        "info codes.npy",
        "compress in.npy --out o.npy --model $TINY",
        "doctor --help",
        "train --resume",
        "export $TINY --out model",
    ],
)
def test_a_working_folder_that_is_gone_is_no_traceback(tmp_path: Path, line: str) -> None:
    (tmp_path / "gone").mkdir()
    root = Path(__file__).parent.parent
    done = shell(f"cd gone; rmdir ../gone; PYTHONPATH={root} $AEKIT {line}", tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if "--help" in line else 1)
    assert len(done.stderr.splitlines()) == (0 if "--help" in line else 1), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that holds")
def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((600_000, 16, 16), np.uint8))
    program = (
        "import resource, sys, aekit.model.codec, aekit.evaluation.report, aekit.model.providers, aekit.cli\n"
        "aekit.model.providers.onnxruntime()\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 300_000_000,) * 2)\n"
        "aekit.cli.main()"
    )
    options = ["evaluate", "in.npy", "--model", TINY, "--threads", "1"]
    done = subprocess.run([sys.executable, "-c", program, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "aekit: not enough memory; free some, or use a machine with more\n"


WITH_WORKERS = {
    "compress": ["in", "--out", "made.npy"],
    "denoise to an array": ["in", "--out", "made.npy"],
    "denoise to a folder": ["in", "--out", "made"],
    "reconstruct": ["codes.npy", "--out", "made", "--no-index"],
}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs the list of a process's children")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("job", WITH_WORKERS)
def test_a_signal_is_answered_while_the_workers_are_stopped(tmp_path: Path, job: str, number: signal.Signals) -> None:
    if job == "reconstruct":
        np.save(tmp_path / "codes.npy", np.zeros((50_000, 4), np.uint8))
    else:
        write_pictures(tmp_path / "in", 3000)
    started = [*AEKIT, job.split()[0], *WITH_WORKERS[job], "--model", str(TINY), "--provider", "cpu"]
    started += ["--workers", "2", "--batch-size", "16"]
    with subprocess.Popen(started, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while len(workers := children.read_text().split()) < 2:
            assert running.poll() is None
            time.sleep(0.01)
        for worker in workers:
            os.kill(int(worker), signal.SIGSTOP)
        time.sleep(1)  # until it waits for the stopped workers
        running.send_signal(number)
        _, said = running.communicate(timeout=30)  # who waits for a stopped process waits for ever
    assert running.returncode == 130 and "interrupted" in said
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert not {path.name for path in tmp_path.iterdir()} & {"made", "made.npy", "made.jsonl"}


# --- places


def test_no_folder_for_temporary_files_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", made_images(5))
    program = (
        "import sys, tempfile, aekit.cli\ntempfile._candidate_tempdir_list = lambda: ['/nowhere']\naekit.cli.main()"
    )
    options = ["evaluate", "in.npy", "--model", TINY]
    done = subprocess.run([sys.executable, "-c", program, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "aekit: no folder for temporary files can be written; set TMPDIR to one that can\n"


@POSIX
def test_no_home_and_an_empty_environment_will_do(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", made_images(5))
    done = subprocess.run(
        [*AEKIT, "compress", "in.npy", "--out", "codes.npy", "--model", TINY, "--json"],
        cwd=tmp_path,
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json_output(done)["images"] == 5


@pytest.mark.skipif(not (UNWRITABLE / "self").exists(), reason="needs a folder where nothing can be written")
def test_where_nothing_can_be_written_reading_goes_on_and_writing_is_one_error(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", made_images(5))
    line = "$AEKIT compress $HERE/in.npy --out $HERE/codes.npy --model $TINY && "
    line += "$AEKIT compress $HERE/in.npy --out codes.npy --model $TINY"
    done = shell(line, UNWRITABLE, HERE=str(tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "could not be written: found" in done.stderr
    assert sorted(tree(tmp_path)) == ["codes.jsonl", "codes.npy", "in.npy"]


@pytest.mark.skipif(not (UNWRITABLE / "self").exists(), reason="needs a folder where nothing can be written")
def test_an_output_below_a_folder_that_can_not_be_written_is_a_named_error() -> None:
    with pytest.raises(AekitError, match="could not be written"), staged_file(UNWRITABLE / "new" / "codes.npy"):
        pass


# --- time


def test_nothing_that_ships_measures_by_a_clock_that_can_be_set() -> None:
    root = Path(__file__).parent.parent
    for path in [path for folder in ("aekit", "export") for path in (root / folder).rglob("*.py")]:
        used = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Attribute)}
        assert not used & {"time.time", "time.time_ns", "datetime.now", "datetime.datetime.now", "datetime.utcnow"}, (
            path
        )
