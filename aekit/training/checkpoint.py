"""A run on the disk: config, metrics, weights, and the state to resume from. No file is a pickle.

runs/NAME/config.json            settings, geometry, facts of the data
         metrics.jsonl           one line per epoch, for people; resuming reads the epochs from the checkpoint
         checkpoint.safetensors  weights, averaged weights, optimizer state and position, replaced as a whole
         weights.safetensors     the weights to export: the averaged weights of the best epoch
         .lock                   locked by the process that trains the run
         pca.npz                 PCA with as many components as the code has numbers: the baseline of evaluation
runs/latest                      a text file with the NAME of the newest run

Files are replaced as a whole, so a kill leaves either the old file or the new one. Every file has a checksum:
config.json and the safetensors files store a SHA-256 of their content, and pca.npz has the CRC-32 of the zip format.
A safetensors file also names its run.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from aekit.errors import CheckpointError, OutputError, OutputExists, reason
from aekit.images.sources import in_words, open_source
from aekit.json_files import parse_json, read_json, versioned, write_json
from aekit.outputs.staging import staged_file
from aekit.runs import CONFIG, FORMAT_VERSION, config_checksum
from aekit.spec import Geometry, GridGeometry, read_geometry
from aekit.training.config import TrainConfig
from aekit.training.data import TrainingData, load_training_data
from aekit.training.pictures import PictureData, load_pictures

METRICS, LOCK = "metrics.jsonl", ".lock"
CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"

_LEFT_OVER = re.compile(r"\.lock|\.?config\.json(\.[0-9a-f]+)?\.part")
"""Pattern of the file names that a run leaves if it is killed before its config.json is complete."""
_SAME = ("train_images", "validation_images", "group_by", "fingerprint")
"""Names of the facts of the training data that must not change between the start of a run and its resumption."""


@dataclass(frozen=True)
class Run:
    """A run folder and the content of its config.json."""

    path: Path
    config: TrainConfig
    geometry: Geometry | GridGeometry
    data: dict[str, Any]
    """Facts of the training data: counts, split, fingerprint."""
    run_id: str
    """Random name of the run. A model stores it, so that the two can be matched."""

    @classmethod
    def create(cls, path: Path, config: TrainConfig, geometry: Geometry | GridGeometry, data: dict[str, Any]) -> Self:
        """Make a new run's folder. Raises OutputExists if the path is taken, OutputError if it can't be written."""
        check_free(path)
        run = cls(path, config, geometry, data, secrets.token_hex(8))
        values = {"format_version": FORMAT_VERSION, "run_id": run.run_id, "config": config.to_dict(), "data": data}
        values["geometry"] = dict(vars(geometry))
        values["sha256"] = config_checksum(values)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path} could not be made", found=error.strerror or reason(error)) from error
        write_json(path / CONFIG, values)
        return run

    @classmethod
    def read(cls, path: Path) -> Self:
        """Open the folder of a run.

        Raises CheckpointError if it is not a run folder, or if config.json is damaged, altered or written by a newer
        aekit. Raises OptionError if a setting is out of range, SpecError if the geometry is.
        """
        file = path / CONFIG
        try:
            values = read_json(file, CheckpointError, "a run's settings", newest=FORMAT_VERSION)
        except (FileNotFoundError, NotADirectoryError):
            begun = f"begin the run again with `aekit train --out {path}`" if is_unbegun(path) else ""
            fix = begun or "make one with `aekit train`"
            raise CheckpointError(str(path), expected=f"a run folder with {CONFIG}", found="none", fix=fix) from None
        _check_sum(values.get("sha256"), config_checksum(values), str(file))
        try:
            geometry = read_geometry(values["geometry"])
            data, run_id = dict(values["data"]), str(values["run_id"])
        except (KeyError, TypeError, ValueError) as error:
            expected = "a geometry and the data's facts"
            raise CheckpointError(str(file), expected=expected, found=reason(error)) from None
        config = TrainConfig.from_dict(values.get("config"), str(file))
        fitting = config.is_grid == isinstance(geometry, GridGeometry)
        if isinstance(geometry, GridGeometry) and fitting:
            fitting = geometry == config.grid_geometry(geometry.channels, geometry.max_side)
        if not fitting:
            expected = f"the geometry of network {config.network}, preset {config.preset}"
            raise CheckpointError(str(file), expected=expected, found=str(values["geometry"])[:160])
        return cls(path, config, geometry, data, run_id)

    def load_data(self) -> TrainingData | PictureData:
        """Read the training images again.

        Raises CheckpointError if they have changed since the run began, SourceError if they can't be read,
        OptionError if they no longer have one size and colour.
        """
        config = self.config
        geometry = self.geometry
        data: TrainingData | PictureData
        if isinstance(geometry, GridGeometry):
            data = load_pictures(open_source(config.data, "train"), geometry, config.group_by)
        else:
            size = geometry.height, geometry.width
            data = load_training_data(config.data, size, geometry.channels, config.group_by)
        if any(data.facts()[name] != self.data.get(name) for name in _SAME):
            raise CheckpointError(
                f"{in_words(config.data)} has changed since {self.path} began",
                expected=f"{self.data.get('train_images')} + {self.data.get('validation_images')} images as they were",
                found=f"{len(data.train)} + {len(data.validation)} images",
                fix="restore the images as they were, or train anew",
            )
        return data

    def save_tensors(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the file `name` as a whole. `state` is JSON-ready; load_tensors returns it with the tensors.

        Raises OutputError if the file can't be written.
        """
        text = json.dumps({**state, "format_version": FORMAT_VERSION, "run_id": self.run_id})
        with staged_file(self.path / name, follow=False) as part:
            contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            try:
                save_file(contiguous, part, {"aekit": text, "sha256": _checksum(contiguous, text)})
            except SafetensorError as error:  # safetensors reports a full disk so
                raise OutputError(f"{self.path / name} could not be written", found=reason(error)) from error

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the tensors and the state in the file `name`.

        Raises CheckpointError if the file is missing, damaged, written by a newer aekit, or belongs to another run.
        """
        tensors, state = load_tensors(self.path / name)
        if state.get("run_id") != self.run_id:
            found = f"the state of run {str(state.get('run_id'))[:80]}"
            raise CheckpointError(str(self.path / name), expected=f"the state of run {self.run_id}", found=found)
        return tensors, state

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run. Raises CheckpointError if another process trains it, OutputError if the lock can't be made."""
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            fix = "wait until it ends, or stop it"
            raise CheckpointError(f"{self.path} is being trained by another process", fix=fix) from None
        except OSError as error:
            raise OutputError(str(self.path / LOCK), found=error.strerror or reason(error)) from error
        try:
            yield
        finally:
            lock.release()

    def unfinished(self) -> str | None:
        """Say how far an unfinished run came; None if it is finished. Raises CheckpointError as load_tensors does."""
        if not (self.path / CHECKPOINT).exists():
            return "stopped before its first checkpoint"
        _, state = self.load_tensors(CHECKPOINT)
        if state.get("finished"):
            return None
        return f"stopped after step {state.get('step')} of {state.get('steps_in_all')}"

    def metrics(self) -> list[dict[str, Any]]:
        """Read the epochs so far, one dict each. Raises CheckpointError if metrics.jsonl is damaged or unreadable."""
        file = self.path / METRICS
        if not file.exists():
            return []
        try:
            return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise CheckpointError(str(file), expected="a JSON object a line", found=reason(error)) from error

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Replace metrics.jsonl with these epochs. Raises OutputError if it can't be written."""
        with staged_file(self.path / METRICS, follow=False) as part:
            part.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")


