"""The layers of the package: every import points down, and a room of the same layer is never imported."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("_version", "errors", "files", "lazy", "signals"),
    ("spec", "registry", "cores", "workers", "json_files"),
    ("outputs",),
    ("images", "runs"),
    ("pca", "model"),
    ("codes",),
    ("jobs",),
    ("evaluation", "training"),
    ("exporting",),
    ("cli",),
)
"""Rooms of aekit from the lowest layer to the highest. A room imports rooms of lower layers alone."""
LAYER = {room: number for number, layer in enumerate(LAYERS) for room in layer}
ENTRANCES = ("__init__", "__main__")
"""The package's own entrances, which may name any room."""
PLACES = [
    *((path, path.relative_to(ROOT / "aekit").parts[0]) for path in (ROOT / "aekit").rglob("*.py")),
    *((path, "exporting") for path in (ROOT / "export").rglob("*.py")),
]


def imported_rooms(path: Path) -> set[str]:
    """Rooms of aekit that a file imports anywhere, inside its functions too."""
    rooms = set[str]()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module == "aekit":
            rooms |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aekit."):
            rooms.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("aekit.")}
    return rooms


@pytest.mark.parametrize(("path", "part"), PLACES, ids=lambda value: str(value).removeprefix(f"{ROOT}/"))
def test_every_import_points_down(path: Path, part: str) -> None:
    room = part.removesuffix(".py")
    if room in ENTRANCES:
        return
    upward = {other for other in imported_rooms(path) - {room} if LAYER[other] >= LAYER[room]}
    assert not upward, f"{room} imports {sorted(upward)}, which lie no lower"
