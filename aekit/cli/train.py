"""aekit train: learn an autoencoder from images."""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aekit.cli import parse
from aekit.cli.extras import need_extra
from aekit.cli.options import JsonOption
from aekit.cli.printing import duration, emit, note, progress_line
from aekit.errors import OptionError
from aekit.registry import NETWORKS, OBJECTIVES, choices, options_help
from aekit.runs import FOLDER, LATEST
from aekit.spec import GridGeometry

_FEW = 50
"""Number of held-out images below which their error is only a rough estimate."""
_OVER = 1.05
"""A warning is printed if codes take more than this many times the bytes asked for."""

if TYPE_CHECKING:
    from aekit.training.session import Plan, TrainResult
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
    out: Annotated[
        Path | None, typer.Option(help="Run folder to make.", show_default="runs/DATA-CODE_DIM or runs/DATA-grid")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Take settings from a TOML file, or from a run's config.json. Options go before the file, and the "
            "file goes before the preset."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings to start from: default; small (graphs an eighth as large); classic (exactly the book's); "
            "classic-tuned (the book's network, trained better). For pictures of any size: tiny, small, default or "
            "large, which differ in the work a pixel.",
            show_default="default",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help=f"Network to train. {choices(NETWORKS)}.",
            show_default="residual; grid if images differ in size or have a side over 64 pixels",
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Sizes of the network's layers, such as 512,512, or 'none'. "
            + "; ".join(f"{name}: {entry.hidden_help}" for name, entry in NETWORKS.items() if entry.hidden_help)
            + ".",
            show_default="the preset's",
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help=f"What the model learns. {choices(OBJECTIVES)}.", show_default="plain; rate with --network grid"
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            metavar="NAME=VALUE",
            help=options_help(),
        ),
    ] = None,
    lambda_: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            help="Train for codes of few bits: minimise bits per pixel + lambda × the mean squared error of levels 0 "
            "to 255. A larger value gives better images and larger codes.",
            show_default="with --objective rate 0.0005; with --network grid 0.005",
        ),
    ] = None,
    size_bytes: Annotated[
        float | None,
        typer.Option("--bytes", help="Train for codes of this many bytes on average; training finds the --lambda."),
    ] = None,
    qualities: Annotated[
        int | None,
        typer.Option(
            help="Train one model for this many qualities; the network is grid. --lambda is the price of error in the "
            "middle; it is a fifth of that at quality 1, the fewest bytes, and 5 times that at the highest.",
            show_default="1",
        ),
    ] = None,
    code_dim: Annotated[
        int | None,
        typer.Option(help="Numbers in a vector code.", show_default="32; with --bytes, 3 for each byte"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Height x width, 8 to 256, such as 32x32, that all images are resized to. The model has vector codes.",
            show_default="the images' own",
        ),
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option(
            help="Longest side in pixels. The network is grid, and larger pictures are shrunk, in training and later.",
            show_default="as the pictures are",
        ),
    ] = None,
    gray: Annotated[
        bool | None,
        typer.Option("--gray/--rgb", help="Train on gray or colour images.", show_default="as the images are"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the images. With --network grid an epoch has 100 to 500 steps.",
            show_default="20 to 200, by the number of images; with --network grid as many as 3000 steps take",
            min=1,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps to train for, in place of --epochs.", min=1, show_default="by --epochs")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time to train for, such as 90s, 5m or 1h.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Images in a step; with --network grid, crops of 96x96 pixels.", show_default="the preset's"),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default="the preset's")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the weights, the order and the noise.", show_default="0")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Regular expression on paths. Images with the same match, such as frames of one video, are held out "
            "together, so that no validation image resembles a training image."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, or the latest one, with its own settings.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train an autoencoder; a tenth of the images is held out and never trained on.

    Small images of one size get vector codes. Images that differ in size, or have a side over 64 pixels, get grid
    codes, and the model takes pictures of any size. --network, --size, --code-dim or an objective of vector codes
    override that.

    Ctrl-C saves the state. `aekit train --resume` continues from there.
    """
    need_extra("aekit train", "train", "torch", "safetensors", "sklearn")
    from aekit.training import session
    from aekit.training.trainer import Interrupted

    objective, options = parse.rate(lambda_, size_bytes, objective, parse.options(option), qualities)
    given: dict[str, Any] = {
        "preset": preset,
        "network": network,
        "hidden": parse.sizes(hidden),
        "objective": objective,
        "options": options,
        "code_dim": code_dim,
        "size": size,
        "max_side": max_side,
        "gray": gray,
        "epochs": epochs,
        "steps": steps,
        "budget": budget,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "group_by": group_by,
    }
    reporter = _Reporter()
    hooks: dict[str, Any] = {"on_plan": reporter.plan, "on_epoch": reporter.epoch, "on_step": reporter.step}
    with reporter:
        try:
            if resume:
                settings = {**given, "data": data, "config": config}
                asked = [name for name, value in settings.items() if value is not None]
                if asked:
                    raise OptionError("--resume", expected="no settings: a run keeps its own", found=", ".join(asked))
                done = session.resume(out or FOLDER / LATEST, device=device, **hooks)
            else:
                done = session.start(data, out, config=config, device=device, **hooks, **given)
        except Interrupted:
            reporter.close()
            note(f"aekit: stopped; the state is saved: go on with `aekit train --resume --out {reporter.run}`")
            raise typer.Exit(130) from None
    _report(done, as_json)


def _report(done: "TrainResult", as_json: bool) -> None:
    """Print the result; exit with status 3 if files were skipped."""
    size = done.validation.get("bytes", 0.0)
    if done.bytes_asked is not None and size > _OVER * done.bytes_asked:
        note(
            f"warning: codes of held-out images take {size:.2f} bytes on average, but {done.bytes_asked:g} were asked "
            "for; a longer --budget or more --epochs bring them nearer"
        )
    result = {
        "run": str(done.run),
        "epoch": done.epoch,
        "cost": done.cost,
        "validation": done.validation,
        "seconds": round(done.seconds, 1),
        "skipped": [{"path": record.path, "error": record.error} for record in done.skipped],
    }
    lines = [
        f"{done.run}: {_figures(done.validation)} on held-out images, with the weights of epoch {done.epoch}",
        "next: aekit export" + ("" if done.run.parent == FOLDER else f" {done.run}"),
    ]
    emit(result, lines, as_json)
    if done.skipped:
        raise typer.Exit(3)


class _Reporter(contextlib.ExitStack):
    """Print the plan of a run, one line per epoch (at most one per second), and a progress line."""

    def __init__(self) -> None:
        super().__init__()
        self.run, self.epochs, self.said = Path(), 0, -math.inf
        self.step: Callable[[int], None] = lambda done: self._show(done)
        self._show: Callable[[int], None] = lambda _: None

    def plan(self, plan: "Plan") -> None:
        """Print the plan, and a warning if few images are held out."""
        self.run, self.epochs = plan.run, plan.epochs
        for record in plan.skipped:
            note(f"skipped {record.path}: {record.error}")
        code = f"{plan.config.code_dim} numbers a code"
        if isinstance(plan.geometry, GridGeometry) and plan.kmac:
            code = "grid codes"
            sizes = f"images of {plan.chosen_for} pixels: " if plan.chosen_for else ""
            remedy = "; --size or --code-dim choose vector codes" if plan.chosen_for else ""
            note(
                f"{sizes}network {plan.config.network} with objective {plan.config.objective}, {plan.config.code_dim} "
                f"channels at stride {plan.geometry.stride}, {plan.kmac[0]:.1f} kMAC a pixel to encode, "
                f"{plan.kmac[1]:.1f} to decode{remedy}"
            )
        note(
            f"{plan.run}: {plan.train_images:,} images of {plan.geometry} to learn from, {plan.validation_images:,} "
            f"held out ({plan.split}), {code}, on {plan.device}"
        )
        if plan.validation_images < _FEW:
            note(
                f"warning: {plan.validation_images} held-out images give only a rough error, and it picks the weights "
                f"to keep; {10 * _FEW} images or more give at least {_FEW}"
            )
        self._show = self.enter_context(progress_line(plan.steps, "step"))

    def epoch(self, epoch: "Epoch") -> None:
        """Print the figures of an epoch."""
        now = time.monotonic()
        if now - self.said < 1 and epoch.epoch < self.epochs:
            return
        self.said = now
        left = epoch.seconds / epoch.epoch * (self.epochs - epoch.epoch)
        note(
            f"epoch {epoch.epoch:>3}/{self.epochs}  cost {epoch.cost:.4f}  validation {_figures(epoch.validation)}  "
            f"{epoch.images_per_second:>8,.0f} images/s  {duration(left)} left"
        )


def _figures(figures: dict[str, float]) -> str:
    """Return the validation figures on one line."""
    return "  ".join(f"{name} {value:.5f}" if value < 1 else f"{name} {value:.2f}" for name, value in figures.items())
