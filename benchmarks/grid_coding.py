"""Coding of whole pictures with a trained grid network: exported graphs, rounding, integer tables, bytes and back.

    picture uint8 [H, W, C] ─encoder.onnx─▶ y [h, w, K] in steps ─round─▶ code uint8 [h, w, K] ─rANS─▶ bytes
    bytes ─rANS─▶ code ─decoder.onnx─▶ picture uint8 [H, W, C], cropped to its size

A code is the rounded latent plus 128, clipped to uint8. Each of the K channels has one static table of integers.
"""

import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from grid_training import GridModel
from picture_sets import Picture
from torch import Tensor, nn

from aekit.codes.entropy import MAX_SYMBOLS, FrequencyTables, decode, encode
from aekit.evaluation.metrics import mse as squared_error
from aekit.exporting.rounding import table_bits
from aekit.training.crops import padded_side
from aekit.training.networks.layouts import LAYOUTS
from aekit.training.objectives.rounding import round_with_dead_zone

Latent = npt.NDArray[np.float32]
"""Latents of one picture in steps of the grid, float32 [h, w, K]."""
Code = npt.NDArray[np.uint8]
"""Rounded latents of one picture plus ZERO, uint8 [h, w, K]."""

ZERO = 128
"""Value of a code that stands for 0 steps."""
_OPSET = 20
_FITS = 2
"""Times that tables are fitted and codes rounded again with their bits."""


@dataclass(frozen=True)
class Rounding:
    """How the encoder rounds latents. Decoders know nothing of it."""

    dead_zone: float
    """Steps by which the border between 0 and ±1 lies beyond a half."""
    weight: float = 0.0
    """Bits that a squared error of one step counts as, when codes are picked by bits and error; 0 uses the zone."""


class _Encoder(nn.Module):
    def __init__(self, model: GridModel) -> None:
        super().__init__()
        self.folded = model.encoder.folded()
        self.register_buffer("scale", model.scale.clone())

    def forward(self, image: Tensor) -> Tensor:
        latent: Tensor = self.folded(image.permute(0, 3, 1, 2).float() / 255) * self.scale
        return latent


class _Decoder(nn.Module):
    def __init__(self, model: GridModel) -> None:
        super().__init__()
        self.folded = model.decoder.folded()
        self.register_buffer("scale", model.scale.clone())

    def forward(self, code: Tensor) -> Tensor:
        image = self.folded((code.float() - ZERO) / self.scale)
        return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


