"""Sources of several files: named one by one, by a pattern, or in a list file."""

import os
import re
from pathlib import Path

import pytest
from conftest import TINY, Run, one_line_error, tree, write_pictures

from aekit import jobs
from aekit.codes import Archive
from aekit.errors import OutputError, SourceError
from aekit.images import gathering
from aekit.images.sources import FolderSource, open_source
from aekit.model.codec import Codec
from aekit.spec import Geometry

GRAY = Geometry(16, 16, 1)
ALL = ("a/000.png", "a/002.png", "b/001.png", "b/003.png")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: test/a/000.png to test/b/003.png, a hidden file, a hidden folder and a text."""
    write_pictures(tmp_path / "test", 4)
    for name in ("a/.z.png", ".h/z.png"):
        (tmp_path / "test" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "test" / name).write_bytes((tmp_path / "test/a/000.png").read_bytes())
    (tmp_path / "test/notes.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(*texts: str) -> tuple[str, tuple[str, ...]]:
    source = open_source(texts)
    assert isinstance(source, FolderSource)
    assert len(source.read(0, 9, GRAY).images) == len(source)  # the paths lead to the images
    return str(source.root), source.paths


def test_paths_are_relative_to_the_deepest_common_folder(here: Path) -> None:
    assert opened("test/b/003.png", "test/b/001.png", "./test/b/001.png") == ("test/b", ("001.png", "003.png"))
    assert opened("test/b/003.png", "test/a/000.png") == ("test", ("a/000.png", "b/003.png"))
    assert opened("test/b", "test/a/000.png") == ("test", ("a/000.png", "b/001.png", "b/003.png"))
    assert opened("test", "test/a") == ("test", (".h/z.png", "a/.z.png", *ALL))
    assert opened("test/b/001.png", str(here / "test/a/000.png")) == (str(here / "test"), ("a/000.png", "b/001.png"))
    os.symlink(here / "test/a", here / "link")  # link/.. is test, not the working folder
    assert opened("link/../b/001.png", "test/a/000.png") == (str(here / "test"), ("a/000.png", "b/001.png"))


def test_a_pattern_finds_what_a_shell_would(here: Path) -> None:
    assert opened("test/**/*.png") == ("test", ALL)
    assert opened("test/[!b]/*.png") == ("test", ALL[:2])
    assert opened("test/*") == ("test", ("a/.z.png", *ALL))  # a folder is read whole
    assert opened("test/**") == ("test", (".h/z.png", "a/.z.png", *ALL))
    assert opened("**/00[01].png") == (".", ("test/a/000.png", "test/b/001.png"))
    os.symlink(here / "test", here / "test/loop")
    assert opened("test/**/*.png") == ("test", ALL)
    (here / "test/[a].png").write_bytes((here / "test/a/000.png").read_bytes())
    assert opened("test/[a].png", "test/b/001.png") == ("test", ("[a].png", "b/001.png"))  # a name, not a pattern
    for pattern in ("test/*.txt", "nowhere/*.png", "test/*/../*.png"):
        with pytest.raises(SourceError, match="expected"):
            open_source(pattern)


def test_a_list_names_files_relative_to_its_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "list.txt").write_bytes(b"\xef\xbb\xbftest/a/000.png\r\n\n" + os.fsencode(here / "test/b/001.png"))
    expected = (str(here / "test"), ("a/000.png", "b/001.png"))
    assert opened("@list.txt") == expected
    monkeypatch.chdir(here / "test")
    assert opened(gathering.everywhere("@../list.txt")) == opened("@../list.txt") == expected


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 lines"),
        (b"test/a/000.png\n" + b"x" * 4097, "a line of 4,097 bytes"),
        (b"test/a/000.png\n" * 4, "4 lines"),
        (b"a.png\nb\0.png", r"a.png \(nothing there\), .*b.*embedded null byte"),
        (b"pipe.png", "pipe.png .a pipe.; a list names images, by paths relative to its folder"),
        (b"test", "test .a folder."),
        (b"test/notes.txt", "no image file"),
        (None, "No such file"),
    ],
)
def test_a_list_that_can_not_serve_is_one_error(
    here: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, found: str
) -> None:
    monkeypatch.setattr(gathering, "MAX_LISTED", 3)
    os.mkfifo(here / "pipe.png")
    if content is not None:
        (here / "list.txt").write_bytes(content)
    with pytest.raises(SourceError, match=f"@list.txt: expected .*{found}"):
        open_source("@list.txt")


def test_missing_files_are_one_error_that_names_the_first(here: Path, aekit: Run) -> None:
    names = [f"{row}.png" for row in range(9)]
    done = aekit("compress", *names, "test/b/001.png", "--out", "x.npy", "--model", TINY)
    text = r"expected 10 image files or folders, found 0.png \(nothing there\), 1.png .*, 2.png .* and 6 more"
    assert re.search(text, one_line_error(done))
    for other in ("mnist-5k", "test/notes.txt"):
        with pytest.raises(SourceError, match="an array or a named set is given alone"):
            open_source([other, "test"])


def test_a_job_takes_several_files_and_appends_to_them(here: Path, tiny_codec: Codec) -> None:
    jobs.compress(open_source(["test/b/001.png", "test/a/000.png"]), Path("x.aek"), tiny_codec)
    added = jobs.compress(open_source("test/**/*.png"), Path("x.aek"), tiny_codec, append=True)
    assert (added.images, added.present) == (2, 2)
    with Archive.open(Path("x.aek")) as archive:
        assert sorted(record.path for record in archive.records()) == list(ALL)


def test_pictures_may_lie_beside_named_files_and_never_on_them(here: Path, tiny_codec: Codec) -> None:
    before = tree(here)
    named = open_source(["test/a/000.png", "test/b/001.png"])
    jobs.denoise(named, Path("test/clean"), tiny_codec)
    assert sorted(tree(here / "test/clean")) == ["a/000.png", "aekit.json", "b/001.png"]
    jobs.denoise(open_source("test/a/000.png"), Path("test/a/one"), tiny_codec)
    (here / "test/a/one/aekit.json").rename(here / "test/a/aekit.json")
    for given, out in (
        (named, "test/a"),
        (named, "test"),
        (open_source("test/a/000.png"), "test/a"),
        (open_source("test/**/*.png"), "test/more"),  # the next job would find the pictures
        (open_source(["test/a", "test/b/001.png"]), "test/a/more"),
    ):
        with pytest.raises(OutputError, match="apart from"):
            jobs.denoise(given, Path(out), tiny_codec, jobs.JobOptions(overwrite=True))
    assert {name: data for name, data in tree(here).items() if name in before} == before
