"""Jobs on messages: a folder of pictures to a folder of messages and back."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Run, made_images, one_line_error, tree, write_pictures
from grid_models import made_pictures
from PIL import Image
from test_grid_jobs import assert_same, pictures_in

from aekit import Messages, jobs
from aekit.codes.files import open_codes
from aekit.codes.message_files import describe_message, open_messages
from aekit.errors import CodesError, ImageError, OptionError, OutputError, OutputExists, SourceError, TooManyFailures
from aekit.images.sources import ArraySource, open_source
from aekit.jobs import JobOptions, Summary
from aekit.model.codec import Codec

NAMES = ("a/0.aem", "a/1.jpg.aem", "a/1.png.aem", "b/c/2.aem")
FEW = JobOptions(batch_size=2, workers=0)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Four pictures of many sizes, of which two differ in their suffix alone, and one that is damaged."""
    for name, picture in zip(("a/0.png", "a/1.jpg", "a/1.png", "b/c/2.webp"), made_pictures(4), strict=True):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / name)
    (tmp_path / "in/b/bad.png").write_bytes(b"no picture")
    return tmp_path / "in"


def send(source: Path, out: Path, codec: Codec, options: JobOptions = FEW) -> Summary:
    return jobs.compress_to_messages(open_source(str(source)), out, codec, options)


def back(path: Path, out: Path, codec: Codec, options: JobOptions = FEW, **own: Any) -> Summary:
    return jobs.reconstruct_messages(open_messages(path), out, codec, options, **own)


def test_each_picture_becomes_a_message_and_a_picture_of_its_size(
    given: Path, tmp_path: Path, grid_codec: Codec
) -> None:
    sent = send(given, tmp_path / "sent", grid_codec)
    files = {name: data for name, data in tree(tmp_path / "sent").items() if name != "aekit.json"}
    assert (tuple(sorted(files)), sent.images, sent.bytes) == (NAMES, 4, sum(map(len, files.values())))
    assert [record.path for record in sent.skipped] == ["b/bad.png"]
    messages = Messages(grid_codec)
    picture = np.asarray(Image.open(given / "a/1.png"))
    assert files["a/1.png.aem"] == messages.pack(picture)
    wanted = {f"{name[:-4]}.png": messages.unpack(data) for name, data in files.items()}
    for number, options in enumerate((FEW, JobOptions(workers=2, batch_size=1))):
        assert back(tmp_path / "sent", tmp_path / f"out{number}", grid_codec, options).images == 4
        assert_same(pictures_in(tmp_path / f"out{number}"), wanted)
    back(tmp_path / "sent/a/0.aem", tmp_path / "sent/a/one", grid_codec)
    assert_same(pictures_in(tmp_path / "sent/a/one"), {"0.png": wanted["a/0.png"]})
    back(tmp_path / "sent", tmp_path / "some", grid_codec, only="b/*")
    assert list(pictures_in(tmp_path / "some")) == ["b/c/2.png"]


def test_an_array_and_a_vector_model_have_messages_too(tmp_path: Path, tiny_codec: Codec, grid_codec: Codec) -> None:
    images = made_images(5)
    jobs.compress_to_messages(ArraySource("a", images), tmp_path / "sent", tiny_codec, JobOptions(workers=2))
    back(tmp_path / "sent", tmp_path / "out.npy", tiny_codec)
    wanted = tiny_codec.decode(tiny_codec.encode(images, "uint8"))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), wanted)
    pictures = np.stack([made_pictures(1, seed=seed)[0] for seed in range(3)])
    jobs.compress_to_messages(ArraySource("a", pictures), tmp_path / "grids", grid_codec, FEW)
    back(tmp_path / "grids", tmp_path / "grids.npy", grid_codec)
    np.testing.assert_array_equal(np.load(tmp_path / "grids.npy"), grid_codec.reconstruct(pictures, "uint8"))


def test_damaged_and_foreign_messages_are_skipped_and_listed(given: Path, tmp_path: Path, grid_codec: Codec) -> None:
    send(given, tmp_path / "sent", grid_codec)
    whole = (tmp_path / "sent/a/0.aem").read_bytes()
    damaged = {
        "cut.aem": whole[:-3],
        "empty.aem": b"",
        "flipped.aem": whole[:-1] + bytes([whole[-1] ^ 1]),
        "other.aem": whole[:1] + b"??" + whole[3:],
        "text.aem": b"hello, hello, hello",
    }
    for name, data in damaged.items():
        (tmp_path / "sent" / name).write_bytes(data)
    done = back(tmp_path / "sent", tmp_path / "out", grid_codec)
    assert (done.images, sorted(pictures_in(tmp_path / "out"))) == (4, [f"{name[:-4]}.png" for name in NAMES])
    errors = {record.path: record.error for record in done.skipped}
    assert list(errors) == list(damaged)
    assert "found 0 bytes" in errors["empty.aem"]
    assert "it was altered" in errors["flipped.aem"]
    assert "another model" in errors["other.aem"]
    with pytest.raises(ImageError, match=r"cut\.aem: a damaged message: the words end"):
        back(tmp_path / "sent", tmp_path / "x", grid_codec, JobOptions(on_error="fail"))
    with pytest.raises(TooManyFailures, match="at most 4 inputs"):
        back(tmp_path / "sent", tmp_path / "x", grid_codec, JobOptions(max_failures="4"))
    for path in tmp_path.glob("sent/*/**/*.aem"):
        path.unlink()
    with pytest.raises(SourceError, match=r"at least one readable image, found cut\.aem"):
        back(tmp_path / "sent", tmp_path / "x", grid_codec)


