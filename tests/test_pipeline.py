"""pipeline: the same blocks whoever reads; batches filled; the kind of worker taken from the files."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, tree, write_pictures
from PIL import Image

import aekit.images.reading
from aekit import jobs
from aekit.codes.npy import CodeFile
from aekit.errors import BundleError
from aekit.images.reading import plan_reading, reading
from aekit.images.records import ImageBlock
from aekit.images.sources import ArraySource, FolderSource, open_source
from aekit.jobs import JobOptions
from aekit.model.codec import Codec
from aekit.spec import Geometry
from aekit.workers import HERE, Plan

GEOMETRY = Geometry(16, 16, 1)


@pytest.fixture
def mixed(tmp_path: Path) -> FolderSource:
    """61 small PNG files, every seventh of which is not one."""
    folder = tmp_path / "mixed"
    write_pictures(folder, 61)
    for path in sorted(folder.rglob("*.png"))[::7]:
        path.write_bytes(b"no picture")
    source = open_source(str(folder))
    assert isinstance(source, FolderSource)
    return source


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_blocks_are_full_and_hold_every_input_once(mixed: FolderSource, batch: int) -> None:
    whole = mixed.read(0, len(mixed), GEOMETRY)
    images, records, stops = [], [], []
    with reading(mixed, GEOMETRY, batch) as blocks:
        for stop, block in blocks:
            images.append(block.images.copy())
            records += block.records
            stops.append(stop)
            assert stop == len(records)
            assert sum(not record.error for record in block.records) == len(block.images)
    assert [len(block) for block in images[:-1]] == [batch] * (len(images) - 1)
    assert tuple(records) == whole.records
    assert np.array_equal(np.concatenate(images), whole.images)


def test_reading_can_begin_at_any_input(mixed: FolderSource) -> None:
    for first in (0, 1, 30, 60):
        with reading(mixed, GEOMETRY, 8, first=first) as blocks:
            taken = [(stop, block.images.copy(), block.records) for stop, block in blocks]
        rest = mixed.read(first, len(mixed), GEOMETRY)
        assert np.array_equal(np.concatenate([images for _, images, _ in taken]), rest.images)
        assert tuple(record for _, _, records in taken for record in records) == rest.records
        assert taken[-1][0] == len(mixed)


def test_code_files_are_the_same_bytes_however_they_are_made(mixed: FolderSource, tmp_path: Path) -> None:
    made = set()
    for number, (workers, batch, runs) in enumerate([(0, 256, 1), (1, 5, 2), (2, 7, 1), (4, 16, 2)]):
        codec, out = Codec.load(TINY, "cpu", 2, runs), tmp_path / str(number) / "codes.npy"
        summary = jobs.compress(mixed, out, codec, JobOptions(workers=workers, batch_size=batch))
        assert len(summary.skipped) == 9
        made.add(tuple(sorted(tree(out.parent).items())))
    assert len(made) == 1


def test_a_new_process_forks_its_readers_and_one_that_ran_spawns_them(mixed: FolderSource, tmp_path: Path) -> None:
    # Both in one: what a script that uses the codec before and after may do.
    code = f"""
import multiprocessing, sys
from pathlib import Path
from aekit import jobs
from aekit.model.codec import Codec
from aekit.images.sources import open_source
if __name__ == "__main__":
    methods, get = [], multiprocessing.get_context
    multiprocessing.get_context = lambda method: methods.append(method) or get(method)
    codec = Codec.load({str(TINY)!r})
    for name in ("a.npy", "b.npy"):
        jobs.compress(open_source({str(mixed.root)!r}), Path(name), codec, jobs.JobOptions(workers=2))
    print(*methods)
