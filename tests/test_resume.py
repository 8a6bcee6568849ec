"""resume: a job that is killed again and again gives the bytes of one that was not, in every form of output."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Run, made_images, one_line_error, tree, write_pictures

FORMS = {
    "codes.npy": ["compress", "in"],
    "codes.aek": ["compress", "in"],
    "back": ["reconstruct", "all.npy"],
    "back.npy": ["reconstruct", "all.npy"],
    "clean": ["denoise", "in"],
}
OPTIONS = ["--model", str(TINY), "--batch-size", "8", "--threads", "1", "--provider", "cpu", "--workers", "2"]
LIMIT = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); "
LIMIT += "runpy.run_module('aekit', run_name='__main__')"


@pytest.fixture
def work(tmp_path: Path, aekit: Run) -> Path:
    """A folder with 400 images, of which two are bad, and their codes."""
    write_pictures(tmp_path / "in", 400)
    for name in ("a/002.png", "b/333.png"):
        (tmp_path / "in" / name).write_bytes(b"no picture")
    assert aekit("compress", "in", "--out", "all.npy", *OPTIONS).returncode == 3
    return tmp_path


def outputs(folder: Path, out: str) -> dict[str, bytes]:
    """What a job wrote as `out`, by path."""
    stem = out.partition(".")[0]
    return {name: data for name, data in tree(folder).items() if name.startswith(stem)}


@pytest.mark.parametrize("out", FORMS)
def test_kills_at_random_instants_change_nothing(work: Path, aekit: Run, out: str) -> None:
    command, source = FORMS[out]
    whole = aekit(command, source, "--out", out, *OPTIONS, "--json")
    wanted = outputs(work, out)
    summary = json.loads(whole.stdout)
    for path in [work / name for name in {name.split("/")[0] for name in wanted}]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    run = [sys.executable, "-m", "aekit", command, source, "--out", out, *OPTIONS, "--resume", "--json"]
    rng, journal = random.Random(out), work / f"{out}.journal"
    for _ in range(3):
        with subprocess.Popen(run, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
            before, until = _marks(journal), time.monotonic() + 30
            more = rng.randrange(1, 6)
            while running.poll() is None and _marks(journal) < before + more and time.monotonic() < until:
                time.sleep(0.002)
            running.kill()
        if running.returncode == 0 or running.returncode == 3:
            break
        assert not (work / out).exists()
    else:
        done = aekit(*run[3:])
        result = json.loads(done.stdout)
        assert done.returncode == whole.returncode
        assert (result["resumed"] > 0) == (out != "codes.aek")  # whose first block is not full with so few
        for name in ("images", "skipped", "bytes"):
            assert result[name] == summary[name]
    assert outputs(work, out) == wanted


def _marks(journal: Path) -> int:
    try:
        return journal.read_bytes().count(b'"mark"')
    except FileNotFoundError:
        return 0


def stopped(work: Path, out: str, size: int) -> "subprocess.CompletedProcess[str]":
    """A job that is allowed files of `size` bytes alone."""
    command, source = FORMS[out]
    arguments = [sys.executable, "-c", LIMIT, str(size), command, source, "--out", out, *OPTIONS]
    return subprocess.run(arguments, cwd=work, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_full_disk_keeps_what_is_done_and_says_so(work: Path, aekit: Run) -> None:
    said = one_line_error(stopped(work, "codes.npy", 4000))
    assert "File too large" in said and "--resume goes on" in said
    assert not (work / "codes.npy").exists()
    done = aekit("compress", "in", "--out", "codes.npy", *OPTIONS, "--resume", "--json")
    assert done.returncode == 3 and json.loads(done.stdout)["resumed"] > 0
    assert (work / "codes.npy").read_bytes() == (work / "all.npy").read_bytes()
    assert (work / "codes.jsonl").read_bytes() == (work / "all.jsonl").read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_another_job_is_not_resumed_and_both_sides_are_named(work: Path, aekit: Run) -> None:
    stopped(work, "codes.npy", 4000)
    before = tree(work)
    run = ["compress", "in", "--out", "codes.npy", *OPTIONS, "--resume"]
    for options, said in (
        (["--batch-size", "16"], "--batch-size: expected 8, as when the job began, found 16"),
        (["--dtype", "uint8"], "--dtype: expected float32, as when the job began, found uint8"),
    ):
        assert said in one_line_error(aekit(*run, *options))
    after = {name: data for name, data in tree(work).items() if not name.endswith(".journal")}
    assert after == {name: data for name, data in before.items() if not name.endswith(".journal")}
    os.utime(work / "in/a/000.png", ns=(0, 0))
    assert "the source: expected 400 inputs of the state" in one_line_error(aekit(*run))
    assert aekit("compress", "in", "--out", "codes.npy", *OPTIONS).returncode == 3  # anew, over what was left
    assert sorted(outputs(work, "codes")) == ["codes.jsonl", "codes.npy"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_what_a_power_cut_lost_is_made_again(work: Path, aekit: Run) -> None:
    stopped(work, "codes.npy", 4000)
    part = work / "codes.npy.part"
    data = bytearray(part.read_bytes())
    data[1000:] = bytes(len(data) - 1000)
    part.write_bytes(data)
    done = aekit("compress", "in", "--out", "codes.npy", *OPTIONS, "--resume", "--json")
    assert 0 < json.loads(done.stdout)["resumed"] < 100
    assert (work / "codes.npy").read_bytes() == (work / "all.npy").read_bytes()


@pytest.mark.parametrize(("most", "status"), [("1", 1), ("2", 3), ("0%", 1), ("1%", 3), ("x", 1), ("101%", 1)])
def test_more_failures_than_allowed_are_an_error(work: Path, aekit: Run, most: str, status: int) -> None:
    done = aekit("compress", "in", "--out", "codes.npy", *OPTIONS, "--max-failures", most)
    assert done.returncode == status, done.stderr
    assert (work / "codes.npy").exists() == (status == 3)
    if most == "1":
        assert "expected at most 1 inputs that can't be read (--max-failures 1), found 2" in one_line_error(done)
        again = aekit("compress", "in", "--out", "codes.npy", *OPTIONS, "--max-failures", "2", "--resume")
        assert again.returncode == 3
        assert (work / "codes.npy").read_bytes() == (work / "all.npy").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX systems")
@pytest.mark.parametrize("out", ["made.npy", "made.aek", "made"])
def test_of_two_jobs_on_one_output_the_second_is_refused(tmp_path: Path, aekit: Run, out: str) -> None:
    np.save(tmp_path / "in.npy", np.repeat(made_images(10), 20_000, 0))
    command = "denoise" if out == "made" else "compress"
    run = [command, "in.npy", "--out", out, "--model", str(TINY), "--batch-size", "1"]
    with subprocess.Popen([sys.executable, "-m", "aekit", *run], cwd=tmp_path, stderr=subprocess.DEVNULL) as running:
        while not (tmp_path / f"{out}.part").exists():
            assert running.poll() is None
            time.sleep(0.01)
        said = one_line_error(aekit(*run, "--resume"))
        assert f"{out}: expected one job that writes it, found another at work" in said
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)


def test_files_that_vanish_or_grow_after_they_were_listed_cost_a_line_at_most(work: Path) -> None:
    from aekit import jobs
    from aekit.images.sources import open_source
    from aekit.model.codec import Codec

    source = open_source(str(work / "in"))
    (work / "in/a/004.png").unlink()
    (work / "in/a/006.png").unlink()
    (work / "in/a/006.png").mkdir()
    with (work / "in/a/008.png").open("ab") as file:
        file.write(b"more")
    summary = jobs.compress(source, work / "codes.npy", Codec.load(TINY, "cpu", 1), jobs.JobOptions(workers=2))
    skipped = {record.path: record.error for record in summary.skipped}
    assert skipped["a/004.png"] == "No such file or directory"
    assert skipped["a/006.png"] == "not a regular file"
    assert summary.images == 396


def test_the_docs_tell_the_figures_of_the_last_whole_run() -> None:
    root = Path(__file__).parent.parent
    parts = json.loads((root / "benchmarks/results/faults.json").read_text())
    results = parts["random"]
    killed = {row["output"]: row["faults"] for row in results["rows"] if row["fault"] == "killed"}
    assert (
        results["facts"]["images"] >= 20_000
        and min(killed.values()) >= 100
        and set(killed) == {"codes.npy", "codes.aek", "back"}
    )
    total = results["total"]
    page = " ".join((root / "docs/reliability.md").read_text().split())
    assert f"{total['faults']:,} faults in {total['jobs']:,} jobs over 20,000 images each" in page
    points, cases, limits = (parts[part]["total"] for part in ("kill_points", "names", "memory"))
    assert points["survived"] == points["kill_points"] and f"{points['kill_points']:,} in all" in page
    assert cases["refused"] + cases["done"] == cases["cases"] and f"in {cases['cases']:,} cases" in page
    assert f"{limits['limits']:,} commands under a limit of memory" in page and not limits["killed"]
