"""Outputs under attack: links, FIFOs and foreign files at every name, odd paths, full disks, two jobs at once."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Run, made_images, one_line_error, tree, write_pictures
from PIL import Image

from aekit import jobs
from aekit.codes.archive.container import MAGIC
from aekit.codes.files import open_codes
from aekit.errors import AekitError, OutputError, OutputExists
from aekit.evaluation.report import PICTURE, REPORT
from aekit.images.sources import open_source
from aekit.model.codec import Codec
from aekit.outputs import ours
from aekit.outputs.journal import journaled
from aekit.outputs.log import to_line
from aekit.outputs.staging import check_free, staged_file, staged_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX systems")
COMMANDS = {
    "o.npy": ["compress", "in", "--out", "o.npy"],
    "o.aek": ["compress", "in", "--out", "o.aek"],
    "b": ["reconstruct", "codes.npy", "--out", "b"],
    "i.npy": ["denoise", "in", "--out", "i.npy"],
    "p.png": ["sample", "--n", "4", "--out", "p.png"],
    "r": ["evaluate", "in", "--out", "r"],
}
JOURNALED = ("o.npy", "o.aek", "b", "i.npy")
FEW = jobs.JobOptions(batch_size=2, workers=0)
MINE = b"a user's own bytes"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with images and their codes, beside a folder where nothing may change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEKIT_MODEL", str(TINY))
    write_pictures(tmp_path / "in", 4)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "mine").write_bytes(MINE)
    invoke("compress", "in", "--out", "codes.npy")
    return tmp_path


def invoke(*arguments: object) -> None:
    """Run a command in this process; raises its AekitError."""
    from typer.testing import CliRunner

    from aekit.cli import app

    done = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=True)
    if done.exit_code:
        raise done.exception if isinstance(done.exception, AekitError) else AssertionError(repr(done.exception))


# --- working names


def working_names(out: str) -> list[str]:
    names = [f"{out}.part", f"{out}.journal"] if out in JOURNALED else [f"{out}.part"] if out == "r" else []
    return [*names, "o.jsonl.part"] if out == "o.npy" else names


NAMES = [(out, name) for out in COMMANDS for name in working_names(out)]


@pytest.mark.parametrize("kind", ["link", "link to a folder", "dangling link", "fifo", "file", "folder"])
@pytest.mark.parametrize(("out", "name"), NAMES, ids=[f"{out}-{name}" for out, name in NAMES])
def test_what_lies_at_a_working_name_is_neither_followed_nor_removed(
    work: Path, out: str, name: str, kind: str
) -> None:
    path = work / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "file":
        path.write_bytes(MINE)
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_bytes(MINE)
    else:
        path.symlink_to(work / "else" / {"link": "mine", "link to a folder": ""}.get(kind, "nothing"))
    before, status = tree(work), os.lstat(path)
    for options in ((), ("--overwrite",), ("--resume",)):
        if out == "r" and options == ("--resume",):
            continue
        with pytest.raises(OutputError, match=name.replace(".", r"\.")) as caught:
            invoke(*COMMANDS[out], *options)
        assert "\n" not in str(caught.value)
        assert tree(work) == before
        assert os.lstat(path).st_ino == status.st_ino
        assert not (work / "else" / "nothing").exists()


def test_a_picture_of_sample_has_no_working_name_that_anyone_knows(work: Path) -> None:
    (work / "p.png.part").symlink_to("else/mine")
    invoke(*COMMANDS["p.png"])
    assert (work / "else" / "mine").read_bytes() == MINE
    assert [path.name for path in work.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_process_left_under_a_random_name_is_removed(tmp_path: Path) -> None:
    code = "import os, pathlib; from aekit.outputs.staging import staged_file\n"
    code += "with staged_file(pathlib.Path('a.png')) as part: part.write_text('half'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".aekit-mine.part").write_bytes(MINE)
    with staged_file(tmp_path / "a.png") as part:
        part.write_text("new")
    assert tree(tmp_path) == {"a.png": b"new", ".aekit-mine.part": MINE}


def stopped(out: Path, command: str = "denoise") -> None:
    """Leave a job that was interrupted after its first batch."""

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    codec = Codec.load(TINY, "cpu", 1)
    job = getattr(jobs, command)
    with pytest.raises(KeyboardInterrupt):
        job(open_source("in"), out, codec, jobs.JobOptions(batch_size=2, workers=0, progress=stop))


def test_a_link_put_into_a_folder_that_is_resumed_is_not_followed(work: Path) -> None:
    stopped(Path("made"))
    assert (work / "made.part/a").is_dir()
    (work / "made.part/b").symlink_to(work / "else")
    before = tree(work)
    with pytest.raises(OutputError, match=r"made\.part/b: expected files and folders that aekit wrote, found a link"):
        invoke("denoise", "in", "--out", "made", "--resume", "--batch-size", "2", "--workers", "0", "--threads", "1")
    assert {name: data for name, data in tree(work).items() if "journal" not in name} == {
        name: data for name, data in before.items() if "journal" not in name
    }


def test_a_part_swapped_for_another_file_is_not_ours(work: Path) -> None:
    stopped(Path("c.npy"), "compress")
    part = work / "c.npy.part"
    part.rename(work / "kept")
    part.write_bytes(MINE)
    with pytest.raises(OutputExists, match=r"c\.npy\.part.*did not make it"):
        jobs.compress(open_source("in"), Path("c.npy"), Codec.load(TINY, "cpu", 1), FEW)
    assert part.read_bytes() == MINE


def test_a_job_that_was_moved_to_another_folder_is_resumed(work: Path) -> None:
    stopped(Path("c.npy"), "compress")
    (work / "there").mkdir()
    for path in work.glob("c.*"):
        shutil.copy(path, work / "there" / path.name)
        path.unlink()
    codec = Codec.load(TINY, "cpu", 1)
    done = jobs.compress(open_source("in"), Path("there/c.npy"), codec, replace(FEW, resume=True))
    assert done.resumed == 2
    assert sorted(path.name for path in (work / "there").iterdir()) == ["c.jsonl", "c.npy"]


# --- what --overwrite may replace


def foreign_file(path: Path) -> None:
    if path.suffix == ".npy":
        np.save(path, made_images(3))
    elif path.suffix == ".png":
        Image.new("L", (4, 4)).save(path)
    else:
        path.write_bytes(MINE)


@pytest.mark.parametrize("out", ["o.npy", "o.aek", "i.npy", "p.png"])
def test_overwrite_replaces_our_files_and_no_others(work: Path, out: str) -> None:
    foreign_file(work / out)
    before = tree(work)
    with pytest.raises(
        OutputExists, match=f"{out}.*aekit did not make it.*remove it yourself, or choose another --out"
    ):
        invoke(*COMMANDS[out], "--overwrite")
    assert tree(work) == before
    (work / out).unlink()
    invoke(*COMMANDS[out])
    invoke(*COMMANDS[out], "--overwrite")
    (work / out).write_bytes(b"")
    invoke(*COMMANDS[out], "--overwrite")  # nothing is lost with an empty file


def test_an_index_of_somebody_else_stays(work: Path) -> None:
    (work / "o.jsonl").write_bytes(b'{"a line": "of my own"}\n')
    with pytest.raises(OutputExists, match=r"o\.jsonl.*aekit did not make it"):
        invoke(*COMMANDS["o.npy"], "--overwrite")
    assert (work / "o.jsonl").read_bytes() == b'{"a line": "of my own"}\n'


@pytest.mark.parametrize("marker", ["model.json", "report.json", "aekit.json"])
@pytest.mark.parametrize("text", ["{}", "[1]", "not JSON", '{"name": "my own app", "files": {}, "images": 3}'])
def test_a_folder_with_a_marker_of_that_name_alone_is_not_ours(tmp_path: Path, marker: str, text: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / marker).write_text(text)
    before = tree(tmp_path)
    opened = staged_folder(tmp_path / "out", marker, overwrite=True)
    with pytest.raises(OutputExists, match=f"holds no {marker} of aekit's"), opened:
        pass
    assert tree(tmp_path) == before


@pytest.mark.parametrize("out", ["b", "r"])
def test_a_file_that_was_added_to_a_folder_of_ours_is_named(work: Path, out: str) -> None:
    invoke(*COMMANDS[out])
    invoke(*COMMANDS[out], "--overwrite")
    for name in ("notes.txt", "deep/er.png"):
        path = work / out / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(MINE)
        before = tree(work)
        with pytest.raises(OutputExists, match=name):
            invoke(*COMMANDS[out], "--overwrite")
        assert tree(work) == before
        path.unlink()


def nest(folder: Path, levels: int) -> int:
    """Make folders in folders; returns a descriptor of the innermost, whose path may be too long for the system."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    return place


