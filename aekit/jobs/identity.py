"""What a job is, so that one which was cut short is resumed by the same job alone: its facts, outputs and journal."""

import contextlib
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from aekit._version import __version__
from aekit.codes.files import ARCHIVE
from aekit.errors import OptionError
from aekit.images.writing import MARKER
from aekit.model.codec import Codec
from aekit.outputs.journal import Journal, complete, journaled
from aekit.outputs.staging import check_folder_free, check_free


def job_facts(command: str, codec: Codec, batch_size: int, **others: object) -> dict[str, object]:
    """What a job's result depends on. That of the graphs is not known to depend on batches and threads, but nobody
    promises that of every processor: a job that is resumed runs the very batches it would have run."""
    if batch_size < 1:
        raise OptionError("--batch-size", expected="1 or more", found=str(batch_size))
    files = [codec.bundle.manifest.get(name) for name in ("files", "tables")]
    return {
        "the command": command,
        "the version of aekit": __version__,
        "the model": f"{codec.model_id} {codec.bundle.variant}",
        "the graphs": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16],
        "--batch-size": batch_size,
        "runs of the graph at a time (--threads)": codec.runs,
        "threads of a run (--threads)": codec.threads,
        **others,
    }


def agreed_providers(journal: Journal, codec: Codec, *roles: str) -> str:
    """The providers that run these graphs, which a resumed job must share."""
    providers = " and ".join({codec.provider(role): None for role in roles})
    from onnxruntime import __version__ as version

    journal.agree({"the provider": f"{providers} of onnxruntime {version}"})
    return providers


@contextlib.contextmanager
def job_journal(
    out: Path, files: Sequence[Path], facts: dict[str, object], *, resume: bool, overwrite: bool
) -> Iterator[Journal]:
    """Yield the journal of a job whose outputs are `files`. With `overwrite` they may be there already.

    Raises OutputError if they are in the way, or the journal can't be opened (see aekit.outputs.journal.journaled).
    """
    if not resume:
        complete(*files)
        _check_files(files, overwrite)  # before anything that an earlier job has left is given up
    with journaled(out, facts, resume=resume) as journal:
        journal.take_back(*files)
        _check_files(files, overwrite, journal.known)
        yield journal


def _check_files(files: Sequence[Path], overwrite: bool, known: Collection[int] = ()) -> None:
    for file in files:
        if file.suffix in (".npy", ".jsonl", ARCHIVE):
            check_free(file, overwrite=overwrite, known=known)
        else:
            check_folder_free(file, MARKER, overwrite=overwrite)