"""
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == (["fork", "spawn"] if sys.platform == "linux" else ["spawn", "spawn"])
    assert done.stderr == ""
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_pictures_are_the_same_bytes_whoever_writes_them(pictures: Path, tiny_codec: Codec, tmp_path: Path) -> None:
    jobs.compress(open_source(str(pictures)), tmp_path / "codes.npy", tiny_codec)
    made = []
    for workers in (0, 1, 2):
        out = tmp_path / f"back-{workers}"
        jobs.reconstruct(
            CodeFile.open(tmp_path / "codes.npy"), out, tiny_codec, JobOptions(workers=workers, batch_size=5)
        )
        made.append(tree(out))
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 13


def test_the_plan_follows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = tmp_path / "few"
    write_pictures(few, 10)
    assert plan_reading(open_source(str(few))) == HERE
    assert plan_reading(open_source(str(few)), 3) == Plan("processes", 3)
    large = tmp_path / "large"
    large.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(large / "a.jpg", quality=95)
    assert plan_reading(open_source(str(large)), 3) == Plan("threads", 3)
    assert plan_reading(open_source(str(large)), 0) == HERE
    assert plan_reading(ArraySource("array", np.zeros((9, 16, 16, 1), np.uint8)), 3) == HERE
    monkeypatch.setattr(aekit.images.reading, "cores", lambda: 5)
    many = FolderSource(few, tuple(f"a/{row:06d}.png" for row in range(100_000)))  # most of them are not there
    assert plan_reading(many) == Plan("processes", 5)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="measures memory by wait4")
def test_a_mapped_array_does_not_fill_the_memory(tmp_path: Path) -> None:
    array = tmp_path / "images.npy"
    mapped = np.lib.format.open_memmap(array, "w+", np.uint8, (400_000, 16, 16))
    mapped[:] = 7
    mapped.flush()
    del mapped

    def peak(rows: int) -> int:
        code = (
            "from pathlib import Path; import numpy as np; from aekit import jobs; "
            "from aekit.model.codec import Codec; "
            "from aekit.images.sources import ArraySource, open_source; "
            f"source = open_source({str(array)!r}); source = ArraySource(source.name, source.array[:{rows}]); "
            f"jobs.compress(source, Path('codes-{rows}.npy'), Codec.load({str(TINY)!r}), jobs.JobOptions(4096))"
        )
        child = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    assert peak(400_000) - peak(20_000) < 30e6  # the array has 102 MB


@pytest.mark.parametrize("workers", [0, 2])
def test_files_are_read_while_the_model_opens(mixed: FolderSource, workers: int) -> None:
    """What opens it runs once, before the first block is handed on; with workers, reading does not wait for it."""
    opened = list[int]()

    def opening() -> None:
        time.sleep(0.2)
        opened.append(threading.get_ident())

    with reading(mixed, GEOMETRY, 8, workers, meanwhile=opening) as blocks:
        assert len(opened) == 1 and (opened[0] == threading.get_ident()) == (workers == 0)
        taken = [(stop, block.images.copy(), block.records) for stop, block in blocks]
    whole = mixed.read(0, len(mixed), GEOMETRY)
    assert np.array_equal(np.concatenate([images for _, images, _ in taken]), whole.images)
    assert tuple(record for _, _, records in taken for record in records) == whole.records


def test_no_more_is_read_ahead_than_memory_allows(mixed: FolderSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aekit.images.reading, "_MOST_AHEAD", 3 * 8 * GEOMETRY.pixels)
    copied, replace = list[ImageBlock](), aekit.images.reading.replace
    third, fourth = threading.Event(), threading.Event()

    def counting(block: ImageBlock, **new: Any) -> ImageBlock:
        copied.append(replace(block, **new))
        if len(copied) >= 3:
            (third if len(copied) == 3 else fourth).set()
        return copied[-1]

    def opening() -> None:
        """Stay busy until three blocks were read ahead, then give a fourth one, which may not come, the time to."""
        assert third.wait(60)
        fourth.wait(0.2)

    monkeypatch.setattr(aekit.images.reading, "replace", counting)
    with reading(mixed, GEOMETRY, 8, 2, meanwhile=opening) as blocks:
        assert len(copied) == 3
        assert sum(len(block.records) for _, block in blocks) == len(mixed)


def test_a_model_that_does_not_open_is_the_error(mixed: FolderSource) -> None:
    def failing() -> None:
        raise BundleError("model", expected="one", found="none")

    with pytest.raises(BundleError), reading(mixed, GEOMETRY, 8, 2, meanwhile=failing):
        pass
    assert not multiprocessing.active_children()
