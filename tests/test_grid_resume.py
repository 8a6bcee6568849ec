"""Jobs on a model of grid codes, stopped at many places: with --resume they go on to the same bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tree
from grid_models import BAD

import aekit.images.reading
from aekit import jobs
from aekit.codes.files import open_codes
from aekit.codes.message_files import open_messages
from aekit.images.sources import FolderSource
from aekit.jobs import JobOptions, Summary
from aekit.model.codec import Codec


def _compress(mixed: FolderSource, out: Path, codec: Codec, options: JobOptions) -> Summary:
    return jobs.compress(mixed, out / "codes.aek", codec, options)


def _back(mixed: FolderSource, out: Path, codec: Codec, options: JobOptions) -> Summary:
    with open_codes(mixed.root.parent / "all.aek") as stored:
        return jobs.reconstruct(stored, out / "back", codec, options)


def _array(mixed: FolderSource, out: Path, codec: Codec, options: JobOptions) -> Summary:
    alike = FolderSource(
        mixed.root, tuple(path for path in mixed.paths if path in ("a/000.png", *BAD, "a/008.png", "a/016.png"))
    )
    assert len(alike) == 6
    return jobs.denoise(alike, out / "clean.npy", codec, options)


def _denoise(mixed: FolderSource, out: Path, codec: Codec, options: JobOptions) -> Summary:
    return jobs.denoise(mixed, out / "clean", codec, options)


def _messages(mixed: FolderSource, out: Path, codec: Codec, options: JobOptions) -> Summary:
    return jobs.compress_to_messages(mixed, out / "sent", codec, options)


def _unpack(mixed: FolderSource, out: Path, codec: Codec, options: JobOptions) -> Summary:
    return jobs.reconstruct_messages(open_messages(mixed.root.parent / "sent"), out / "back", codec, options)


@pytest.mark.parametrize("job", [_compress, _back, _array, _denoise, _messages, _unpack])
def test_a_job_that_is_stopped_anywhere_goes_on_to_the_same_bytes(
    mixed: FolderSource,
    tmp_path: Path,
    grid_codec: Codec,
    job: Callable[..., Summary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aekit.images.reading, "BLOCK_PIXELS", 1000)
    monkeypatch.setattr("aekit.codes.archive.grid_blocks.BLOCK_NUMBERS", 300)
    monkeypatch.setattr("aekit.codes.message_files.BLOCK_PIXELS", 1000)
    jobs.compress(mixed, tmp_path / "all.aek", grid_codec)
    if job is _unpack:
        jobs.compress_to_messages(mixed, tmp_path / "sent", grid_codec)
        for name in ("a/004.aem", "one.aem"):
            (tmp_path / "sent" / name).write_bytes(b"no message")
    seen: list[int] = []
    job(mixed, tmp_path / "whole", grid_codec, JobOptions(batch_size=3, workers=0, progress=seen.append))
    stops = seen[:-1]
    assert len(stops) >= (2 if job is _array else 5)

    def stop_at(place: int) -> Callable[[int], None]:
        def progress(done: int) -> None:
            if done >= place:
                raise KeyboardInterrupt

        return progress

    resumed = set[int]()
    for place in stops[:: max(len(stops) // 4, 1)]:
        out = tmp_path / f"stopped-{place}"
        with pytest.raises(KeyboardInterrupt):
            job(mixed, out, grid_codec, JobOptions(batch_size=3, workers=0, progress=stop_at(place)))
        summary = job(mixed, out, grid_codec, JobOptions(batch_size=3, workers=0 if resumed else 2, resume=True))
        resumed.add(summary.resumed)
        assert tree(out) == tree(tmp_path / "whole")
    assert max(resumed) > 0
