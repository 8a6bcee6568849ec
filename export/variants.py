"""The variants of a model in their folders: write them, load them as users do, measure them, and keep one of them."""

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from aekit.errors import OptionError
from aekit.exporting.graphs import finish_graph
from aekit.exporting.parity import VariantCost, each_quality, fastest, measure_variant
from aekit.exporting.quantize import VARIANTS, make_variant
from aekit.exporting.samples import Samples
from aekit.images.decode import Pixels
from aekit.model.bundle import ROLES, graph_file, write_manifest
from aekit.model.codec import Codec
from aekit.spec import ModelSpec

AUTO = "auto"
"""Value of the option `variant` that keeps the fastest variant that is good enough."""


def check_variant(variant: str) -> None:
    """Raise OptionError unless `variant` is one of VARIANTS, or AUTO."""
    if variant not in (*VARIANTS, AUTO):
        raise OptionError("--variant", expected=f"auto or one of {', '.join(VARIANTS)}", found=repr(variant)[:80])


@dataclass(frozen=True)
class VariantFolders:
    """Folders below `place`, one for each variant of a model."""

    place: Path
    """An existing folder."""
    spec: ModelSpec
    model_id: str

    def write(self, variant: str, models: Iterable[tuple[str, onnx.ModelProto]]) -> Codec:
        """Write a whole model and load it as users do, so that measurements use the written files.

        The graphs are taken and written one after the other, so that a large model is in memory only once.
        """
        folder = self.place / variant
        folder.mkdir(exist_ok=True)
        for role, model in models:
            finish_graph(model, graph_file(folder, role), self.spec, self.model_id, variant)
            del model
            gc.collect()  # torch's exporter leaves the graph in cycles of references
        write_manifest(folder, ROLES, self.spec, self.model_id, variant, {})
        return self.load(variant)

    def load(self, variant: str) -> Codec:
        """Load a variant that was written."""
        return Codec.load(self.place / variant, provider="cpu")


def measure_variants(
    folders: VariantFolders, exact: Codec, wanted: str, samples: Samples, say: Callable[[str], None]
) -> dict[str, VariantCost]:
    """Make and measure the variants, other than fp32, that the export of `wanted` needs; `exact` is fp32.

    Raises ParityError if a variant that was asked for by name loses too much.
    """
    measured = dict[str, VariantCost]()
    for variant in _variants_to_make(wanted):
        say(f"making and measuring the variant {variant}")
        made = folders.write(variant, _reduced(exact, variant, samples.typical()))
        measured[variant] = measure_variant(exact, made, samples.compared())
        if wanted != AUTO:
            measured[variant].check(variant)
    return measured


def choose_variant(wanted: str, measured: dict[str, VariantCost]) -> str:
    """Return the variant to keep: `wanted`, or for AUTO the fastest that is good enough."""
    return fastest(measured) if wanted == AUTO else wanted


def _variants_to_make(variant: str) -> tuple[str, ...]:
    """Return the variants, other than fp32, that must be made to export `variant`."""
    if variant == "fp32":
        return ()
    if variant == AUTO:
        return VARIANTS[1:]
    return (variant,)


def _reduced(exact: Codec, variant: str, images: Pixels) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Make the graphs in reduced precision, one after the other.

    The encoder is calibrated on images, the decoder on their fp32 latents.
    """
    quality = each_quality(exact, len(images))
    inputs = {"encoder": images, "decoder": exact.encode(images, quality=quality)}
    given = () if quality is None else (quality,)
    for role in ROLES:
        yield role, make_variant(onnx.load(graph_file(exact.bundle.path, role)), variant, inputs[role], *given)
