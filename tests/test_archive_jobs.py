"""Archives by the commands: there and back, appended to, salvaged; and jobs that are killed or run out of disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Run, json_output, made_images, one_line_error, tree, write_pictures
from PIL import Image
from test_cli import invoke

from aekit import Archive, jobs
from aekit.codes.files import open_codes
from aekit.errors import AekitError
from aekit.images.picture_output import MARKER
from aekit.images.sources import ArraySource, open_source
from aekit.model.codec import Codec


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEKIT_MODEL", str(TINY))


def compress(source: object, out: str = "codes.aek", *options: object) -> dict[str, Any]:
    status, said = invoke("compress", source, "--out", out, "--provider", "cpu", *options, "--json")
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    assert status == (3 if result["skipped"] else 0)
    return result


def test_an_archive_gives_what_an_array_of_uint8_codes_gives(pictures: Path, tmp_path: Path) -> None:
    (pictures / "b/bad.png").touch()
    made = compress("pictures", "codes.aek", "--batch-size", 5)
    assert (made["images"], made["present"], made["total"]) == (12, 0, 12)
    assert made["bytes"] == Path("codes.aek").stat().st_size
    compress("pictures", "codes.npy", "--dtype", "uint8")
    compress("pictures", "again.aek", "--dtype", "uint8")
    assert Path("again.aek").read_bytes() == Path("codes.aek").read_bytes()
    with Archive.open("codes.aek") as archive:
        np.testing.assert_array_equal(archive.codes(), np.load("codes.npy"))
        assert [record for record in archive.inputs() if record.error] == [
            next(
                record
                for record in jobs.compress(
                    open_source("pictures"), tmp_path / "x.aek", Codec.load(TINY, "cpu")
                ).skipped
            )
        ]
    for name in ("aek", "npy"):
        assert invoke("reconstruct", f"codes.{name}", "--out", name)[0] == 0
    assert tree(tmp_path / "aek") == tree(tmp_path / "npy")
    assert set(tree(tmp_path / "aek")) == {*tree(pictures), MARKER} - {"b/bad.png"}


def test_arrays_have_no_names(tmp_path: Path, tiny_codec: Codec) -> None:
    images = made_images(7)
    jobs.compress(ArraySource("a", images), tmp_path / "codes.aek", tiny_codec, jobs.JobOptions(batch_size=2))
    assert invoke("reconstruct", "codes.aek", "--out", "images.npy")[0] == 0
    np.testing.assert_array_equal(np.load("images.npy"), tiny_codec.reconstruct(images, "uint8"))
    jobs.compress(ArraySource("a", images), tmp_path / "codes.aek", tiny_codec, append=True)
    with Archive.open("codes.aek") as archive:
        assert (len(archive), archive.paths) == (14, None)


@pytest.mark.parametrize("suffix", ["aek", "npy"])
def test_only_those_that_match_come_back_under_the_names_they_have_among_all(
    pictures: Path, tmp_path: Path, suffix: str
) -> None:
    shutil.copy(pictures / "a/000.png", pictures / "a/000.bmp.png")
    Image.open(pictures / "a/000.png").save(pictures / "a/000.bmp")
    compress("pictures", f"codes.{suffix}")
    assert invoke("reconstruct", f"codes.{suffix}", "--out", "all", "--original-size")[0] == 0
    whole = tree(tmp_path / "all")
    for glob, names in (
        ("a/000.*", {"a/000.bmp.png", "a/000.png.png", "a/000.bmp.png.png"}),
        ("*1.png", {"b/001.png", "b/011.png"}),
    ):
        assert invoke("reconstruct", f"codes.{suffix}", "--only", glob, "--overwrite", "--original-size")[0] == 0
        found = tree(tmp_path / "reconstructed")
        assert set(found) - {MARKER} == names
        assert all(found[name] == whole[name] for name in names)
    assert invoke("reconstruct", f"codes.{suffix}", "--only", "b/*", "--out", "b.npy")[0] == 0
    assert np.load("b.npy").shape == (6, 16, 16, 1)


def test_append_adds_what_is_new_and_leaves_the_rest(pictures: Path, tmp_path: Path) -> None:
    for name in ("b/007.png", "b/009.png"):
        (tmp_path / Path(name).name).write_bytes((pictures / name).read_bytes())
        (pictures / name).unlink()
    assert compress("pictures", "codes.aek", "--append")["images"] == 10  # nothing is there yet: it is made
    for name in ("b/007.png", "b/009.png"):
        shutil.move(tmp_path / Path(name).name, pictures / name)
    (pictures / "bad.png").touch()
    grown = compress("pictures", "codes.aek", "--append")
    assert (grown["images"], grown["present"], grown["total"]) == (2, 10, 12)
    assert [record["path"] for record in grown["skipped"]] == ["bad.png"]
    with Archive.open("codes.aek") as archive:
        assert archive.paths is not None
        assert archive.paths[10:] == ("b/007.png", "b/009.png")
        assert sorted(archive.paths) == sorted(name for name in tree(pictures) if name != "bad.png")
    (pictures / "bad.png").unlink()
    before = Path("codes.aek").read_bytes()
    status, said = invoke("compress", "pictures", "--out", "codes.aek", "--append")
    assert status == 0
    assert "0 codes -> codes.aek (now 12, " in said
    assert said.splitlines()[1] == "12 images left unchanged: the archive already has their paths"
    assert Path("codes.aek").read_bytes() == before
    compress(pictures / "a/000.png", "codes.aek", "--append")  # another path, though the same image
    assert invoke("reconstruct", "codes.aek", "--out", "all")[0] == 0
    assert set(tree(tmp_path / "all")) == {*tree(pictures), "000.png", MARKER}


def test_what_no_append_can_read_is_told_of_once(pictures: Path) -> None:
    (pictures / "bad.png").touch()
    compress("pictures", "codes.aek", "--append")
    before = Path("codes.aek").read_bytes()
    assert [record["path"] for record in compress("pictures", "codes.aek", "--append")["skipped"]] == ["bad.png"]
    assert Path("codes.aek").read_bytes() == before
    (pictures / "bad.png").write_bytes(b"another fault")
    compress("pictures", "codes.aek", "--append")
    with Archive.open("codes.aek") as archive:
        errors = [record.error for record in archive.inputs() if record.error]
    assert len(errors) == 2 and errors[0] == "empty file"


def test_info_needs_no_model(pictures: Path, aekit: Run) -> None:
    (pictures / "bad.png").touch()
    compress("pictures")
    facts = json_output(aekit("info", "codes.aek", "--json", AEKIT_MODEL="none"))
    assert {name: facts[name] for name in ("images", "failed", "blocks", "named", "variant")} == {
        "images": 12, "failed": 1, "blocks": 1, "named": True, "variant": "fp32",
    }  # fmt: skip
    assert facts["bytes"] == Path("codes.aek").stat().st_size
    assert sum(int(str(facts[name])) for name in ("codes", "names", "container")) == facts["bytes"]
    said = invoke("info", "codes.aek")[1]
    assert said.startswith("codes.aek: 12 codes of 4 uint8 numbers, ")
    assert "1 block, all whole; 1 more input could not be read" in said
    assert invoke("info", TINY)[1].count("\n") < 15


def test_a_cut_archive_is_an_error_and_salvage_says_what_is_lost(tmp_path: Path, aekit: Run) -> None:
    np.save("in.npy", made_images(5000))
    compress("in.npy")
    data = Path("codes.aek").read_bytes()
    Path("codes.aek").write_bytes(data[:-50])
    for command in (("info", "codes.aek"), ("reconstruct", "codes.aek")):
        said = one_line_error(aekit(*command))
        assert "codes.aek is cut short or damaged" in said
        assert "found 1 whole block of 4,096 images, and " in said
        assert said.endswith("or get what is left with `aekit reconstruct --salvage`")
    done = aekit("reconstruct", "codes.aek", "--salvage", "--out", "left.npy")
    assert done.returncode == 3
    assert done.stderr.startswith("lost from codes.aek: an unknown number of images")
    assert np.load("left.npy").shape == (4096, 16, 16, 1)
    Path("codes.aek").write_bytes(data)
    assert aekit("reconstruct", "codes.aek", "--salvage", "--out", "all.npy").returncode == 0


def test_an_archive_whose_only_block_is_damaged_is_not_said_to_be_salvageable(tmp_path: Path, aekit: Run) -> None:
    write_pictures(Path("pictures"), 5)
    compress("pictures")
    data = bytearray(Path("codes.aek").read_bytes())
    with Archive.open("codes.aek") as archive:
        (place,) = archive.places
    altered = data[: place.offset + 40] + bytes([data[place.offset + 40] ^ 1]) + data[place.offset + 41 :]
    for damaged, lost in (
        (altered, "5 images with paths (counted from 0: 0 to 4), in 1 damaged block"),
        (data[: place.offset + 40], "an unknown number of images, if any, in 40 bytes that are no whole block"),
    ):
        Path("codes.aek").write_bytes(damaged)
        said = one_line_error(aekit("reconstruct", "codes.aek"))
        assert "damaged" in said and said.endswith("use another copy: no image of this one is whole")
        said = one_line_error(aekit("reconstruct", "codes.aek", "--salvage", "--out", "left"))
        assert said.endswith(f"found none; lost: {lost}; use another copy: no image of this one is whole")
        assert not Path("left").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compress", "pictures", "--out", "codes.aek"], "codes.aek: expected a path that is free"),
        (
            ["compress", "pictures", "--out", "new.aek", "--dtype", "float32"],
            "--dtype: expected uint8 for .aek files",
        ),
        (["compress", "pictures", "--out", "new.npy", "--append"], "--append: expected an --out that ends in .aek"),
        (["compress", "pictures", "--out", "codes.aek", "--append", "--overwrite"], "and no --overwrite"),
        (["compress", "array.npy", "--out", "codes.aek", "--append"], "of images without paths"),
        (["compress", "bad", "--out", "new.aek"], "at least one readable image"),
        (["compress", "bad", "--out", "codes.aek", "--append", "--on-error", "fail"], "x.png: empty file"),
        (["compress", "pictures", "--out", "broken.aek", "--append"], "broken.aek is cut short or damaged"),
        (["compress", "pictures", "--out", "new.aek", "--model", "old"], "expected frequency tables"),
        (["compress", "pictures", "--out", "folder.aek", "--append"], "found a folder"),
        (["reconstruct", "codes.aek", "--no-index"], "--no-index: expected codes stored as .npy"),
        (["reconstruct", "array.npy", "--salvage"], "--salvage: expected codes stored as .aek"),
        (["reconstruct", "codes.aek", "--only", "c/*"], "--only: expected a pattern that paths in codes.aek match"),
        (["reconstruct", "plain.aek", "--only", "*"], "--only: expected codes of images that have paths"),
        (["reconstruct", "plain.aek", "--original-size"], "--original-size: expected codes of a folder"),
        (["reconstruct", "none.aek"], "none.aek: expected an archive, found nothing there"),
        (["reconstruct", "folder.aek"], "folder.aek: expected an archive, found a folder"),
        (["reconstruct", "codes.aek", "--model", "old"], "expected frequency tables"),
        (["reconstruct", "codes.aek", "--out", "pictures", "--overwrite"], "aekit did not make it"),
        (["info", "broken.aek"], "broken.aek is cut short"),
    ],
)
def test_each_mistake_is_a_named_error(tmp_path: Path, pictures: Path, arguments: list[str], said: str) -> None:
    np.save("array.npy", made_images(3))
    compress("pictures")
    compress("array.npy", "plain.aek")
    Path("broken.aek").write_bytes(Path("codes.aek").read_bytes()[:-1])
    shutil.copytree(TINY, "old")
    manifest = json.loads(Path("old/model.json").read_text())
    del manifest["tables"]
    Path("old/model.json").write_text(json.dumps(manifest))
    Path("folder.aek").mkdir()
    Path("bad").mkdir()
    Path("bad/x.png").touch()
    before = tree(tmp_path)
    with pytest.raises(AekitError) as caught:
        invoke(*arguments)
    assert said in str(caught.value)
    assert tree(tmp_path) == before


def test_an_archive_that_names_an_image_twice_is_refused(tmp_path: Path, pictures: Path, tiny_codec: Codec) -> None:
    compress("pictures")
    with Archive.open("codes.aek", TINY) as archive:
        codes, records = archive.codes(), list(archive.records())
    from aekit.codes.archive import staged_archive

    with staged_archive(tmp_path / "twice.aek", tiny_codec.bundle, named=True) as made:
        made.add(codes[[0, 0]], [records[0], records[0]])
    with open_codes(tmp_path / "twice.aek") as opened, pytest.raises(AekitError, match="each path once"):
        jobs.reconstruct(opened, tmp_path / "out", tiny_codec)


# --- jobs that are stopped


def running_append(*prefix: str) -> "subprocess.Popen[str]":
    """An append of many images, one a batch, that has begun to write."""
    command = [*prefix, sys.executable, "-m", "aekit", "compress", "in.npy", "--out", "codes.aek", "--append"]
    running = subprocess.Popen([*command, "--batch-size", "1"], stderr=subprocess.PIPE, text=True)
    while not Path("codes.aek.part").exists():
        assert running.poll() is None
        time.sleep(0.01)
    return running


@pytest.fixture
def many(tmp_path: Path) -> bytes:
    """An archive of 5 images, and an array of many to append; returns the archive."""
    np.save("few.npy", made_images(5))
    compress("few.npy")
    np.save("in.npy", np.zeros((200_000, 16, 16), np.uint8))
    return Path("codes.aek").read_bytes()


def test_a_killed_append_leaves_the_old_archive_and_another_can_go_on(many: bytes, aekit: Run) -> None:
    with running_append() as running:
        said = one_line_error(aekit("compress", "few.npy", "--out", "codes.aek", "--append"))
        wanted = f"found another at work (process {running.pid}); wait until it has ended"
        assert said == f"aekit: codes.aek: expected one job that writes it, {wanted}"
        time.sleep(0.3)
        assert running.poll() is None
        running.kill()
    assert running.returncode == -signal.SIGKILL
    assert Path("codes.aek").read_bytes() == many
    with Archive.open("codes.aek") as archive:
        assert len(archive.codes()) == 5
    assert compress("few.npy", "codes.aek", "--append")["total"] == 10
    assert not Path("codes.aek.part").exists() and not Path("codes.aek.journal").exists()


def test_ctrl_c_leaves_the_old_archive_alone(many: bytes, tmp_path: Path) -> None:
    with running_append() as running:
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.startswith("aekit: interrupted; ") and len(said.splitlines()) == 1
    assert Path("codes.aek").read_bytes() == many


class Interrupted(Codec):
    """A codec whose user presses Ctrl-C when so many images are encoded."""

    left = 0

    def encode(self, images: Any, *given: Any, **options: Any) -> Any:
        self.left -= len(images)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().encode(images, *given, **options)


@pytest.mark.parametrize(("images", "kept"), [(300, 0), (4800, 4096)])
def test_of_an_append_whole_blocks_are_kept_and_known_failures_cost_none_of_them(
    pictures: Path, images: int, kept: int
) -> None:
    """Of 4,096 inputs each; a mark a batch of 100, so a few images fewer count as done."""
    for name in ("a/bad.png", "b/bad.png"):
        (pictures / name).touch()
    compress("pictures", "codes.aek")
    shutil.copy("codes.aek", "whole.aek")
    one = (pictures / "a/000.png").read_bytes()
    for number in range(5000):
        (pictures / f"a/{number:04d}.png").write_bytes(one)
    compress("pictures", "whole.aek", "--append", "--batch-size", 100)
    source, out, codec = open_source("pictures"), Path("codes.aek"), Interrupted.load(TINY, "cpu")
    codec.left = images
    with pytest.raises(KeyboardInterrupt) as caught:
        jobs.compress(source, out, codec, jobs.JobOptions(batch_size=100), append=True)
    notes = getattr(caught.value, "__notes__", [])
    said = int(notes[0].split()[0].replace(",", "")) if notes else 0
    assert kept - 120 < said <= kept  # the block began with what the archive held
    assert out.with_name("codes.aek.journal").exists() == (kept > 0)
    codec.left = 0  # stopped again at once: what was kept stays kept
    with pytest.raises(KeyboardInterrupt) as caught:
        jobs.compress(source, out, codec, jobs.JobOptions(batch_size=100, resume=True), append=True)
    notes = getattr(caught.value, "__notes__", [])
    assert notes == ([f"{said:,} inputs are done and kept: --resume goes on with the others"] if said else [])
    codec = Codec.load(TINY, "cpu")
    done = jobs.compress(source, out, codec, jobs.JobOptions(batch_size=100, resume=True), append=True)
    assert done.resumed == said
    assert out.read_bytes() == Path("whole.aek").read_bytes()


def test_a_finished_job_is_taken_back_through_a_link(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was killed between the renaming and the end: the link stays one, and its target has another name."""
    Path("store").mkdir()
    Path("store/ab12").touch()
    Path("codes.aek").symlink_to("store/ab12")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)  # the journal stays
        compress("pictures", "codes.aek", "--overwrite")
    whole = Path("store/ab12").read_bytes()
    assert Path("store/ab12.journal").exists()
    assert compress("pictures", "codes.aek", "--resume")["images"] == 12
    assert Path("codes.aek").is_symlink() and Path("store/ab12").read_bytes() == whole
    assert sorted(path.name for path in Path("store").iterdir()) == ["ab12"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
def test_a_full_disk_is_one_line_and_leaves_the_old_archive_alone(many: bytes, tmp_path: Path) -> None:
    np.save("in.npy", np.random.default_rng(0).integers(0, 256, (3000, 16, 16), np.uint8))
    limit = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({len(many) + 2000},) * 2); "
    limit += "sys.argv = ['aekit', *sys.argv[1:]]; runpy.run_module('aekit', run_name='__main__')"
    before = tree(tmp_path)
    command = [sys.executable, "-c", limit, "compress", "in.npy", "--out", "codes.aek", "--append"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, timeout=120)
    assert one_line_error(done).startswith("aekit: codes.aek could not be written: found File too large")
    assert {name: data for name, data in tree(tmp_path).items() if name in before} == before
