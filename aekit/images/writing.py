"""Write files for images, all or none: PNG files or messages in a folder tree, or one .npy array of pictures.

images, records ── staged_pictures(out) ──▶ out/a/000.png …, out/aekit.json      aekit.images.picture_files
                                        └──▶ out.npy [n, H, W, C]                aekit.images.picture_array
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from aekit._version import __version__
from aekit.cores import cores
from aekit.images.folder_writer import FilesWritten, FolderWriter, Piece, name_of
from aekit.images.picture_array import ArrayWriter
from aekit.images.picture_files import write_pictures
from aekit.images.picture_output import MARKER, PictureOutput
from aekit.images.picture_writer import PictureWriter
from aekit.outputs.journal import Journal
from aekit.outputs.staging import open_part, staged_file, staged_folder
from aekit.spec import Geometry, GridGeometry
from aekit.workers import HERE, Plan, pool, worth

_FILE_COST, _PIXEL_COST = 50e-6, 20e-9
"""Time in seconds to write a PNG file: per file, and per byte of its pixels."""
_SOME_SIZE = 2**16
"""Bytes of pixels of a picture of unknown size, to choose who writes."""


@contextlib.contextmanager
def staged_pictures(
    output: PictureOutput,
    geometry: Geometry | GridGeometry,
    *,
    inputs: int,
    names: Sequence[str] = (),
    command: str,
    model_id: str,
    original_size: bool = False,
    journal: Journal,
    workers: int | None = None,
    overwrite: bool = False,
) -> Iterator[PictureWriter]:
    """Yield the writer of pictures. If the journal has marks of an earlier job, the writer has taken over its work.

    The output takes its name when the block ends. After an error nothing is left, unless the journal keeps it.
    `inputs` is the expected number of images; `names` gives the path of the file of each input, where images become
    files. A folder says which `command` and `model_id` made it. `original_size` scales each picture to the size in its
    record. `workers` processes write files; 0 stands for none, None chooses from the number of inputs.

    Raises OutputError if the output is in the way or can't be written, OptionError if pictures for one array differ in
    size, WorkerError if a process dies twice.
    """
    if output.is_array:
        with staged_file(output.out, journal) as part:
            with open_part(part, journal) as file:
                array = ArrayWriter(file, geometry, journal, output.out)
                journal.restore(array)
                yield array
            journal.finish(output.out)
        return
    size = geometry.pixels if isinstance(geometry, Geometry) else _SOME_SIZE
    seconds = inputs * (_FILE_COST + size * _PIXEL_COST)
    facts = {"made_by": f"aekit {__version__} {command}", "model_id": model_id}
    write = partial(write_pictures, original_size)
    with staged_files(output.out, write, seconds, names, facts, journal, workers, overwrite=overwrite) as files:
        yield files


@contextlib.contextmanager
def staged_files(
    out: Path,
    write: Callable[[Path, Piece], FilesWritten],
    seconds: float,
    names: Sequence[str],
    facts: dict[str, Any],
    journal: Journal,
    workers: int | None = None,
    *,
    overwrite: bool = False,
) -> Iterator[FolderWriter]:
    """Yield the writer of a folder with a file for each image, restored from the journal's marks.

    Args:
        out: the folder. It takes its name when the block ends.
        write: writes a piece below a folder. It must be picklable.
        seconds: time that one process takes for all files, about, to choose whether several write.
        names: path of the file of each input.
        facts: what the folder's marker says beside the number of images.
        journal: the journal of the job.
        workers: processes that write files; 0 for none, None to choose.
        overwrite: replace a folder at `out`, if aekit made it.

    Raises OutputError if the output is in the way or can't be written, WorkerError if a process dies twice.
    """
    with staged_folder(out, MARKER, overwrite=overwrite, journal=journal) as folder:
        if workers is None:
            workers = cores() if worth(seconds) else 0
        plan = Plan("processes", workers) if workers else HERE
        with pool(partial(write, folder), plan, name_of) as writers:
            files = FolderWriter(folder, partial(write, folder), writers, names, journal)
            journal.restore(files)
            yield files
        (folder / MARKER).write_text(json.dumps({**facts, "images": files.count}) + "\n", encoding="utf-8")