def test_a_folder_of_ours_with_folders_1100_deep_is_replaced_whole(work: Path) -> None:
    invoke(*COMMANDS["b"])
    os.close(nest(work / "b", 1100))
    invoke(*COMMANDS["b"], "--overwrite")
    assert not (work / "b" / "d").exists()
    assert not list(work.glob("b.*"))


@pytest.mark.parametrize("levels", [1100, 2500])
def test_a_file_of_somebody_else_stays_however_deep_it_lies(work: Path, levels: int) -> None:
    invoke(*COMMANDS["b"])
    place = nest(work / "b", levels)
    os.close(os.open("mine", os.O_WRONLY | os.O_CREAT, dir_fd=place))
    try:
        with pytest.raises(OutputError, match=r"aekit did not write d/|File name too long"):
            invoke(*COMMANDS["b"], "--overwrite")
        assert os.listdir(place) == ["mine"]
    finally:
        os.close(place)
        subprocess.run(["rm", "-rf", str(work / "b")], check=True)  # pytest would recurse


def test_models_of_earlier_versions_are_known_and_a_file_beside_the_graphs_is_not(tmp_path: Path) -> None:
    golden = sorted((Path(__file__).parent / "data" / "golden").glob("*/*/model"))
    assert golden
    for number, model in enumerate([TINY, *golden]):
        copy = Path(shutil.copytree(model, tmp_path / f"model-{number}"))
        assert ours.foreign_part(copy, "model.json") is None
        (copy / "README.md").write_bytes(MINE)
        assert ours.foreign_part(copy, "model.json") == "aekit did not write README.md in it"
    for folder in {model.parent for model in golden}:
        for path in [*folder.glob("*.aek"), *folder.glob("*.jsonl"), *map(folder.joinpath, ("named.npy", "small.npy"))]:
            check_free(path, overwrite=True)
    assert ours.ARCHIVE_MAGIC == MAGIC and {"report.json", "reconstructions.png"} == {REPORT, PICTURE}


