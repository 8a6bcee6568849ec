"""Variants of the graphs in reduced precision: fp16, and int8 calibrated on training images.

int8   Gemm, MatMul and Conv in 8 bits: weights per channel, activations by their range on training images
       (LayerNorm, GELU, block transforms, the affine map to code units, rounding and Clip stay in float32)
fp16   everything in 16 bits, except the code path and operators that need float32
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from aekit.errors import OptionError

VARIANTS = ("fp32", "fp16", "int8")
"""Precisions that a model can be exported in."""
_BATCH, _BATCH_VALUES = 250, 2**20
"""Largest number of inputs in a batch that calibrates, and of numbers in them unless one input has more."""
_IN_8_BITS = ["Gemm", "MatMul", "Conv"]
"""Operators that int8 quantizes. ConvTranspose is not among them: onnxruntime has no 8-bit kernel for it on CPUs."""
_IN_32_BITS = ["Round", "Clip", "Cast", "Resize", "LayerNormalization"]
"""Operators that stay float32 in fp16: the code path, operators that lose accuracy in 16 bits, and operators without a
16-bit kernel on CPUs."""


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Calibration inputs of a graph, batch by batch."""

    def __init__(self, inputs: dict[str, npt.NDArray[np.generic]]) -> None:
        rows = next(iter(inputs.values()))
        size = min(_BATCH, max(_BATCH_VALUES // rows[0].size, 1))
        starts = range(0, len(rows), size)
        self._batches = iter([{name: part[start : start + size] for name, part in inputs.items()} for start in starts])

    def get_next(self) -> dict[str, npt.NDArray[np.generic]] | None:
        return next(self._batches, None)


def make_variant(
    model: onnx.ModelProto, variant: str, inputs: npt.NDArray[np.generic], quality: Sequence[int] | None = None
) -> onnx.ModelProto:
    """Return the graph in the precision `variant`, fp16 or int8. `inputs` [n, …], typical inputs, calibrate int8.

    `quality` holds the quality of each input, for a model that has several.

    Raises OptionError for another variant.
    """
    own = onnx.ModelProto()  # a copy, because onnxruntime's tools change their input
    own.CopyFrom(model)
    if variant == "int8":
        names = [each.name for each in own.graph.input]
        more = [] if quality is None else [np.array(quality, np.int64)]
        return _int8(own, dict(zip(names, [inputs, *more], strict=True)))
    if variant == "fp16":
        return _fp16(own)
    raise OptionError("--variant", expected=" or ".join(VARIANTS), found=repr(variant))


def _int8(model: onnx.ModelProto, inputs: dict[str, npt.NDArray[np.generic]]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            out,
            _Calibration(inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_IN_8_BITS,
            nodes_to_exclude=[node.name for node in model.graph.node if _is_transform(node)],
            per_channel=True,
            # Weights in 7 bits: without VNNI, x86 adds pairs of products in 16 bits, and 8-bit weights can overflow.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantized: onnx.ModelProto = onnx.load(out)
    return quantized


def _fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    in_code_units = _nodes_in_code_units(model)
    with _quiet():
        converted: onnx.ModelProto = convert_float_to_float16(
            model,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_IN_32_BITS],
            node_block_list=in_code_units,
        )
    del converted.graph.value_info[:]  # it describes the graph before the conversion
    sorting = ONNXModel(converted)  # the tool appends its casts out of order
    sorting.topological_sort()
    return sorting.model


def _is_transform(node: onnx.NodeProto) -> bool:
    """Whether a node is the block transform of a grid network: 8 bits would coarsen every latent, to save little."""
    return any(name.endswith(".transform.weight") for name in node.input)


def _nodes_in_code_units(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that convert latents to code units or back, and of those that round them."""
    units, rounded, names = {"units.scale", "units.offset", "units.size"}, {"latent"}, []
    is_encoder = any(output.name == "latent" for output in model.graph.output)
    for node in model.graph.node:  # in topological order
        if is_encoder and rounded.intersection(node.input):
            rounded.update(node.output)
            names.append(node.name)
        elif units.intersection(node.input):
            names.append(node.name)
            if node.op_type in ("Gather", "GatherND", "Unsqueeze"):  # of the quality
                units.update(node.output)
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the root logger, where onnxruntime's tools log advice and warnings; parity checks the result."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
