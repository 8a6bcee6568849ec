"""Keep the outputs of a job apart from the images that it reads."""

import os
from collections.abc import Sequence
from pathlib import Path

from aekit.errors import OutputError
from aekit.images.sources import FileTree, Source
from aekit.outputs.places import check_apart, write_errors


def check_apart_from(source: Source | FileTree, outs: Path | Sequence[Path], *others: Path, pictures: bool) -> None:
    """Raise OutputError if an output would replace images of the source, or one of the `others` that the job reads.

    `pictures` says that the job writes pictures. Then no output may lie in a folder that was searched for images,
    either: the next job would read the pictures too.
    """
    if not isinstance(source, FileTree):
        check_apart(outs, Path(source.name), *others)
        return
    check_apart(outs, *source.searched, *others, searched=source.searched if pictures else ())
    for out in [outs] if isinstance(outs, Path) else outs:
        with write_errors(out):
            here, root = os.path.realpath(out), os.path.realpath(source.root)
        if held := _held_by(here, root, source.paths):
            read = f"{source.root}/{held}, which is read"
            raise OutputError(str(out), expected=f"a place apart from {read}", fix="choose another --out")


def _held_by(out: str, root: str, paths: Sequence[str]) -> str | None:
    """Return the first of the paths below `root` that is `out` or lies in it."""
    if not os.path.relpath(root, out).startswith(os.pardir):
        return paths[0]
    below = os.path.relpath(out, root).replace(os.sep, "/")
    if below.startswith(os.pardir):
        return None
    return next((path for path in paths if path == below or path.startswith(f"{below}/")), None)
