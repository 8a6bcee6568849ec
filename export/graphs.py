"""Build the two graphs: all arithmetic on pixels inside, uint8 in and out, the latent in code units.

encoder.onnx   image uint8 [batch, H, W, C] ─ /255 ─ encoder ─ affine ─▶ latent float32 [batch, D]
                                                               └ round, clip ─▶ code uint8 [batch, D]
decoder.onnx   latent float32 [batch, D] ─ inverse affine ─ decoder ─ clip, ×255, round ─▶ image uint8
"""

import copy
import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from aekit.errors import ParityError
from aekit.model.bundle import graph_metadata
from aekit.spec import Geometry, ModelSpec
from aekit.training.networks import Autoencoder

OPSET = 20

# The exporter logs that torchvision, which nothing here uses, is absent.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)


_LEAST_SIGNAL = 2000.0
"""Range that a latent must have to be coded, as a multiple of its rounding noise: errors stay below 1/8 of a code."""


class CodeUnits(nn.Module):
    """The affine map, per dimension, between the network's latent and code units 0..255."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    @classmethod
    def calibrated(cls, latents: Tensor, noise: Tensor | None = None) -> "CodeUnits":
        """The map that takes the range of `latents` [n, D], from training images, to 0..255.

        `noise`, [D], is how far rounding errors move each latent. A dimension that moves little more than that is
        mapped to 128: images of low rank (duplicates, flat cards) leave such dimensions, and stretching them to 0..255
        would make codes of rounding errors.
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
    def on_grid(cls, scale: Tensor) -> "CodeUnits":
        """The map of a latent that training rounded to steps of 1 / `scale`, [D]: a step is a code, 0 the code 128."""
        return cls(scale.float(), torch.full_like(scale, 128).float())

    def forward(self, z: Tensor) -> Tensor:
        """Latents to code units."""
        return z * self.scale + self.offset

    def inverse(self, latent: Tensor) -> Tensor:
        """Code units to latents."""
        return (latent - self.offset) / self.scale


class EncoderGraph(nn.Module):
    """What encoder.onnx computes: uint8 images to (latent, code)."""

    def __init__(self, network: Autoencoder, units: CodeUnits) -> None:
        super().__init__()
        self.network, self.units = network, units

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.units(self.network.encode(image.permute(0, 3, 1, 2).float() / 255))
        # torch and ONNX both round halves to even.
        return latent, latent.round().clamp(0, 255).to(torch.uint8)


class DecoderGraph(nn.Module):
    """What decoder.onnx computes: latents in code units to uint8 images."""

    def __init__(self, network: Autoencoder, units: CodeUnits) -> None:
        super().__init__()
        self.network, self.units = network, units

    def forward(self, latent: Tensor) -> Tensor:
        x_hat = self.network.decode(self.units.inverse(latent))
        return (x_hat.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def export_graph(module: nn.Module, example: Tensor, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """The module as one ONNX graph whose first dimension is `batch`, without traces of where it was made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own internals here; parity judges the result
        program = torch.onnx.export(
            copy.deepcopy(module).eval(),
            (example,),
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_traces(model)
    return model


def strip_traces(model: onnx.ModelProto) -> None:
    """Remove what torch notes beside the nodes, source paths of this machine among it."""
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


def finish_graph(model: onnx.ModelProto, spec: ModelSpec, model_id: str, variant: str) -> bytes:
    """Check the graph, put the model's facts into it and serialise it."""
    del model.metadata_props[:]
    for key, value in graph_metadata(spec, model_id, variant).items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "aekit", ""
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def check_dimensions(model: onnx.ModelProto, geometry: Geometry, code_dim: int) -> None:
    """Raise ParityError unless every input and output has a free batch and the sizes it should: a hard-coded reshape
    exports without complaint and is wrong for every other batch."""
    sizes = {"image": list(geometry.shape), "latent": [code_dim], "code": [code_dim]}
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        found = [dim.dim_param or dim.dim_value for dim in dims]
        if found != ["batch", *sizes[value.name]]:
            raise ParityError(
                f"the exported graph's {value.name}", expected=str(["batch", *sizes[value.name]]), found=str(found)
            )
