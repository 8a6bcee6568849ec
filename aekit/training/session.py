"""Train from Python: start a run, or resume one. The command `aekit train` is a thin layer over this.

start    settings ─▶ images ─▶ PCA ─▶ budget ─▶ run folder ─▶ trainer ─▶ TrainResult
resume                        run folder ─▶ images ─▶ trainer ─▶ TrainResult
"""

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aekit.images.gathering import everywhere
from aekit.pca import Pca
from aekit.runs import FOLDER, LATEST, PCA, check_latest, fresh_run, point_latest, resolve_run
from aekit.training.checkpoint import CHECKPOINT, Run, check_free
from aekit.training.config import TrainConfig
from aekit.training.data import TrainingData
from aekit.training.devices import choose_device, choose_precision
from aekit.training.loops import END_SECONDS, lengths, steps_within
from aekit.training.networks import check_size, components_wanted, make_network
from aekit.training.networks.blocks import BlockStatistics
from aekit.training.networks.factory import Start
from aekit.training.opening import open_images, source_in_words
from aekit.training.pictures import PictureData
from aekit.training.plan import Plan, TrainResult
from aekit.training.recorder import Epoch
from aekit.training.settings import new_run
from aekit.training.trainer import train


def start(
    data: str | Path | Sequence[str | Path] | None = None,
    out: str | Path | None = None,
    *,
    config: str | Path | None = None,
    device: str = "auto",
    on_plan: Callable[[Plan], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
    on_phase: Callable[[str], None] = lambda _: None,
    since: float | None = None,
    **settings: Any,
) -> TrainResult:
    """Train an autoencoder on images; a tenth of them is held out and never trained on.

        result = aekit.train("my-images/", code_dim=32, budget="2m")
        aekit.export(result.run, "model")

    Args:
        data: a folder, an image file, a pattern such as "a/**/*.png", "@LIST" for a list file, or several of these; an
            .npy, .npz or idx file; or a named set. None means mnist-5k, which needs no download.
        out: run folder to make. None means runs/DATA-CODE_DIM, and `runs/latest` then names it.
        config: a TOML file of settings, or the config.json of another run.
        device: auto, cpu, cuda, cuda:N or mps.
        on_plan: called once, before the first step.
        on_epoch: called after each epoch.
        on_step: called after each step with the number of steps done.
        on_phase: called with a few words when reading, PCA or another phase before the first step begins.
        since: time.monotonic() from which `budget` counts; None means the time of the call.
        settings: fields of aekit.training.config.TrainConfig, such as code_dim or objective, and
            `purpose` (a name in aekit.registry.PURPOSES; "compression" if neither it nor an objective is given),
            `size` ((height, width), "32x32" or 32, pixels), `gray` (bool), `budget` (seconds, or "5m") and
            `max_model_size` (bytes of a graph, or "50MB").
            They go before the file, and the file goes before the preset.

    Returns the run folder, and the figures of the epoch whose weights are kept.

    Raises:
        OptionError: a setting is unknown, of the wrong type or out of range, settings exclude each other, or the
            images differ in size or colour and no size or colour was given; or the graphs would be larger than
            `max_model_size`.
        SourceError: the images can't be read, are too few, or are all the same.
        OutputExists: something exists at `out`.
        OutputError: the run can't be written.
        CheckpointError: another process trains this run.
        TrainingError: the cost stopped being a number.
        aekit.training.trainer.Interrupted: SIGINT or SIGTERM arrived; the state is saved for `resume`.
    """
    began = time.monotonic() if since is None else since
    torch_device = choose_device(device)
    given = {**settings, "data": str(data) if isinstance(data, Path) else data}
    asked = new_run(given, None if config is None else Path(config))
    if out is not None:
        check_free(Path(out))
    images = open_images(asked, on_phase)
    loaded, chosen = images.data, images.config
    stem = Path(chosen.data).stem if isinstance(chosen.data, str) else ""
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "images"
    path = Path(out) if out is not None else fresh_run(f"{name[:80]}-{'grid' if chosen.is_grid else chosen.code_dim}")
    check_free(path)
    if path.parent == FOLDER:
        check_latest(FOLDER)
    if loaded.kind in ("folder", "array"):
        lasting = everywhere(chosen.data) if isinstance(chosen.data, str) else tuple(map(everywhere, chosen.data))
        chosen = dataclasses.replace(chosen, data=lasting)
    if chosen.precision == "auto":
        chosen = dataclasses.replace(chosen, precision=choose_precision(torch_device))

    on_phase("principal components of the images")
    principal = fit_principal(chosen, loaded)  # before the folder is made: an error here leaves none behind
    deadline = None
    if asked.budget is not None:
        on_phase("measuring the speed, for --budget")
        deadline = began + asked.budget - END_SECONDS
        left = max(asked.budget - (time.monotonic() - began), 0.1)
        chosen = dataclasses.replace(chosen, steps=steps_within(left, chosen, loaded, torch_device, principal))
    elif chosen.is_grid:
        make_network(chosen, loaded.geometry, principal)  # an objective may refuse these pictures
    run = Run.create(path, chosen, loaded.geometry, loaded.facts())
    hooks = on_plan, on_epoch, on_step
    return _train(run, loaded, principal, torch_device, *hooks, images.chosen_for, images.remarks, deadline)


def resume(
    run: str | Path = FOLDER / LATEST,
    *,
    device: str = "auto",
    on_plan: Callable[[Plan], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    on_step: Callable[[int], None] = lambda _: None,
    on_phase: Callable[[str], None] = lambda _: None,
) -> TrainResult:
    """Resume a run that was stopped, with its own settings.

    On the CPU, with the same number of threads, the result has the same bits as without the interruption.

    Args:
        run: run folder; runs/latest means the newest run.
        device: auto, cpu, cuda, cuda:N or mps.
        on_plan: called once, before the first step.
        on_epoch: called after each epoch.
        on_step: called after each step with the number of steps done.
        on_phase: called with a few words when a phase before the first step begins.

    Raises:
        CheckpointError: `run` is not a run folder, is damaged, its images changed, or another process trains it.
        OptionError: this machine lacks the device, or the run's settings are out of range.
        SourceError: the images can't be read.
        OutputError: the run can't be written.
        TrainingError: the cost stopped being a number.
        aekit.training.trainer.Interrupted: SIGINT or SIGTERM arrived; the state is saved.
    """
    torch_device = choose_device(device)
    opened = Run.read(resolve_run(Path(run)))
    check_size(opened.config, opened.geometry)
    on_phase(f"reading {source_in_words(opened.config.data)}")
    loaded = opened.load_data()
    has_state = (opened.path / CHECKPOINT).exists()
    principal = None if has_state else fit_principal(opened.config, loaded)
    return _train(opened, loaded, principal, torch_device, on_plan, on_epoch, on_step)


def fit_principal(config: TrainConfig, data: TrainingData | PictureData) -> Start:
    """Fit PCA on the training images, with enough components for the network's start and for the PCA baseline.

    For grid codes it is fitted on blocks of the pictures.
    """
    if isinstance(data, PictureData):
        return BlockStatistics.of(data.train, data.geometry.stride, config.code_dim, config.seed)
    return Pca.fit(data.train, max(components_wanted(config, data.geometry), config.code_dim))


def _train(
    run: Run,
    data: TrainingData | PictureData,
    principal: Start | None,
    device: str,
    on_plan: Callable[[Plan], None],
    on_epoch: Callable[[Epoch], None],
    on_step: Callable[[int], None],
    chosen_for: str = "",
    remarks: tuple[str, ...] = (),
    deadline: float | None = None,
) -> TrainResult:
    """Train from the components `principal`. None means to resume from the run's checkpoint."""
    if principal is not None and not (run.path / PCA).exists():
        pca = principal.pca if isinstance(principal, BlockStatistics) else principal
        pca.leading(run.config.code_dim).save(run.path / PCA)
    if run.path.parent == FOLDER:
        point_latest(run.path)
    steps, epochs = lengths(run.config, data)
    plan = Plan(
        run.path,
        run.config,
        data.geometry,
        train_images=len(data.train),
        validation_images=len(data.validation),
        split=data.split,
        skipped=data.skipped,
        device=device,
        steps=steps,
        epochs=epochs,
        chosen_for=chosen_for,
        remarks=remarks,
        deadline=deadline,
    )
    on_plan(plan)
    outcome = train(
        run,
        data,
        resume=principal is None,
        device=device,
        principal=principal,
        deadline=deadline,
        on_epoch=on_epoch,
        on_step=on_step,
    )
    kept = outcome.kept
    return TrainResult(
        run.path,
        kept.epoch,
        kept.cost,
        kept.validation,
        kept.seconds,
        data.skipped,
        bytes_asked=run.config.make_objective().bytes_asked,
        config=run.config,
        geometry=data.geometry,
        train_images=len(data.train),
        start=outcome.start,
        pca_mse=None if isinstance(data, PictureData) else Pca.load(run.path / PCA).mse(data.validation),
        epochs=outcome.epochs,
        is_exhausted=outcome.is_exhausted,
    )
