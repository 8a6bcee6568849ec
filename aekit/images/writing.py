"""Write pictures, all or none: as PNG files in a folder tree, or as one .npy array.

images, records ── staged_pictures(out) ──▶ out/a/000.png …, out/aekit.json      aekit.images.picture_files
                                        └──▶ out.npy [n, H, W, C]                aekit.images.picture_array
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import partial

from aekit._version import __version__
from aekit.cores import cores
from aekit.images.picture_array import ArrayWriter
from aekit.images.picture_files import FolderWriter, name_of, write_files
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
    with staged_folder(output.out, MARKER, overwrite=overwrite, journal=journal) as folder:
        if workers is None:
            size = geometry.pixels if isinstance(geometry, Geometry) else _SOME_SIZE
            workers = cores() if worth(inputs * (_FILE_COST + size * _PIXEL_COST)) else 0
        plan = Plan("processes", workers) if workers else HERE
        with pool(partial(write_files, folder, original_size), plan, name_of) as writers:
            files = FolderWriter(folder, writers, names, journal, original_size=original_size)
            journal.restore(files)
            yield files
        facts = {"made_by": f"aekit {__version__} {command}", "model_id": model_id, "images": files.count}
        (folder / MARKER).write_text(json.dumps(facts) + "\n", encoding="utf-8")
