"""Archives that grow: one job at a time, and whatever stops it leaves the old one."""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archives import BUNDLE, CODES, HEAD, RECORDS, model, written

from aekit.codes.archive import Archive, ArchiveWriter, container, staged_archive, writer
from aekit.codes.archive.container import read_frame
from aekit.codes.entropy import FrequencyTables
from aekit.errors import CodesError, ModelMismatch, OutputError, SpecError


def test_of_two_jobs_at_once_the_second_gets_an_error(tmp_path: Path) -> None:
    path = tmp_path / "codes.aek"
    for append in (False, True):
        with staged_archive(path, BUNDLE, named=True, append=append) as made:
            for second in (False, True):
                with (
                    pytest.raises(OutputError, match=r"codes\.aek: expected one job that writes it, found another"),
                    staged_archive(path, BUNDLE, named=True, append=second),
                ):
                    raise AssertionError
            made.add(CODES, RECORDS)
        with Archive.open(path, BUNDLE) as archive:
            assert len(archive) == (8 if append else 4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["codes.aek"]


def test_a_lock_that_came_too_late_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other job ends, and removes its journal, just before we lock what we opened."""
    import filelock

    path = tmp_path / "codes.aek"
    path.write_bytes(written(CODES, RECORDS))
    real, steps = filelock.lock_descriptor, iter([lambda: path.with_name("codes.aek.journal").unlink()])

    def lock(*arguments: Any, **options: Any) -> bool:
        next(steps, lambda: None)()
        return real(*arguments, **options)

    monkeypatch.setattr(filelock, "lock_descriptor", lock)
    with staged_archive(path, BUNDLE, named=True, append=True) as made:
        assert made.count == 4
        made.add(CODES, RECORDS)
        assert path.with_name("codes.aek.journal").exists()
    with Archive.open(path, BUNDLE) as archive:
        assert len(archive) == 8


class Stop(Exception):
    pass


def steps_of(path: Path, patch: pytest.MonkeyPatch, stop_at: int) -> int:
    """Append, failing at the stop_at-th write, flush to the disk or renaming; returns how many there were."""
    from aekit.outputs import staging as outputs

    counter = itertools.count()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(counter) == stop_at:
                raise Stop
            return real(*arguments, **options)

        return call

    patch.setattr(outputs.os, "replace", counted(outputs.os.replace))
    patch.setattr(writer.os, "fsync", counted(writer.os.fsync))
    patch.setattr(ArchiveWriter, "_write", counted(ArchiveWriter._write))
    patch.setattr(writer, "footer", counted(container.footer))
    with staged_archive(path, BUNDLE, named=True, append=True) as made:
        made.add(CODES, [dataclasses.replace(record, path=f"zz/{record.path}") for record in RECORDS])
    return next(counter)


def test_an_append_that_fails_anywhere_leaves_the_old_archive(tmp_path: Path, small_blocks: None) -> None:
    path = tmp_path / "codes.aek"
    before = written(CODES, RECORDS)
    for stop_at in range(100):
        path.write_bytes(before)
        with pytest.MonkeyPatch.context() as patch:
            try:
                steps = steps_of(path, patch, stop_at)
            except Stop:
                assert path.read_bytes() == before
                assert [entry.name for entry in tmp_path.iterdir()] == ["codes.aek"]
                continue
        break
    assert steps == stop_at == 9  # four blocks, the footer, three flushes to the disk, the name
    assert len(path.read_bytes()) > len(before)


@pytest.mark.parametrize("damage", [-1, -20, 12, 300])
def test_a_damaged_archive_is_not_appended_to(tmp_path: Path, damage: int, small_blocks: None) -> None:
    data = bytearray(written(CODES, RECORDS))
    data[damage] ^= 1
    path = tmp_path / "codes.aek"
    path.write_bytes(data)
    with pytest.raises((CodesError, SpecError)), staged_archive(path, BUNDLE, named=True, append=True):
        raise AssertionError
    assert path.read_bytes() == data


def test_an_append_must_be_of_the_same_kind(tmp_path: Path) -> None:
    path = tmp_path / "codes.aek"
    path.write_bytes(written(CODES, RECORDS))
    for bundle, named, error, said in (
        (BUNDLE, False, CodesError, "without paths, found .* with paths"),
        (dataclasses.replace(BUNDLE, variant="int8"), True, CodesError, "variant int8, .* variant fp32"),
        (dataclasses.replace(BUNDLE, model_id="0"), True, ModelMismatch, "expected codes of model 0"),
        (model(FrequencyTables.fit(CODES)), True, CodesError, "frequency tables"),
    ):
        with pytest.raises(error, match=said), staged_archive(path, bundle, named=named, append=True):
            raise AssertionError
    assert path.read_bytes() == written(CODES, RECORDS)


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real.aek", tmp_path / "codes.aek"
    real.write_bytes(written(CODES, RECORDS))
    real.chmod(0o640)
    link.symlink_to(real)
    with staged_archive(link, BUNDLE, named=True, append=True) as made:
        made.add(CODES, RECORDS)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    with Archive.open(real, BUNDLE) as archive:
        assert len(archive) == 8


def test_whole_blocks_of_an_unfinished_file_are_found(tmp_path: Path, small_blocks: None) -> None:
    with (tmp_path / "x.part").open("w+b") as file:
        made = ArchiveWriter(file, BUNDLE, named=True)
        made.add(CODES, RECORDS)
        made.add(CODES[:1], RECORDS[:1])
        begin = len(HEAD)
        places = container.scan(file, begin, file.seek(0, 2))
        assert [(place.inputs, place.rows) for place in places] == [(3, 2), (3, 2)]
        assert read_frame(file, places[1].offset, begin) is None
