"""A run on the disk: its config, its metrics, its weights, and what resuming needs. No file of it is a pickle.

runs/NAME/config.json            settings, geometry, facts of the data
         metrics.jsonl           a line an epoch, for readers: resuming takes the epochs from the checkpoint
         checkpoint.safetensors  weights, averaged weights, optimizer state and position, replaced as a whole
         weights.safetensors     the weights to export: the averaged ones, of the best epoch
         .lock                   held by the process that trains the run
         pca.npz                 PCA of the code's size on the same images: the baseline of evaluation
runs/latest                      a text file with the NAME of the newest run

Files are replaced as a whole, so that a kill leaves the old or the new. Each carries a checksum: config.json and the
safetensors files a SHA-256 of what they hold, pca.npz the CRC-32 of the zip format; the tensors name their run too.
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
from aekit.json_files import parse_json, read_json, versioned, write_json
from aekit.outputs.staging import staged_file
from aekit.runs import CONFIG, FORMAT_VERSION, config_checksum
from aekit.spec import Geometry
from aekit.training.config import TrainConfig
from aekit.training.data import TrainingData, load_training_data

METRICS, LOCK = "metrics.jsonl", ".lock"
CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"

_LEFT_OVER = re.compile(r"\.lock|\.?config\.json(\.[0-9a-f]+)?\.part")
"""Names of the files that a new run may leave if it is killed before its config.json has its name."""
_SAME = ("train_images", "validation_images", "group_by", "fingerprint")
"""Facts of the data that must not change while a run lies on the disk."""


@dataclass(frozen=True)
class Run:
    """A run folder and what its config.json says."""

    path: Path
    config: TrainConfig
    geometry: Geometry
    data: dict[str, Any]
    """Facts of the training data: counts, split, fingerprint."""
    run_id: str
    """Random name by which a model knows the run it came from."""

    @classmethod
    def create(cls, path: Path, config: TrainConfig, geometry: Geometry, data: dict[str, Any]) -> Self:
        """Make the folder of a new run. Raises OutputExists if it is taken, OutputError if it can't be made."""
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

        Raises CheckpointError if it is no run folder, or config.json is damaged, altered or of a newer aekit, and
        OptionError if a setting is out of range.
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
            geometry = Geometry(**values["geometry"])
            data, run_id = dict(values["data"]), str(values["run_id"])
        except (KeyError, TypeError, ValueError) as error:
            expected = "a geometry and the data's facts"
            raise CheckpointError(str(file), expected=expected, found=reason(error)) from None
        return cls(path, TrainConfig.from_dict(values.get("config"), str(file)), geometry, data, run_id)

    def load_data(self) -> TrainingData:
        """Read the images the run was begun with again. Raises CheckpointError if they are not the same any more."""
        config = self.config
        size = self.geometry.height, self.geometry.width
        data = load_training_data(config.data, size, self.geometry.channels, config.group_by)
        if any(data.facts()[name] != self.data.get(name) for name in _SAME):
            raise CheckpointError(
                f"{config.data} has changed since {self.path} began",
                expected=f"{self.data.get('train_images')} + {self.data.get('validation_images')} images as they were",
                found=f"{len(data.train)} + {len(data.validation)} images",
                fix="bring the images back as they were, or train anew",
            )
        return data

    def save_tensors(self, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the file `name` as a whole; `state` is JSON-ready and comes back with the tensors."""
        text = json.dumps({**state, "format_version": FORMAT_VERSION, "run_id": self.run_id})
        with staged_file(self.path / name) as part:
            contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            try:
                save_file(contiguous, part, {"aekit": text, "sha256": _checksum(contiguous, text)})
            except SafetensorError as error:  # safetensors reports a full disk so
                raise OutputError(f"{self.path / name} could not be written", found=reason(error)) from error

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and state of the file `name`.

        Raises CheckpointError if it is missing, damaged, newer or of another run.
        """
        tensors, state = load_tensors(self.path / name)
        if state.get("run_id") != self.run_id:
            found = f"that of run {str(state.get('run_id'))[:80]}"
            raise CheckpointError(str(self.path / name), expected=f"the state of run {self.run_id}", found=found)
        return tensors, state

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training this run. Raises CheckpointError if one already does, OutputError if the
        lock can't be made."""
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
        """How far the run came, in words, if it was not trained to its end; else None."""
        if not (self.path / CHECKPOINT).exists():
            return "stopped before its first checkpoint"
        _, state = self.load_tensors(CHECKPOINT)
        if state.get("finished"):
            return None
        return f"stopped after step {state.get('step')} of {state.get('steps_in_all')}"

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs so far."""
        file = self.path / METRICS
        if not file.exists():
            return []
        try:
            return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise CheckpointError(str(file), expected="a JSON object a line", found=reason(error)) from error

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Replace the metrics with these epochs."""
        with staged_file(self.path / METRICS) as part:
            part.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")


def check_free(path: Path) -> None:
    """Raise OutputExists unless a new run may take the folder `path`: it is absent, empty, or holds only what a run
    left that was killed before its config.json was written."""
    if not os.path.lexists(path) or is_unbegun(path):
        return
    resumable = (path / CONFIG).is_file()
    raise OutputExists(path, "choose another --out" + (", or continue that run with --resume" if resumable else ""))


def is_unbegun(path: Path) -> bool:
    """Whether `path` is a folder that is empty or holds only working files of a run without a config.json."""
    try:
        return all(_LEFT_OVER.fullmatch(name) for name in os.listdir(path))
    except OSError:
        return False


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file written by save_tensors. Raises CheckpointError if it can't be, or was altered."""
    if file.exists() and not file.is_file():
        raise CheckpointError(str(file), expected="a regular file", found="a folder, a pipe or a device")
    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
            text = metadata.get("aekit", "null")
            state = versioned(
                parse_json(text, CheckpointError, str(file), most_values=10_000_000),  # it holds every epoch's metrics
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
    """Raise CheckpointError unless `tensors` are a state of `network`."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[:3]
        raise CheckpointError(where, expected="the weights of the network in config.json", found=f"differences: {odd}")


def _checksum(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 over the state's text and each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_sum(said: Any, found: str, where: str) -> None:
    if said != found:
        raise CheckpointError(
            f"{where} was altered",
            expected=f"SHA-256 {str(said)[:16]}…" if said else "its SHA-256 inside",
            found=f"{found[:16]}…",
            fix="bring it back as it was, or train anew",
        )
