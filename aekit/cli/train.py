"""aekit train: learn an autoencoder from images."""

import dataclasses
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aekit.cli import parse
from aekit.cli.common import JsonOption, duration, emit, need_extra, note, progress_line
from aekit.errors import OptionError, OutputExists
from aekit.runs import FOLDER, LATEST, PCA, fresh_run, point_latest, resolve_run

_FEW = 50
"""Held-out images below which their error is too rough to go by."""
_OVER = 1.05
"""Codes that take this many times the bytes asked for missed them."""

if TYPE_CHECKING:
    from aekit.pca import Pca
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
            help="Settings to begin from: default; small, graphs an eighth as large; classic, the book's; "
            "classic-tuned, its network trained well."
        ),
    ] = "default",
    network: Annotated[
        str | None, typer.Option(help="residual (starts as PCA), mlp or conv.", show_default="residual")
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Sizes between image and code, such as 512,512: a residual network's blocks, an mlp's hidden layers, "
            "a conv's channels; 'none' for none.",
            show_default="the preset's",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(help="What is learned: plain, denoising, variational, sparse or rate.", show_default="plain"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help="An option of the objective, more than once if need be. denoising: noise=gaussian, masking, "
            "salt-and-pepper or warp (for codes to search by); strength=0.5. variational: beta=1, warmup=0.1, "
            "likelihood=gaussian or bernoulli. sparse: penalty=topk or kl, active=32, target=0.05, weight=0.0001. "
            "rate: lambda=0.0005 or bytes=N.",
        ),
    ] = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            help="Train for codes of few bits: the objective rate, which minimises bits a pixel + this times the mean "
            "squared error in levels of 255. More gives better images and larger codes.",
            show_default="0.0005, with --objective rate",
        ),
    ] = None,
    size_bytes: Annotated[
        float | None,
        typer.Option("--bytes", help="The same, for codes of so many bytes an image on average: finds the --lambda."),
    ] = None,
    code_dim: Annotated[
        int | None, typer.Option(help="Numbers in a code.", show_default="32; with --bytes 3 for each")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Height x width to train at, 8 to 256, such as 32x32.", show_default="the images' own"),
    ] = None,
    gray: Annotated[
        bool | None,
        typer.Option("--gray/--rgb", help="Train on gray or colour images.", show_default="as the images are"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images.", show_default="20 to 200, by their number", min=1)
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Time to train for, such as 90s, 5m or 1h: as well as it allows.")
    ] = None,
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
    from aekit.training.devices import choose_device, choose_precision

    objective, options = parse.rate(lambda_, size_bytes, objective, parse.options(option))
    given: dict[str, object] = {
        "network": network,
        "hidden": parse.sizes(hidden),
        "objective": objective,
        "code_dim": code_dim,
        "options": options,
    }
    given |= {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed, "group_by": group_by}
    torch_device = choose_device(device)
    if resume:
        asked = [
            name
            for name, value in {**given, "data": data, "size": size, "gray": gray, "budget": budget}.items()
            if value is not None
        ]
        if asked:
            raise OptionError("--resume", expected="no settings: a run keeps its own", found=", ".join(asked))
        run, loaded, principal = _open_run(out or FOLDER / LATEST)
    else:
        text = data or "mnist-5k"
        config = make_config(preset, **given, data=text)
        path = out or fresh_run(f"{_stem(text)}-{config.code_dim}")
        if path.exists():
            raise OutputExists(path, "choose another --out, or continue that run with --resume")
        if budget and epochs:
            raise OptionError("--budget", expected="no --epochs beside it", found=f"--epochs {epochs}")
        seconds, channels = parse.seconds(budget), None if gray is None else 1 if gray else 3
        loaded = load_training_data(text, parse.size(size), channels, config.group_by)
        if loaded.kind in ("folder", "array"):
            config = dataclasses.replace(config, data=str(Path(text).resolve()))
        if config.precision == "auto":
            config = dataclasses.replace(config, precision=choose_precision(torch_device))
        run, principal = _new_run(path, config, loaded, torch_device, seconds)
    for record in loaded.skipped:
        note(f"skipped {record.path}: {record.error}")
    note(
        f"{run.path}: {len(loaded.train):,} images of {loaded.geometry} to learn from, "
        f"{len(loaded.validation):,} held out ({loaded.split}), {run.config.code_dim} numbers a code, on {torch_device}"
    )
    if len(loaded.validation) < _FEW:
        note(
            f"warning: validation on {len(loaded.validation)} held-out images is rough, and it picks the weights to "
            f"keep; {10 * _FEW} images or more give at least {_FEW}"
        )
    if run.path.parent == FOLDER:
        point_latest(run.path)
    last = _run(run, loaded, torch_device, principal)
    if last is None:
        note(f"aekit: stopped; the state is saved: go on with `aekit train --resume --out {run.path}`")
        raise typer.Exit(130)
    wanted, found = float(run.config.options.get("bytes", 0)), last.validation.get("bytes", 0.0)
    if wanted and found > _OVER * wanted:
        note(
            f"warning: its codes take {found:.2f} bytes a held-out image, where {wanted:g} were asked for; "
            "a longer --budget or more --epochs bring them nearer"
        )
    result = {
        "run": str(run.path),
        "epoch": last.epoch,
        "cost": last.cost,
        "validation": last.validation,
        "seconds": round(last.seconds, 1),
        "skipped": [{"path": record.path, "error": record.error} for record in loaded.skipped],
    }
    lines = [
        f"{run.path}: {_figures(last.validation)} on held-out images, by the weights of epoch {last.epoch}",
        "next: aekit export" + ("" if run.path.parent == FOLDER else f" {run.path}"),
    ]
    emit(result, lines, as_json)
    if loaded.skipped:
        raise typer.Exit(3)


def _run(run: "Run", data: "TrainingData", device: str, principal: "Pca | None") -> "Epoch | None":
    """Train with a line an epoch, but at most one a second, from the principal components or, without them, from the
    run's checkpoint; None if the user stopped the run."""
    from aekit.training.loop import steps_in_all, steps_per_epoch
    from aekit.training.trainer import Interrupted, train

    total = steps_in_all(run.config, len(data.train))
    epochs = -(-total // steps_per_epoch(run.config, len(data.train)))
    said = -math.inf

    def on_epoch(epoch: "Epoch") -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < 1 and epoch.epoch < epochs:
            return
        said = now
        left = epoch.seconds / epoch.epoch * (epochs - epoch.epoch)
        note(
            f"epoch {epoch.epoch:>3}/{epochs}  cost {epoch.cost:.4f}  validation {_figures(epoch.validation)}  "
            f"{epoch.images_per_second:>8,.0f} images/s  {duration(left)} left"
        )

    try:
        with progress_line(total, "step") as show:
            return train(
                run, data, resume=principal is None, device=device, principal=principal, on_epoch=on_epoch, on_step=show
            )
    except Interrupted:
        return None


def _new_run(
    path: Path, config: "TrainConfig", data: "TrainingData", device: str, seconds: float | None
) -> "tuple[Run, Pca]":
    """The folder of a new run, with the baseline that evaluation will hold it against, and the principal components
    that the network may start from."""
    from aekit.training.checkpoint import Run
    from aekit.training.loop import steps_within
    from aekit.training.networks import make_network

    began = time.monotonic()
    make_network(config, data.geometry)  # what does not fit is an error before anything is written
    principal = _principal(config, data)
    if seconds is not None:
        left = max(seconds - (time.monotonic() - began), 0.1)
        config = dataclasses.replace(config, steps=steps_within(left, config, data, device, principal))
    run = Run.create(path, config, data.geometry, data.facts())
    principal.leading(config.code_dim).save(run.path / PCA)
    return run, principal


def _open_run(path: Path) -> "tuple[Run, TrainingData, Pca | None]":
    """A run that was begun, the data it was begun with, and, if it was stopped before its first checkpoint, the
    principal components to begin it with again."""
    from aekit.training.checkpoint import CHECKPOINT, Run

    run = Run.read(resolve_run(path))
    data = run.load_data()
    if (run.path / CHECKPOINT).exists():
        return run, data, None
    return run, data, _principal(run.config, data)


def _principal(config: "TrainConfig", data: "TrainingData") -> "Pca":
    """Components enough for the baseline and for the network that starts from them."""
    from aekit.pca import Pca
    from aekit.training.networks import components_wanted

    return Pca.fit(data.train, max(components_wanted(config, data.geometry), config.code_dim))


def _figures(figures: dict[str, float]) -> str:
    """Validation figures on one line."""
    return "  ".join(f"{name} {value:.5f}" if value < 1 else f"{name} {value:.2f}" for name, value in figures.items())


def _stem(data: str) -> str:
    """A run's name from its data: the set's, folder's or file's name, in plain characters."""
    return re.sub(r"[^\w.-]+", "-", Path(data).stem).strip("-.") or "images"