class Graphs:
    """Both halves as ONNX graphs with free sizes, run by onnxruntime on one thread. Counts its CPU seconds."""

    def __init__(self, model: GridModel) -> None:
        layout = LAYOUTS[model.layout]
        self.stride = layout.stride
        self.seconds = {"encoder": 0.0, "decoder": 0.0}
        image = torch.zeros(2, 35, 50, model.channels, dtype=torch.uint8)
        code = torch.zeros(2, 3, 4, layout.code_channels, dtype=torch.uint8)
        self._sessions = {"encoder": _session(_Encoder(model), image), "decoder": _session(_Decoder(model), code)}

    def latent(self, picture: Picture) -> Latent:
        """Encode one picture to latents in steps."""
        out: Latent = self._run("encoder", picture)
        return out

    def picture(self, code: Code, size: tuple[int, int]) -> Picture:
        """Decode one code to a picture of `size`, (height, width)."""
        out: Picture = self._run("decoder", code)[: size[0], : size[1]]
        return out

    def _run(self, role: str, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        began = time.process_time()
        (out,) = self._sessions[role].run(None, {"x": values[None]})
        self.seconds[role] += time.process_time() - began
        return out[0]


def _session(module: nn.Module, example: Tensor) -> onnxruntime.InferenceSession:
    free = {index: torch.export.Dim(f"side{index}") for index in range(3)}
    program = torch.onnx.export(
        module.eval(), (example,), input_names=["x"], opset_version=_OPSET, dynamic_shapes=(free,), dynamo=True,
        external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options, ["CPUExecutionProvider"])


def rounded(latent: Latent, rounding: Rounding, tables: FrequencyTables | None = None) -> Code:
    """Round latents to a code.

    With a weight and tables, each number becomes the nearest step, the one nearer to zero, or zero: the one with the
    least weight · (error in steps)² + bits. Otherwise the dead zone alone decides.
    """
    if not rounding.weight or tables is None:
        return _as_code(round_with_dead_zone(torch.from_numpy(latent), rounding.dead_zone).numpy())
    bits, channels = table_bits(tables), np.arange(latent.shape[-1])
    nearest = np.round(latent)
    best, least = _as_code(nearest), np.full(latent.shape, np.inf)
    for candidate in (nearest, nearest - np.sign(nearest), np.zeros_like(nearest)):
        code = _as_code(candidate)
        cost = rounding.weight * np.square(latent - candidate) + bits[channels, code]
        best, least = np.where(cost < least, code, best), np.minimum(cost, least)
    return best


def _as_code(steps: npt.NDArray[np.floating]) -> Code:
    return np.clip(steps + ZERO, 0, 255).astype(np.uint8)


def fit(latents: Sequence[Latent], rounding: Rounding) -> FrequencyTables:
    """Return one table a channel for the codes of training latents, as `rounding` makes them."""
    tables = FrequencyTables.fit(_flat([rounded(latent, rounding) for latent in latents]))
    for _ in range(_FITS if rounding.weight else 0):
        tables = FrequencyTables.fit(_flat([rounded(latent, rounding, tables) for latent in latents]))
    return tables


def choose(
    graphs: Graphs, training: Sequence[Latent], pictures: Sequence[Picture], lambda_: float, tried: Sequence[Rounding]
) -> tuple[Rounding, list[dict[str, float]]]:
    """Return the rounding of least cost on validation pictures, and the figures of all that were tried.

    The cost is the one that was trained: bits a pixel + λ · 255² · mean squared error over all pixels.
    """
    latents = [graphs.latent(picture) for picture in pictures]
    areas = np.array([picture.shape[0] * picture.shape[1] for picture in pictures])
    figures = []
    for rounding in tried:
        tables = fit(training, rounding)
        codes = [rounded(latent, rounding, tables) for latent in latents]
        bits = sum(tables.entropy_bits(_flat([code])) for code in codes) / areas.sum()
        errors = [squared_error(p, graphs.picture(c, p.shape[:2])) for p, c in zip(pictures, codes, strict=True)]
        error = float(np.average(errors, weights=areas))
        cost = float(bits + lambda_ * 255**2 * error)
        figures.append({**vars(rounding), "bits_a_pixel": float(bits), "mse": float(np.mean(errors)), "cost": cost})
    return tried[int(np.argmin([figure["cost"] for figure in figures]))], figures


def message(code: Code, size: tuple[int, int], tables: FrequencyTables) -> bytes:
    """Return one picture's code as bytes that stand alone: its height and width in two bytes each, then rANS."""
    return struct.pack("<2H", *size) + encode(_flat([code]), tables)


def pack(codes: Sequence[Code], sizes: Sequence[tuple[int, int]], tables: FrequencyTables) -> bytes:
    """Return a block of pictures: their count, their sizes compressed by zlib, then the rANS of all their codes."""
    packed = zlib.compress(np.array(sizes, "<u2").T.tobytes(), 9)
    return struct.pack("<2I", len(codes), len(packed)) + packed + encode(_flat(codes), tables)


def unpack(data: bytes, stride: int, tables: FrequencyTables) -> Iterator[tuple[Code, tuple[int, int]]]:
    """Yield the codes and sizes that `pack` was given."""
    count, length = struct.unpack_from("<2I", data)
    sizes = np.frombuffer(zlib.decompress(data[8 : 8 + length]), "<u2").reshape(2, count).T.astype(int)
    grids = [(padded_side(height, stride) // stride, padded_side(width, stride) // stride) for height, width in sizes]
    places = [height * width for height, width in grids]
    flat = decode(data[8 + length :], sum(places), tables)
    for part, grid, (height, width) in zip(np.split(flat, np.cumsum(places)[:-1]), grids, sizes, strict=True):
        yield part.reshape(*grid, -1), (int(height), int(width))


def in_blocks(codes: Sequence[Code], most: int = MAX_SYMBOLS) -> Iterator[slice]:
    """Yield slices of the codes, in order, that hold at most `most` numbers each."""
    begin = held = 0
    for index, code in enumerate(codes):
        if held + code.size > most and index > begin:
            yield slice(begin, index)
            begin, held = index, 0
        held += code.size
    yield slice(begin, len(codes))


def _flat(codes: Sequence[Code]) -> Code:
    return np.concatenate([code.reshape(-1, code.shape[-1]) for code in codes])
