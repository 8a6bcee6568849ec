"""Build the two graphs. They take and return uint8 images and do all arithmetic on pixels; latents are in code units.

encoder.onnx   image uint8 [batch, H, W, C] ─ /255 ─ encoder ─ affine ─▶ latent float32 [batch, D]
                                                               └ round, clip ─▶ code uint8 [batch, D]
decoder.onnx   latent float32 [batch, D] ─ inverse affine ─ decoder ─ clip, ×255, round ─▶ image uint8

A model of grid codes has [batch, h, w, K] in place of [batch, D], and its batch, H and W are free. If it has several
qualities, both graphs have a second input, quality int64 [batch]: the quality of each picture, 1 or more.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from aekit.errors import ParityError
from aekit.exporting.packed import PackedDecoder, PackedEncoder, pixels_of
from aekit.exporting.rounding import ZERO
from aekit.model.bundle import graph_metadata
from aekit.model.sessions import QUALITY
from aekit.spec import ModelSpec
from aekit.training.networks import Autoencoder
from aekit.training.networks.grid import FoldedDecoder, FoldedEncoder

OPSET = 20
"""ONNX opset of the graphs."""
FREE_BATCH: tuple[str, ...] = ("batch",)
"""Names of the free dimensions of every input of a model of vector codes."""
FREE_IMAGE: tuple[str, ...] = ("batch", "height", "width")
FREE_CODE: tuple[str, ...] = ("batch", "rows", "columns")
"""Names of the free dimensions of the inputs of a model of grid codes: of its encoder, of its decoder."""

# The exporter logs that torchvision is absent; nothing here uses it.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

_LEAST_SIGNAL = 2000.0
"""Least range of a latent that is stretched to 0..255, as a multiple of its rounding noise. The noise then moves the
latent by less than 1/8 of a code."""


class CodeUnits(nn.Module):
    """The affine map, per dimension, between the network's latent and code units 0..255.

    Latents are [n, D], or [n, h, w, D] for grid codes, whose dimensions are the channels. With qualities there is a
    scale and a size for each quality: the gains and inverse gains of Cui et al. (2021, Asymmetric Gained Deep Image
    Compression). Pictures of a batch may then differ in `quality`, int64 [n], 1 or more.
    """

    scale: Tensor
    offset: Tensor
    size: Tensor | None
    """Latent that a code unit becomes for the decoder, [Q, D]; None for the inverse of `scale`."""

    def __init__(self, scale: Tensor, offset: Tensor, size: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)
        self.register_buffer("size", size)

    @classmethod
    def calibrated(cls, latents: Tensor, noise: Tensor | None = None) -> "CodeUnits":
        """Make the map that takes the range of `latents` [n, D], from training images, to 0..255.

        `noise`, [D], is how far rounding errors move each latent. A dimension whose range is hardly larger is mapped to
        128. Training images of low rank, such as duplicates, have such dimensions, and stretching them to 0..255 would
        make codes of rounding errors.
        """
        low, high = latents.double().amin(0), latents.double().amax(0)
        span = high - low
        still = span < 1e-5 * high.abs().clamp(min=1)  # rounding alone moves it this much
        if noise is not None:
            still |= span < _LEAST_SIGNAL * noise.double()
        scale = torch.where(still, 1.0, 255 / span.masked_fill(still, 1.0))
        offset = torch.where(still, 128 - low, -low * scale)
        return cls(scale.float(), offset.float())

    @classmethod
    def on_grid(cls, scale: Tensor, size: Tensor | None = None) -> "CodeUnits":
        """Make the map for latents that training rounded to steps of 1 / `scale`, [D]. One step is one code unit, and
        the latent 0 is the code 128. The decoder gets steps of `size`; None means 1 / `scale`."""
        return cls(scale.float(), torch.full(scale.shape[-1:], float(ZERO)), None if size is None else size.float())

    def forward(self, z: Tensor, quality: Tensor | None = None) -> Tensor:
        """Convert latents [..., D] to code units."""
        return z * (self.scale if quality is None else self.scale[quality - 1][:, None, None]) + self.offset

    def inverse(self, latent: Tensor, quality: Tensor | None = None) -> Tensor:
        """Convert code units [..., D] to latents."""
        if self.size is None or quality is None:
            return (latent - self.offset) / self.scale
        return (latent - self.offset) * self.size[quality - 1][:, None, None]

    def each(self) -> list["CodeUnits"]:
        """Return the maps of all qualities, the lowest first; this one itself without qualities."""
        return [CodeUnits(scale, self.offset) for scale in self.scale.reshape(-1, self.scale.shape[-1])]


class Nearest(nn.Module):
    """Round latents in code units to the nearest codes."""

    def forward(self, latent: Tensor, quality: Tensor | None = None) -> Tensor:
        """Return codes uint8 of latents of any shape."""
        # torch and ONNX both round a half to the even neighbour.
        return latent.round().clamp(0, 255).to(torch.uint8)


class EncoderGraph(nn.Module):
    """The function of encoder.onnx: uint8 images [n, H, W, C] to latents float32 and codes uint8.

    Both are [n, D], or [n, h, w, D] for grid codes.
    """

    def __init__(self, network: Autoencoder, units: CodeUnits, rounding: nn.Module | None = None) -> None:
        """`rounding` rounds latents in code units to codes uint8. None rounds to the nearest."""
        super().__init__()
        self.network, self.units, self.rounding = network, units, rounding or Nearest()

    def forward(self, image: Tensor, quality: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latent = self.units(self.network.encode(image.permute(0, 3, 1, 2).float() / 255, quality), quality)
        return latent, self.rounding(latent, quality)


class DecoderGraph(nn.Module):
    """The function of decoder.onnx: latents float32 in code units, [n, D] or [n, h, w, D], to images uint8.

    Images are [n, H, W, C]; for grid codes they are whole blocks, H = h · stride and W = w · stride.
    """

    def __init__(self, network: Autoencoder, units: CodeUnits) -> None:
        super().__init__()
        self.network, self.units = network, units

    def forward(self, latent: Tensor, quality: Tensor | None = None) -> Tensor:
        x_hat = self.network.decode(self.units.inverse(latent, quality), quality)
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class PackedEncoderGraph(nn.Module):
    """What EncoderGraph computes, of a folded grid network, with less work for each pixel."""

    def __init__(self, network: Autoencoder, units: CodeUnits, rounding: nn.Module) -> None:
        super().__init__()
        assert isinstance(network.encoder, FoldedEncoder)
        self.encoder, self.objective = PackedEncoder(network.encoder), network.objective
        self.units, self.rounding = units, rounding

    def forward(self, image: Tensor, quality: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latent = self.units(self.objective.latent(self.encoder(image, quality)), quality)
        return latent, self.rounding(latent, quality)


class PackedDecoderGraph(nn.Module):
    """What DecoderGraph computes, of a folded grid network, with less work for each pixel."""

    def __init__(self, network: Autoencoder, units: CodeUnits) -> None:
        super().__init__()
        assert isinstance(network.decoder, FoldedDecoder)
        self.decoder, self.objective, self.units = PackedDecoder(network.decoder), network.objective, units

    def forward(self, latent: Tensor, quality: Tensor | None = None) -> Tensor:
        cells = self.objective.image(self.decoder(self.units.inverse(latent, quality), quality))
        return pixels_of((cells.clamp(0, 1) * 255).round().to(torch.uint8))


def fp32_graphs(
    network: Autoencoder, units: CodeUnits, spec: ModelSpec, rounding: nn.Module | None = None
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Build the graphs of a folded network in fp32, one after the other, each with its role.

    Raises ParityError if a size that must be free is fixed.
    """
    if spec.is_grid:
        # No side is a multiple of the stride, or equal to another: torch takes equal sizes for one size.
        height, width = 2 * spec.grid.stride + 3, 3 * spec.grid.stride + 2
        image = torch.zeros((2, height, width, spec.grid.channels), dtype=torch.uint8)
        latent, free = torch.zeros((2, 4, 5, spec.code_dim)), (FREE_IMAGE, FREE_CODE)
        packed, several = PackedEncoderGraph(network, units, rounding or Nearest()), spec.has_qualities
        yield "encoder", _checked(export_graph(packed, image, ["image"], ["latent", "code"], free[0], several), spec)
        unpacked = PackedDecoderGraph(network, units)
        yield "decoder", _checked(export_graph(unpacked, latent, ["latent"], ["image"], free[1], several), spec)
        return
    image = torch.zeros((2, *spec.fixed.shape), dtype=torch.uint8)
    encoder, decoder = EncoderGraph(network, units, rounding), DecoderGraph(network, units)
    yield "encoder", _checked(export_graph(encoder, image, ["image"], ["latent", "code"]), spec)
    yield "decoder", _checked(export_graph(decoder, torch.zeros(2, spec.code_dim), ["latent"], ["image"]), spec)