def test_images_of_ours_are_read_by_numpy(work: Path) -> None:
    invoke(*COMMANDS["i.npy"])
    assert np.load("i.npy", mmap_mode="r").shape == (4, 16, 16, 1)


# --- what is being read


def test_overwrite_never_replaces_an_input(work: Path) -> None:
    invoke("sample", "--n", 2, "--out", "a.png")
    invoke("evaluate", "in", "--out", "r")
    invoke("reconstruct", "codes.npy", "--out", "b")
    shutil.copytree(TINY, "b/model")
    for number, path in enumerate(sorted((work / "in").rglob("*.png"))):
        shutil.copy(path, work / "r" / f"{number}.png")
    shutil.copy("codes.jsonl", "idx.jsonl")
    before = tree(work)
    for arguments in (
        ["sample", "--interpolate", "a.png", "in/a/000.png", "--out", "a.png"],
        ["sample", "--interpolate", "in/a/000.png", "a.png", "--out", "./b/../a.png"],
        ["evaluate", "r", "--out", "r"],
        ["evaluate", "in", "--out", "in/r"],
        ["reconstruct", "codes.npy", "--out", "b", "--model", "b/model"],
        ["reconstruct", "codes.npy", "--out", "codes.npy"],
    ):
        with pytest.raises(OutputError):
            invoke(*arguments, "--overwrite")
        assert tree(work) == before
    with pytest.raises(OutputError, match=r"idx\.jsonl: expected a place apart from idx\.jsonl"):
        jobs_out = Path("idx.npy")
        jobs.compress(Named("idx.jsonl"), jobs_out, Codec.load(TINY, "cpu", 1), replace(FEW, overwrite=True))  # type: ignore[arg-type]
    assert tree(work) == before


