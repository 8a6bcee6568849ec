"""A tiny grid model for tests: a block transform (KLT) of made pictures, exported with free sizes. Not trained."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables
from aekit.exporting.graphs import OPSET, finish_graph, strip_traces
from aekit.images.decode import Pixels
from aekit.images.sources import FolderSource, open_source
from aekit.model.bundle import ROLES, graph_file, write_manifest
from aekit.model.codec import Codec
from aekit.pca import Pca
from aekit.spec import GridGeometry, ModelSpec
from aekit.training.networks.blocks import BlockTransform, pad_to_stride, sample_blocks

SIZES = ((20, 33), (48, 40), (8, 8), (64, 25), (1, 70), (7, 3), (16, 16), (31, 47))
"""(height, width) of the made pictures, over and over."""
BAD = ("a/003.png", "n-bad.jpg", "z-bad.png")
"""Damaged files in a folder of `write_mixed`."""


def made_pictures(count: int, channels: int = 3, seed: int = 0) -> list[Pixels]:
    """Smooth blobs of colour with some grain in the sizes of SIZES, uint8 [H, W, channels]."""
    rng, pictures = np.random.default_rng(seed), list[Pixels]()
    for row in range(count):
        height, width = SIZES[row % len(SIZES)]
        y, x = np.mgrid[:height, :width][..., None] / 24
        phase, speed = rng.uniform(0, 6, channels), rng.uniform(0.5, 2, channels)
        picture = 128 + 70 * np.sin(speed * y + phase) * np.cos(speed * x + 2 * phase)
        grain = rng.normal(0, 4, (height, width, channels))
        pictures.append((picture + grain).clip(0, 255).astype(np.uint8))
    return pictures


def write_mixed(folder: Path) -> FolderSource:
    """27 pictures of many sizes and kinds, of which three are damaged: within, and at the end."""
    (folder / "a").mkdir(parents=True)
    for row, picture in enumerate(made_pictures(17)):
        Image.fromarray(picture).save(folder / f"a/{row:03d}.png")
    gray, colour = made_pictures(2, 1, seed=1)[1][..., 0], made_pictures(1, seed=2)[0]
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(np.tile(gray.astype(np.uint16) * 200, (2, 1))).save(folder / "gray16.png")
    Image.fromarray(colour).save(folder / "turned.jpg", exif=turned, quality=95)
    Image.fromarray(colour).save(folder / "lossy.webp")
    Image.fromarray(colour).quantize(9).save(folder / "palette.png", transparency=2)
    Image.new("RGB", (1, 1), "teal").save(folder / "one.png")
    Image.fromarray(np.arange(15000, dtype=np.uint8).reshape(1, 5000, 3)).save(folder / "line.png")
    Image.new("LA", (33, 9), (80, 120)).save(folder / "alpha.png")
    for name in BAD:
        (folder / name).write_bytes(b"no picture")
    source = open_source(str(folder))
    assert isinstance(source, FolderSource)
    return source


def write_grid_model(folder: Path, *, channels: int = 3, stride: int = 8, code_dim: int = 6, max_side: int = 0) -> Path:
    """Write a grid model to `folder` and return it. Its halves have a convolution each, so that the halo matters."""
    pictures = made_pictures(16, channels)
    blocks = sample_blocks([torch.from_numpy(each) for each in pictures], stride, 2000, torch.Generator())
    principal = Pca.fit(blocks.numpy()[:, None, :, None], code_dim)
    transform = BlockTransform.of(principal, channels * stride**2, code_dim, 0.2)
    spec = ModelSpec(GridGeometry(stride, channels, 1, 1, max_side), code_dim, "rate", "grid", "tiny")
    encoder, decoder = _Encoder(transform, stride), _Decoder(transform, stride)
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    examples = {
        "encoder": (encoder, torch.zeros(2, 35, 52, channels, dtype=torch.uint8), {0: batch, 1: height, 2: width}),
        "decoder": (decoder, torch.zeros(2, 3, 5, code_dim), {0: batch, 1: rows, 2: columns}),
    }
    names = {"encoder": (["image"], ["latent", "code"]), "decoder": (["latent"], ["image"])}
    model_id = "0123456789abcdef"
    folder.mkdir(parents=True, exist_ok=True)
    for role, (module, example, free) in examples.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own internals
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=names[role][0],
                output_names=names[role][1],
                opset_version=OPSET,
                dynamic_shapes=(free,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert program is not None
        strip_traces(program.model_proto)
        finish_graph(program.model_proto, graph_file(folder, role), spec, model_id, "fp32")
    write_manifest(folder, ROLES, spec, model_id, "fp32", {})
    codes = Codec.load(folder, provider="cpu", threads=1).encode(pictures, "uint8")
    facts = {"tables": pack_tables(FrequencyTables.fit(codes.rows())), "training": {}}
    write_manifest(folder, ROLES, spec, model_id, "fp32", facts)
    return folder


class _Encoder(nn.Module):
    def __init__(self, transform: BlockTransform, stride: int) -> None:
        super().__init__()
        self.stride = stride
        weight = transform.components / transform.deviations[:, None]
        self.to_code = _convolution(weight.unflatten(1, (-1, stride, stride)), -weight @ transform.mean, stride)
        self.around = _around(len(weight))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = pad_to_stride(image.permute(0, 3, 1, 2).float() / 255, self.stride)
        z = self.to_code(x)
        latent = 8 * (z + self.around(z)).permute(0, 2, 3, 1) + 128
        return latent, latent.round().clamp(0, 255).to(torch.uint8)


class _Decoder(nn.Module):
    def __init__(self, transform: BlockTransform, stride: int) -> None:
        super().__init__()
        self.stride = stride
        weight = (transform.components * transform.deviations[:, None]).T
        self.to_blocks = _convolution(weight[:, :, None, None], transform.mean, 1)
        self.around = _around(weight.shape[1])

    def forward(self, latent: Tensor) -> Tensor:
        z = ((latent - 128) / 8).permute(0, 3, 1, 2)
        x = nn.functional.pixel_shuffle(self.to_blocks(z - self.around(z)), self.stride)
        return (x.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _convolution(weight: Tensor, bias: Tensor, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3]), stride)
    with torch.no_grad():
        layer.weight.copy_(weight)
        assert layer.bias is not None
        layer.bias.copy_(bias)
    return layer


def _around(channels: int) -> nn.Conv2d:
    """A small 3×3 convolution with weights of a fixed generator."""
    layer = nn.Conv2d(channels, channels, 3, padding=1)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.weight.copy_(0.01 * torch.randn(layer.weight.shape, generator=rng))
        assert layer.bias is not None
        layer.bias.zero_()
    return layer
