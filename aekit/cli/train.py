"""aekit train: learn an autoencoder from images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aekit.cli.common import JsonOption, duration, emit, need_extra, note, progress_line
from aekit.errors import OptionError
from aekit.runs import FOLDER, LATEST, PCA, fresh_run, point_latest, resolve_run

if TYPE_CHECKING:
    from aekit.training.checkpoint import Run
    from aekit.training.config import TrainConfig
    from aekit.training.data import TrainingData
    from aekit.training.trainer import Epoch


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="Images to learn from: mnist-5k (needs no download), mnist, fashion-mnist, a folder (read with its "
            "subfolders), an .npy or .npz array, or an idx file.",
            show_default="mnist-5k",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make.", show_default="runs/DATA-CODE_DIM")] = None,
    preset: Annotated[
        str,
        typer.Option(
            help="Settings to begin from: default; classic, the book's; classic-tuned, its network trained well."
        ),
    ] = "default",
    network: Annotated[str | None, typer.Option(help="mlp or conv.", show_default="mlp")] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Sizes between image and code, such as 512,256: an mlp's hidden layers, a conv's channels; 'none' for "
            "none.",
            show_default="the preset's",
        ),
    ] = None,
    objective: Annotated[str | None, typer.Option(help="What is minimised: plain.", show_default="plain")] = None,
    code_dim: Annotated[int | None, typer.Option(help="Numbers in a code.", show_default="32")] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Height x width to train at, 8 to 256, such as 32x32.", show_default="the images' own"),
    ] = None,
    gray: Annotated[
        bool | None,
        typer.Option("--gray/--rgb", help="Train on gray or colour images.", show_default="as the images are"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.", show_default="20")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.", show_default="the preset's")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="the preset's")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and noise.", show_default="0")] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Regular expression on paths: images it matches alike (frames of one video, parts of one batch) are "
            "held out together, so that validation does not see their twins."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, or the latest one, with its own settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train an autoencoder; a tenth of the images is held out and never trained on.

    Ctrl-C saves the state: the same command with --resume goes on from there.
    """
    need_extra("aekit train", "train", "torch", "safetensors", "sklearn")
    from aekit.training.config import make_config
    from aekit.training.data import load_training_data
    from aekit.training.trainer import choose_device

    given: dict[str, object] = {
        "network": network,
        "hidden": _sizes(hidden),
        "objective": objective,
        "code_dim": code_dim,
    }
    given |= {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "group_by": group_by}
    torch_device = choose_device(device)
    if resume:
        asked = [
            name for name, value in {**given, "data": data, "size": size, "gray": gray}.items() if value is not None
        ]
        if asked:
            raise OptionError("--resume", expected="no settings: a run keeps its own", found=", ".join(asked))
        run, loaded = _open_run(out or FOLDER / LATEST)
    else:
        text = data or "mnist-5k"
        channels = None if gray is None else 1 if gray else 3
        loaded = load_training_data(text, _size(size), channels, group_by or "")
        if loaded.kind in ("folder", "array"):
            text = str(Path(text).resolve())
        config = make_config(preset, **given, data=text)
        run = _new_run(out or fresh_run(f"{_stem(text)}-{config.code_dim}"), config, loaded)
    for record in loaded.skipped:
        note(f"skipped {record.path}: {record.error}")
    note(
        f"{run.path}: {len(loaded.train):,} images of {loaded.geometry} to learn from, "
        f"{len(loaded.validation):,} held out ({loaded.split}), {run.config.code_dim} numbers a code, on {torch_device}"
    )
    last = _run(run, loaded, torch_device, resume)
    if last is None:
        note(f"aekit: stopped; the state is saved: go on with `aekit train --resume --out {run.path}`")
        raise typer.Exit(130)
    result = {
        "run": str(run.path),
        "epochs": last.epoch,
        "cost": last.cost,
        "validation_mse": last.validation_mse,
        "seconds": round(last.seconds, 1),
        "skipped": [{"path": record.path, "error": record.error} for record in loaded.skipped],
    }
    lines = [
        f"{run.path}: {last.epoch} epochs in {duration(last.seconds)}, cost {last.cost:.4f}, "
        f"validation MSE {last.validation_mse:.5f}",
        "next: aekit export" + ("" if run.path.parent == FOLDER else f" {run.path}"),
    ]
    emit(result, lines, as_json)
    if loaded.skipped:
        raise typer.Exit(3)


def _run(run: "Run", data: "TrainingData", device: str, resume: bool) -> "Epoch | None":
    """Train with a line an epoch; None if the user stopped the run."""
    from aekit.training.trainer import Interrupted, train

    total = run.config.epochs * -(-len(data.train) // run.config.batch_size)

    def on_epoch(epoch: "Epoch") -> None:
        left = epoch.seconds / epoch.epoch * (run.config.epochs - epoch.epoch)
        note(
            f"epoch {epoch.epoch:>3}/{run.config.epochs}  cost {epoch.cost:.4f}  "
            f"validation {epoch.validation_mse:.5f}  {epoch.images_per_second:>8,.0f} images/s  {duration(left)} left"
        )

    try:
        with progress_line(total, "step") as show:
            return train(run, data, resume=resume, device=device, on_epoch=on_epoch, on_step=show)
    except Interrupted:
        return None


def _new_run(path: Path, config: "TrainConfig", data: "TrainingData") -> "Run":
    """The folder of a new run, with the baseline that evaluation will hold it against."""
    from aekit.evaluation.baselines import Pca
    from aekit.training.checkpoint import Run

    run = Run.create(path, config, data.geometry, data.facts())
    Pca.fit(data.train, config.code_dim).save(run.path / PCA)
    point_latest(run.path)
    return run


def _open_run(path: Path) -> "tuple[Run, TrainingData]":
    """A run that was begun, and the data it was begun with."""
    from aekit.training.checkpoint import Run

    run = Run.read(resolve_run(path))
    return run, run.load_data()


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise OptionError("--hidden", expected="sizes such as 512,256, or none", found=repr(text))
    return tuple(map(int, text.split(",")))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise OptionError("--size", expected="HEIGHTxWIDTH, such as 32x32", found=repr(text))
    return int(match[1]), int(match[2])


def _stem(data: str) -> str:
    """A run's name from its data: the set's, folder's or file's name, in plain characters."""
    return re.sub(r"[^\w.-]+", "-", Path(data).stem).strip("-.") or "images"
