"""The lines that `aekit train` prints about a run: its plan, its figures and its end."""

import math
from typing import TYPE_CHECKING

from aekit.cli.printing import counted
from aekit.registry import NETWORKS, OBJECTIVES, objective_facts
from aekit.spec import Geometry, GridGeometry

if TYPE_CHECKING:
    from aekit.training.plan import Plan, TrainResult

_FEW = 50
"""Number of held-out images below which their error is only a rough estimate."""
_OVER, _UNDER = 1.05, 0.95
"""Largest and smallest ratio of a code's bytes to the bytes asked for. Outside this range a line says so."""
_LITTLE = 0.03
"""Least share by which training should improve on its start. Below it, the last lines say what may help."""
_FEW_IMAGES, _FEW_EPOCHS = 1000, 10
"""Numbers of training images and of epochs. Below them, more images and more time may help."""
_SMALL = 32
"""Longest side, in pixels, for which vector codes suit images. For longer sides, grid codes may help."""
_EXPORT_BYTES, _EXPORT_COPIES = 600_000_000, 3
"""Memory that export takes: the bytes of torch and the images, and the number of copies of the graphs."""


def plan_lines(plan: "Plan") -> list[str]:
    """Return lines on what the run will do, what aekit chose by the images, and what may go wrong."""
    lines = []
    code = f"{counted(plan.config.code_dim, 'number')} a code"
    if isinstance(plan.geometry, GridGeometry) and plan.kmac:
        code = "grid codes"
        sizes = f"images of {plan.chosen_for} pixels: " if plan.chosen_for else ""
        remedy = "; --size or --code-dim choose vector codes" if plan.chosen_for else ""
        lines.append(
            f"{sizes}network {plan.config.network} with objective {plan.config.objective}, {plan.config.code_dim} "
            f"channels at stride {plan.geometry.stride}, {plan.kmac[0]:.1f} thousand multiplications a pixel "
            f"to encode, {plan.kmac[1]:.1f} to decode{remedy}"
        )
    lines.append(
        f"{plan.run}: {counted(plan.train_images, 'image')} of {plan.geometry} to learn from, "
        f"{plan.validation_images:,} held out ({plan.split}), objective {plan.config.objective}, {code}, "
        f"on {plan.device}"
    )
    graphs = plan.graph_bytes
    needed = _EXPORT_BYTES + _EXPORT_COPIES * sum(graphs.values())
    lines.append(
        f"graphs: encoder {graphs['encoder'] / 1e6:,.1f} MB, decoder {graphs['decoder'] / 1e6:,.1f} MB; `aekit export` "
        f"will take about {needed / 1e9:.1f} GB of memory"
    )
    if plan.config.objective == "variational":
        lines.append(
            "-ELBO is an upper bound of -log of an image's probability. KL is the part that the codes cost. Less is "
            "better"
        )
    lines += plan.remarks
    if plan.validation_images < _FEW:
        lines.append(
            f"warning: {counted(plan.validation_images, 'held-out image')} "
            f"give{'s' if plan.validation_images == 1 else ''} only a rough error, and it picks the weights to keep; "
            f"{10 * _FEW} images or more give at least {_FEW}"
        )
    return lines


def figures_in_words(figures: dict[str, float]) -> str:
    """Return one line with the validation figures that a reader can use."""
    parts = []
    if "bytes" in figures:
        parts.append(f"{figures['bytes']:,.2f} bytes a code")
    if "bits_per_pixel" in figures:
        parts.append(f"{figures['bits_per_pixel']:.3f} bits a pixel")
    if "denoised_mse" in figures:
        parts.append(f"MSE of denoised images {_mse(figures['denoised_mse'])}, of clean ones {_mse(figures['mse'])}")
    else:
        parts.append(f"MSE {_mse(figures['mse'])}")
    if "neg_elbo" in figures:
        parts.append(f"-ELBO {figures['neg_elbo']:,.1f} nats, KL {figures['kl']:,.1f}")
    return ", ".join(parts)


def _mse(value: float) -> str:
    return f"{value:.5f} ({-10 * math.log10(value):.1f} dB)" if value > 0 else "0"


def end_lines(done: "TrainResult") -> list[str]:
    """Return the lines on a finished run: its figures, those before training, and what may help."""
    starts_as_pca = NETWORKS[done.config.network].starts_as_pca
    lines = [
        f"{done.run}: {figures_in_words(done.validation)} on held-out images, with the weights of epoch {done.epoch}"
    ]
    if done.start:
        what = "before training, as PCA" if starts_as_pca else "before training"
        lines.append(f"{what}: {figures_in_words(done.start)}")
    if done.pca_mse is not None and not starts_as_pca:
        lines.append(f"PCA of {counted(done.config.code_dim, 'number')}: MSE {_mse(done.pca_mse)}")
    if done.is_exhausted:
        lines.append(
            f"training ended early, after epoch {done.epochs}: validation had not improved for 30 % of the run"
        )
    return [*lines, *_verdict(done, starts_as_pca)]


def _verdict(done: "TrainResult", starts_as_pca: bool) -> list[str]:
    """Return a line if the run learned nothing or little, with what may help."""
    is_worse_than_pca = (
        done.pca_mse is not None
        and not starts_as_pca
        and OBJECTIVES[done.config.objective].headline == "mse"
        and done.validation["mse"] >= done.pca_mse
    )
    if is_worse_than_pca:
        return [f"PCA with as many numbers is better than this network{_help(done)}"]
    if done.gain is None or done.gain >= _LITTLE:
        return []
    if done.epoch == 0:
        kept = "which is PCA, so the model is PCA" if starts_as_pca else "which is kept"
        return [f"nothing was learned: no epoch was better than the start, {kept}{_help(done)}"]
    return [f"little was learned: {done.gain:.1%} better than {'PCA' if starts_as_pca else 'the start'}{_help(done)}"]


def _help(done: "TrainResult") -> str:
    """Return what may help a run that learned little."""
    ideas = []
    if done.epochs < _FEW_EPOCHS and not done.is_exhausted:
        ideas.append("a longer --budget or more --epochs")
    if done.train_images < _FEW_IMAGES:
        ideas.append(f"more images than {done.train_images:,}")
    if not done.config.is_grid and done.train_images < 10 * done.config.code_dim:
        ideas.append("a smaller --code-dim")
    if not done.config.is_grid and not NETWORKS[done.config.network].starts_as_pca:
        ideas.append("--network residual, which starts as PCA")
    is_large = isinstance(done.geometry, Geometry) and max(done.geometry.height, done.geometry.width) > _SMALL
    if is_large and objective_facts(done.config.objective).stores_uint8_only:
        ideas.append("--network grid, whose codes suit larger images")
    return f"; what may help: {', '.join(ideas)}" if ideas else ""


def size_note(done: "TrainResult") -> str:
    """Return a sentence if codes take clearly more or fewer bytes than the user asked for, else an empty text."""
    size, asked = done.validation.get("bytes", 0.0), done.bytes_asked
    if asked is None or _UNDER * asked <= size <= _OVER * asked:
        return ""
    found = f"codes of held-out images take {size:.2f} bytes on average, but {asked:g} were asked for"
    if size > asked:
        return f"warning: {found}; a longer --budget or more --epochs bring them nearer"
    more = "" if done.config.is_grid else ", or more numbers in a code (--code-dim),"
    return f"warning: {found}: larger codes were not better yet; a longer --budget{more} may use them"
