"""image folders: which files are found, and which are never opened."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from pictures import RGB, colours
from PIL import Image

from aekit.errors import ImageError, SourceError
from aekit.images.decode import decode_file
from aekit.images.paths import find_images


def test_images_are_found_below_the_folder_in_sorted_order_by_suffix_of_any_case(tmp_path: Path) -> None:
    names = ["z.png", "a/b.JPG", "a/b/c.Jpeg", "a.webp", "B.TIF", "b.tiff", "c.bmp", " sp ace.png", "new\nline.png"]
    for name in [*names, "notes.txt", "png", ".png", "a.png.bak", "x.gif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == sorted(names)


def test_names_that_are_not_utf8_are_found_and_read(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "ok.png")
    os.rename(os.fsencode(tmp_path / "ok.png"), os.fsencode(tmp_path) + b"/\xff\xfe.png")
    paths = find_images(tmp_path)
    assert [os.fsencode(path) for path in paths] == [b"\xff\xfe.png"]
    np.testing.assert_array_equal(decode_file(tmp_path / paths[0], RGB)[0], colours())


def test_only_regular_files_are_found_and_a_pipe_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "in.png").touch()
    assert find_images(tmp_path) == ["folder.png/in.png"]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir(), outside.mkdir()
    (outside / "far.png").touch()
    (inside / "near.png").touch()
    (inside / "up").symlink_to(inside, target_is_directory=True)
    (inside / "away").symlink_to(outside, target_is_directory=True)
    (inside / "again").symlink_to(outside, target_is_directory=True)
    (inside / "file.png").symlink_to(outside / "far.png")
    assert find_images(inside) == ["again/far.png", "file.png", "near.png"]


@pytest.mark.parametrize("target", ["nowhere.png", "link.png"])
def test_a_link_to_nothing_or_to_itself_is_listed_and_reported_when_read(tmp_path: Path, target: str) -> None:
    (tmp_path / "link.png").symlink_to(target)
    assert find_images(tmp_path) == ["link.png"]
    with pytest.raises(ImageError, match=r"link\.png: "):
        decode_file(tmp_path / "link.png", RGB)


def test_a_folder_that_is_missing_a_file_or_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, found in [("missing", "nothing there"), ("file", "a file"), ("empty", "none")]:
        with pytest.raises(SourceError, match=found):
            find_images(tmp_path / name)


def test_a_socket_is_never_opened_and_a_pipe_is_refused_even_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(tmp_path / "socket.png"))
    with listening:
        with pytest.raises(SourceError, match="found none"):
            find_images(tmp_path)
        for name in ("pipe.png", "socket.png", "."):
            with pytest.raises(ImageError, match="not a regular file"):
                decode_file(tmp_path / name, RGB)


def test_a_name_of_255_bytes_and_one_with_a_line_end_are_read_and_listed_in_one_line(tmp_path: Path) -> None:
    names = ["ü" * 125 + "x.png", "\r\n.png"]
    assert len(os.fsencode(names[0])) == 255
    for name in names:
        Image.fromarray(colours()).save(tmp_path / name)
    assert find_images(tmp_path) == sorted(names)
    for name in names:
        np.testing.assert_array_equal(decode_file(tmp_path / name, RGB)[0], colours())
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageError) as caught:
            decode_file(tmp_path / name, RGB)
        assert "\n" not in str(caught.value)
