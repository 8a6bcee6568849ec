"""Export from Python: `aekit.export`. The command `aekit export` is a thin layer over this."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aekit.exporting.exporter import export_run
from aekit.model.bundle import MANIFEST, Bundle
from aekit.outputs.staging import check_folder_free
from aekit.runs import FOLDER, LATEST, resolve_run
from aekit.training.checkpoint import Run


@dataclass(frozen=True)
class ExportResult:
    """An exported model and the run that it was made from."""

    bundle: Bundle
    """The model folder; `Codec.load` takes it. `bundle.manifest` has the figures that export measured."""
    run: Path
    """The run folder."""
    unfinished: str | None
    """How far the run came, in words, if it is unfinished; else None."""


def export(
    run: str | Path = FOLDER / LATEST,
    out: str | Path = "model",
    *,
    variant: str = "fp32",
    entropy: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> ExportResult:
    """Export a run as encoder.onnx, decoder.onnx and model.json, and verify them against torch.

    Args:
        run: run folder that `aekit.train` made; runs/latest means the newest run.
        out: model folder to write.
        variant: fp32, fp16, int8 (calibrated on training images), or auto. auto keeps the variant that is
            fastest on this machine and costs at most 0.1 dB of PSNR.
        entropy: entropy model of archives: static (a table for each number of a code), context (networks choose the
            table of each number; smaller, and slower to decode), or auto. auto trains a context model, and keeps it if
            it saves at least 1 % of the bytes of held-out images. For vector codes auto does so only if the objective
            stores uint8 codes, as `rate` does; otherwise it means static.
        overwrite: replace a model folder at `out`.
        say: called with a few words when a step begins.

    Raises:
        OutputExists: something exists at `out`.
        OutputError: the model can't be written.
        CheckpointError: `run` is not a run folder, is damaged, has no weights yet, or its images changed.
        OptionError: `variant` or `entropy` is unknown, or the run's settings are out of range.
        SourceError: the run's images or its PCA can't be read.
        ParityError: the graphs differ too much from torch, or a variant differs too much from fp32.
    """
    out = Path(out)
    check_folder_free(out, MANIFEST, overwrite=overwrite)
    opened = Run.read(resolve_run(Path(run)))
    unfinished = opened.unfinished()
    say(f"reading {opened.config.data}")
    data = opened.load_data()
    bundle = export_run(opened, data, out, variant=variant, entropy=entropy, overwrite=overwrite, say=say)
    return ExportResult(bundle, opened.path, unfinished)
