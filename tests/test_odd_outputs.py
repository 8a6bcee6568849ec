"""Outputs that are links, devices or odd paths, full disks, and folders that are gone."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacked import COMMANDS, invoke
from conftest import TINY, Run, one_line_error

from aekit.errors import OutputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and FIFOs of POSIX systems")


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