def _checked(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    check_dimensions(model, spec)
    return model


def export_graph(
    module: nn.Module,
    example: Tensor,
    inputs: list[str],
    outputs: list[str],
    free: Sequence[str] = FREE_BATCH,
    has_qualities: bool = False,
) -> onnx.ModelProto:
    """Export a module as one ONNX graph without paths of this machine. The module is set to evaluation mode.

    `free` names the leading dimensions of the input that may have any size. With `has_qualities` the graph has the
    input `quality` too.
    """
    sizes = {place: torch.export.Dim(name) for place, name in enumerate(free)}
    examples, shapes = [example], [sizes]
    if has_qualities:
        inputs = [*inputs, QUALITY]
        examples.append(torch.ones(len(example), dtype=torch.int64))
        shapes.append({0: sizes[0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own internals; parity checks the result
        program = torch.onnx.export(
            module.eval(),
            tuple(examples),
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=tuple(shapes),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_traces(model)
    return model


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove the metadata that torch adds to nodes: it includes source paths of this machine."""
    for graph in (model.graph, *model.functions):
        del graph.metadata_props[:]
        graph.doc_string = ""
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.metadata_props[:]
    model.doc_string = ""


def finish_graph(model: onnx.ModelProto, file: Path, spec: ModelSpec, model_id: str, variant: str) -> None:
    """Store the model's facts in the graph, write it to `file` and check it.

    Raises onnx.checker.ValidationError or onnx.shape_inference.InferenceError if the graph is not valid ONNX.
    """
    del model.metadata_props[:]
    for key, value in graph_metadata(spec, model_id, variant).items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "aekit", ""
    file.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(file, full_check=True)  # by its path: onnx would copy a message twice


def check_dimensions(model: onnx.ModelProto, spec: ModelSpec) -> None:
    """Raise ParityError unless every input and output has the sizes of `spec`, fixed and free.

    torch exports a reshape with a hard-coded size without an error; such a graph is wrong for other sizes. A size that
    depends on a free one has an expression as its name, such as `8*rows`.
    """
    if spec.is_grid:
        sizes = {"image": [None, None, None, spec.grid.channels], "latent": [None, None, None, spec.code_dim]}
    else:
        sizes = {"image": [None, *spec.fixed.shape], "latent": [None, spec.code_dim]}
    sizes["code"], sizes[QUALITY] = sizes["latent"], [None]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        actual = [dim.dim_param or dim.dim_value for dim in dims]
        # A free size has a name. The first one must be the batch, and no expression of it.
        given = [None if isinstance(size, str) else size for size in actual]
        if given != sizes[value.name] or actual[0] != "batch":
            expected = ["batch", *("free" if size is None else size for size in sizes[value.name][1:])]
            raise ParityError(f"the exported graph's {value.name}", expected=str(expected), found=str(actual))