def test_info_describes_a_message_and_decodes_it_with_its_model(tmp_path: Path, grid_codec: Codec) -> None:
    path, model = tmp_path / "x.aem", grid_codec.bundle.path
    data = Messages(grid_codec).pack(made_pictures(1)[0])
    path.write_bytes(data)
    known = describe_message(path, model)
    assert (known.facts["width"], known.facts["height"]) == (33, 20)
    assert "33x20 pixels" in known.lines[1]
    for other in (TINY, tmp_path):
        facts = describe_message(path, other).facts
        assert facts == {name: known.facts[name] for name in ("path", "bytes", "entropy_coder", "model_mark")}
    for damaged in (data[:-1], data[:4], b"\xff" + data[1:], None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(CodesError, match=r"x\.aem( is damaged, or no message)?: "):
            describe_message(path, model)


def test_a_picture_that_is_too_large_for_a_message_is_listed(
    given: Path, tmp_path: Path, grid_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aekit.jobs.messages.MAX_SYMBOLS", 100)
    done = send(given, tmp_path / "sent", grid_codec)
    assert (done.images, [record.path for record in done.skipped]) == (2, ["a/1.jpg", "b/bad.png", "b/c/2.webp"])
    assert "use an archive" in done.skipped[0].error


def test_overwrite_replaces_only_messages_that_aekit_wrote(given: Path, tmp_path: Path, tiny_codec: Codec) -> None:
    shutil.rmtree(given / "b")
    out, again = tmp_path / "sent", JobOptions(overwrite=True)
    send(given, out, tiny_codec)
    with pytest.raises(OutputExists, match="--overwrite"):
        send(given, out, tiny_codec)
    send(given, out, tiny_codec, again)
    for name, data in (("letter.txt", b"mine"), ("a/mine.aem", b"mine"), ("more.aem", (out / "a/0.aem").read_bytes())):
        (out / name).write_bytes(data)
        with pytest.raises(OutputExists, match=f"{name}.*(aekit did not|so aekit)"):
            send(given, out, tiny_codec, again)
        (out / name).unlink()
    with pytest.raises(OutputError, match="apart from"):
        back(out, out, tiny_codec, again)
    for name in ("x.npy", "x.aek", "x.aem", "x.jsonl"):
        with pytest.raises(OptionError, match="a folder for messages"):
            send(given, tmp_path / name, tiny_codec)


def test_an_interrupted_job_on_a_code_file_is_not_resumed_with_messages(
    given: Path, tmp_path: Path, grid_codec: Codec
) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    jobs.compress(open_source(str(given)), tmp_path / "codes.aek", grid_codec, FEW)
    send(given, tmp_path / "sent", grid_codec)
    with open_codes(tmp_path / "codes.aek") as codes, pytest.raises(KeyboardInterrupt):
        jobs.reconstruct(codes, tmp_path / "out", grid_codec, replace(FEW, batch_size=1, progress=stop))
    with pytest.raises(OutputError, match="the command"):
        back(tmp_path / "sent", tmp_path / "out", grid_codec, replace(FEW, batch_size=1, resume=True))


def test_the_commands(tmp_path: Path, aekit: Run) -> None:
    write_pictures(tmp_path / "in", 3)
    model = ("--model", TINY)
    for options in (("--append",), ("--dtype", "float32")):
        assert "--messages: expected no" in one_line_error(
            aekit("compress", "in", "--out", "sent", "--messages", *options, *model)
        )
    done = aekit("compress", "in", "--out", "sent/", "--messages", *model)
    assert done.stdout.startswith("3 messages -> sent (")
    (tmp_path / "sent/b/001.aem").write_bytes(b"damaged")
    done = aekit("reconstruct", "sent", "--out", "back", *model)
    assert (done.returncode, done.stderr.count("skipped b/001.aem: a message")) == (3, 1)
    assert sorted(tree(tmp_path / "back")) == ["a/000.png", "a/002.png", "aekit.json"]
    assert "--original-size: expected codes in a code file" in one_line_error(
        aekit("reconstruct", "sent", "--original-size", *model)
    )