def check_free(path: Path) -> None:
    """Raise OutputExists unless `path` is absent, or is_unbegun says that a new run may use it."""
    if not os.path.lexists(path) or is_unbegun(path):
        return
    resumable = (path / CONFIG).is_file()
    raise OutputExists(path, "choose another --out" + (", or continue that run with --resume" if resumable else ""))


def is_unbegun(path: Path) -> bool:
    """Return whether `path` is an empty folder, or a folder with only the working files of a run that never began."""
    try:
        return all(_LEFT_OVER.fullmatch(name) for name in os.listdir(path))
    except OSError:
        return False


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the state from a file that Run.save_tensors wrote.

    Raises CheckpointError if the file is missing, unreadable, damaged, altered or written by a newer aekit.
    """
    if file.exists() and not file.is_file():
        raise CheckpointError(str(file), expected="a regular file", found="a folder, a pipe or a device")
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            text = metadata.get("aekit", "null")
            state = versioned(
                parse_json(text, CheckpointError, str(file), most_values=10_000_000),  # the metrics of every epoch
                CheckpointError,
                str(file),
                "a file of aekit",
                newest=FORMAT_VERSION,
            )
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(str(file), expected="a saved state", found="nothing there") from None
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(str(file), expected="a safetensors file of aekit", found=reason(error)) from error
    _check_sum(metadata.get("sha256"), _checksum(tensors, text), str(file))
    return tensors, state


def check_fit(network: torch.nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Raise CheckpointError, naming `where`, unless `tensors` have the names and shapes of the network's state."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != shapes:
        odd = sorted(set(wanted.items()) ^ set(shapes.items()))[:3]
        raise CheckpointError(where, expected="the weights of the network in config.json", found=f"differences: {odd}")


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    """Return the SHA-256 over the state's text and the name, dtype, shape and bytes of each tensor."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_sum(stored: Any, computed: str, where: str) -> None:
    if stored != computed:
        raise CheckpointError(
            f"{where} was altered",
            expected=f"SHA-256 {str(stored)[:16]}…" if stored else "its SHA-256 inside",
            found=f"{computed[:16]}…",
            fix="restore it from a copy, or train anew",
        )
