"""The state of a source or a file: a text that changes when its content does. A resumed job compares it."""

import hashlib
import os
from pathlib import Path

import numpy as np

from aekit.images.sources import ArraySource, FileTree, Source


def state_of(source: Source | FileTree) -> str:
    """Return the number of inputs of a source, or of files, and a hash of what they hold now.

    The hash covers the path, size and time of change of each file; for an array that is in no file, its content.
    """
    digest = hashlib.sha256()
    if isinstance(source, FileTree):
        for path in source.paths:
            digest.update(f"{path}\0{_stamp(f'{source.root}/{path}')}\0".encode("utf-8", "surrogateescape"))
    elif isinstance(source, ArraySource) and not Path(source.name).is_file():
        digest.update(np.ascontiguousarray(source.array).data)
    else:
        digest.update(_stamp(source.name).encode())
    return f"{len(source):,} inputs of the state {digest.hexdigest()[:16]}"


def state_of_files(*paths: Path) -> str:
    """Return a hash of the size and time of change of each file, or of the fact that it is missing."""
    return hashlib.sha256(" ".join(_stamp(str(path)) for path in paths).encode()).hexdigest()[:16]


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "none"
    return f"{status.st_size} {status.st_mtime_ns}"
