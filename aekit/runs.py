"""Where runs lie: runs/NAME, and runs/latest, a text file that names the newest. Needs neither torch nor the run."""

import hashlib
import json
from pathlib import Path
from typing import Any

from aekit.errors import SpecError
from aekit.json_files import read_json
from aekit.outputs.staging import staged_file

FOLDER, LATEST = Path("runs"), "latest"
CONFIG, PCA = "config.json", "pca.npz"
FORMAT_VERSION = 1
"""Version of a run's files; readers refuse a higher one."""


def resolve_run(path: Path) -> Path:
    """The run folder a user means: `path` itself, or, for runs/latest, the one that file names."""
    if path.name == LATEST and path.is_file():
        name = path.read_text(encoding="utf-8").strip()
        if name and Path(name).name == name:
            return path.with_name(name)
    return path


def point_latest(run: Path) -> None:
    """Make `latest` beside the run name it."""
    with staged_file(run.with_name(LATEST)) as part:
        part.write_text(run.name + "\n", encoding="utf-8")


def fresh_run(stem: str) -> Path:
    """A free path for a new run: runs/STEM, or runs/STEM-2 and so on."""
    path, number = FOLDER / stem, 2
    while path.exists():
        path, number = FOLDER / f"{stem}-{number}", number + 1
    return path


def config_checksum(values: dict[str, Any]) -> str:
    """SHA-256 of what config.json holds, by which an altered one is known: all but itself and the place of the images,
    which may move, as their fingerprint is checked whenever they are read."""
    covered = {name: value for name, value in values.items() if name != "sha256"}
    if isinstance(config := covered.get("config"), dict):
        covered["config"] = {name: value for name, value in config.items() if name != "data"}
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def run_of_model(run: Path, run_id: object) -> dict[str, object] | None:
    """The settings of the run folder `run` if it is, by its run_id, the one a model came from, and unaltered."""
    try:
        values = read_json(run / CONFIG, SpecError, "the settings of a run", newest=FORMAT_VERSION)
    except (OSError, SpecError):
        return None
    if run_id is None or values.get("run_id") != run_id:
        return None
    if values.get("sha256") != config_checksum(values):
        return None
    config = values.get("config")
    return config if isinstance(config, dict) else None