class Named:
    """An idx source as far as `compress` looks at it before it reads: its name, and that it has no paths."""

    paths = None

    def __init__(self, name: str) -> None:
        self.name = name

    def __len__(self) -> int:
        return 3


# --- links, devices and paths as outputs


@pytest.mark.parametrize("out", ["o.npy", "o.aek", "p.png", "i.npy", "b", "r"])
def test_an_output_that_is_a_link_is_written_behind_it(work: Path, out: str) -> None:
    store = work / "store"
    store.mkdir()
    if "." in out:
        (store / "real").touch()
    else:
        (store / "real").mkdir()
    (work / out).symlink_to("store/real")
    for _ in range(3):
        invoke(*COMMANDS[out], "--overwrite")
        assert (work / out).is_symlink()
        assert [path.name for path in store.iterdir()] == ["real"]
    written = store / "real"
    assert list(written.iterdir()) if written.is_dir() else written.stat().st_size
    assert not list(work.glob("*.part")) + list(work.glob("*.journal")) + list(work.glob("*.old"))


@pytest.mark.parametrize("target", ["/dev/null", "/dev/full", "fifo", "nothing", "loop"])
@pytest.mark.parametrize("out", COMMANDS)
def test_devices_fifos_and_broken_links_are_refused(work: Path, out: str, target: str) -> None:
    os.mkfifo(work / "fifo")
    (work / out).symlink_to(out if target == "loop" else target)
    for options in ((), ("--overwrite",)):
        with pytest.raises(OutputError, match=r"found (a device|a FIFO|a link to nothing|Too many levels)"):
            invoke(*COMMANDS[out], *options)
    assert (work / out).is_symlink() and not (work / "nothing").exists()


@pytest.mark.parametrize("where", ["x" * 300, "y" * 300 + "/", "else/mine/", "z" * 252])
@pytest.mark.parametrize("out", COMMANDS)
def test_a_path_that_the_system_refuses_is_one_line(work: Path, aekit: Run, out: str, where: str) -> None:
    arguments = [*COMMANDS[out]]
    arguments[-1] = where + out
    for options in ([], ["--overwrite"]):
        with pytest.raises(OutputError, match="could not be written"):
            invoke(*arguments, *options)
    if out == "o.npy" and where == "else/mine/":
        assert "could not be written: found Not a directory" in one_line_error(aekit(*arguments, "--model", TINY))


def test_a_working_folder_that_was_deleted_is_one_line(work: Path) -> None:
    code = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
    code += f"sys.path.insert(0, {str(Path(__file__).parent.parent)!r}); from aekit.cli import main; main()"
    for out, (command, *arguments) in COMMANDS.items():
        full = [str(work / part) if part in ("in", "codes.npy") else part for part in arguments]
        done = subprocess.run([sys.executable, "-c", code, command, *full], cwd=work, capture_output=True, text=True)
        assert "could not be written" in one_line_error(done), out


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[bool]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=50", "tmpfs", str(folder)]
    able = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        if able:
            (folder / "ballast").write_bytes(bytes(4096))
        yield able
    finally:
        if able:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_from_the_start_is_one_line_and_leaves_nothing(work: Path) -> None:
    with full_disk(work / "disk") as able:
        if not able:
            pytest.skip("no file system can be mounted")
        for arguments in COMMANDS.values():
            with pytest.raises(OutputError, match=r"could not be written: found No space left"):
                invoke(*arguments[:-1], f"disk/{arguments[-1]}")
            assert [path.name for path in (work / "disk").iterdir()] == ["ballast"], arguments


def test_no_writable_temporary_folder_is_one_line_at_most(work: Path) -> None:
    environment = {**os.environ, "TMPDIR": "/proc/none"}
    code = (
        "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/proc/none']\nfrom aekit.cli import main; main()"
    )
    for out, arguments in COMMANDS.items():
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=100)
        if done.returncode:
            assert out == "r" and "no folder for temporary files can be written" in one_line_error(done)


# --- two jobs


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
    import time

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
