"""What is fuzzed: for each kind of file that aekit reads, good ones to begin from and what is done with a changed one.

A target's `run` may return or raise an AekitError; it raises Wrong where an answer differs from what a checksum or a
documented rule promises. Anything else that comes out of it is a finding. The targets stand by subject in
fuzz_targets_images.py, fuzz_targets_codes.py, fuzz_targets_grids.py, fuzz_targets_journals.py and
fuzz_targets_models.py.
"""

from collections.abc import Callable
from pathlib import Path

import fuzz_targets_codes as codes
import fuzz_targets_grids as grids
import fuzz_targets_images as images
import fuzz_targets_journals as journals
import fuzz_targets_models as models
from fuzz_targets_base import Target, Wrong

__all__ = ["TARGETS", "Target", "Wrong"]

TARGETS: dict[str, Callable[[Path], Target]] = {
    "image": images.image,
    "tiff": images.tiff,
    "jpeg": images.jpeg,
    "npy": images.npy,
    "npz": images.npz,
    "idx": images.idx,
    "index": codes.index,
    "codes": codes.codes,
    "archive": codes.archive,
    "forged": codes.forged,
    "grid-archive": grids.archive,
    "grid-index": grids.index,
    "message": grids.message,
    "entropy": codes.entropy,
    "tables": codes.tables,
    "journal": journals.journal,
    "finished": journals.finished,
    "manifest": models.manifest,
    "graph": models.graph,
    "components": models.components,
    "config": models.config,
    "checkpoint": models.checkpoint,
    "resume": models.resume,
    "json": models.json_values,
}
"""Targets by name; each is made in a folder of its own."""
