"""aekit doctor: show what this install can run a model on."""

from pathlib import Path
from typing import Annotated

import typer

from aekit.cli.options import JsonOption
from aekit.cli.printing import emit, note


def doctor(
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            envvar="AEKIT_MODEL",
            help="Model folder, as `aekit export` writes it. A folder that is given must be a model.",
            show_default="model, if it is one",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check this install: versions, providers, and where the model really runs. Exit status 1 if something is wrong.

    Without a model, only the install is checked.
    """
    from aekit.model.bundle import MANIFEST, Bundle
    from aekit.model.doctor import examine

    folder = model or Path("model")
    there = model is not None or (folder / MANIFEST).exists()
    report = examine(Bundle.read(folder) if there else None)
    lines = [
        f"aekit {report.aekit}, Python {report.python}, {report.system}, {report.cores} cores",
        "versions: " + ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        f"onnxruntime wheel: {', '.join(report.wheels) or 'none'}",
        *([f"plugin providers: {', '.join(report.plugins)}"] if report.plugins else []),
        f"telemetry: {'on' if report.telemetry else 'off'}",
        f"providers on offer: {', '.join(report.offered)}",
    ]
    if not there:
        lines.append(f"no model at {folder}: give one with --model to see what runs it")
    for trial in report.trials:
        placed = ", ".join(f"{count} nodes on {name}" for name, count in trial.nodes.items())
        lines.append(f"{trial.graph} on {trial.provider}: {(trial.problem and f'no: {trial.problem}') or placed}")
    emit(report.to_dict(), lines, as_json)
    for problem in report.problems:
        note(f"aekit doctor: {problem}")
    if report.problems:
        raise typer.Exit(1)
