"""aekit train: learn an autoencoder from images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from aekit.cli import parse
from aekit.cli.extras import need_extra
from aekit.cli.options import IMAGES_HELP, JsonOption
from aekit.cli.printing import BEGAN, note, phase
from aekit.cli.train_report import Reporter, report_result
from aekit.errors import OptionError
from aekit.registry import COMPRESSION, NETWORKS, OBJECTIVES, PURPOSES, choices, options_help
from aekit.runs import FOLDER, LATEST


def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Images to learn from: {IMAGES_HELP} The named sets are mnist-5k (needs no download), mnist and "
            "fashion-mnist.",
            show_default="mnist-5k",
        ),
    ] = None,
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="|".join(PURPOSES),
            help=f"What the codes are for. This chooses the objective and its options. {choices(PURPOSES)}. "
            "--objective and --option override it.",
            show_default=COMPRESSION,
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
            help=f"What the model learns. {choices(OBJECTIVES)}.",
            show_default="by --for; plain with the classic presets",
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
            help="Train one model for this many qualities; the network is grid. --lambda is the price of error at the "
            "middle quality. At quality 1, the fewest bytes, it is divided by 5. At the highest it is multiplied by 5.",
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
            help="Height x width, 8 to 256, such as 32x32, or 32 for both. All images are resized to it. The model has "
            "vector codes.",
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
    budget: Annotated[
        str | None, typer.Option(help="Time from the start of the command to its end, such as 90s, 5m or 1h.")
    ] = None,
    max_model_size: Annotated[
        str | None,
        typer.Option(
            help="Largest size of each of the two graphs, such as 20MB. aekit makes the network narrower, unless "
            "--hidden gives its widths. If that is not enough, aekit stops and says what helps.",
            show_default="50MB",
        ),
    ] = None,
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N (such as cuda:1) or mps.")] = "auto",
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
    need_extra("aekit train", "train", "torch", "safetensors")
    phase("loading torch")
    from aekit.training import session
    from aekit.training.trainer import Interrupted

    objective, options = parse.rate(lambda_, size_bytes, objective, parse.options(option), purpose, qualities)
    given: dict[str, Any] = {
        "purpose": purpose,
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
        "max_model_size": max_model_size,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "group_by": group_by,
    }
    reporter = Reporter()
    hooks: dict[str, Any] = {"on_plan": reporter.plan, "on_epoch": reporter.epoch, "on_step": reporter.step}
    hooks["on_phase"] = phase
    with reporter:
        try:
            if resume:
                settings = {**given, "data": data or None, "config": config}
                asked = [name for name, value in settings.items() if value is not None]
                if asked:
                    raise OptionError("--resume", expected="no settings: a run keeps its own", found=", ".join(asked))
                done = session.resume(out or FOLDER / LATEST, device=device, **hooks)
            else:
                done = session.start(data or None, out, config=config, device=device, since=BEGAN, **hooks, **given)
        except Interrupted:
            reporter.close()
            note(f"aekit: stopped; the state is saved: go on with `aekit train --resume --out {reporter.run}`")
            raise typer.Exit(130) from None
    report_result(done, as_json)
