"""The grid network: sizes of codes and pictures, the transform it starts as, padding, crops, and export of any size."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from aekit.errors import OptionError
from aekit.pca import Pca
from aekit.training.crops import CropSampler, padded_side
from aekit.training.networks.blocks import pad_to_stride, sample_blocks
from aekit.training.networks.grid import GridDecoder, GridEncoder, grid
from aekit.training.networks.layouts import LAYOUTS, GridLayout

LAYOUT = GridLayout(8, 12, ((8, 1), (8, 1)), ((8, 1), (8, 1)))
SMALL = GridLayout(16, 12, ((8, 1), (8, 1), (8, 1)), ((8, 1), (8, 1), (8, 1)))
LIMITS = {"tiny": (2, 5), "small": (5, 15), "default": (10, 40), "large": (20, 80)}
"""Most kMAC a pixel of each preset's encoder and decoder."""


def pictures(channels: int, *sizes: tuple[int, int]) -> list[np.ndarray]:
    """Smooth random pictures, uint8 [H, W, channels]."""
    rng, made = np.random.default_rng(1), []
    for height, width in sizes:
        waves = np.cumsum(rng.normal(0, 8, (height, width, channels)), 1) + np.cumsum(
            rng.normal(0, 8, (height, 1, 1)), 0
        )
        made.append((waves + 128).clip(0, 255).astype(np.uint8))
    return made


def fitted(layout: GridLayout, channels: int) -> Pca:
    blocks = sample_blocks(pictures(channels, (64, 80), (33, 50)), layout.stride, 500, torch.Generator().manual_seed(0))
    return Pca.fit(blocks.numpy()[:, None, :, None], layout.code_channels)


def floats(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("layout", [LAYOUT, SMALL])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (16, 16), (17, 31)])
def test_a_code_has_a_place_for_every_block_and_a_picture_covers_them(
    layout: GridLayout, channels: int, size: tuple[int, int]
) -> None:
    encoder, decoder = grid(layout, channels, None)
    rows, columns = (-(-side // layout.stride) for side in size)
    z = encoder(torch.rand(2, channels, *size))
    assert z.shape == (2, rows, columns, layout.code_channels)
    assert decoder(z).shape == (2, channels, rows * layout.stride, columns * layout.stride)


@torch.no_grad()
def test_before_training_it_is_the_principal_transform_of_blocks() -> None:
    channels, principal = 3, fitted(LAYOUT, 3)
    encoder, decoder = grid(LAYOUT, channels, principal)
    (picture,) = pictures(channels, (24, 40))
    x = floats(picture)
    blocks = nn.functional.pixel_unshuffle(x, LAYOUT.stride)[0].flatten(1).T.numpy()
    coefficients = (blocks - principal.mean) @ principal.components.T
    z = encoder(x)
    expected = coefficients / encoder.deviations.numpy()
    np.testing.assert_allclose(z[0].flatten(0, 1).numpy(), expected, atol=1e-4)
    back = coefficients @ principal.components + principal.mean
    x_hat = nn.functional.pixel_unshuffle(decoder(z), LAYOUT.stride)[0].flatten(1).T.numpy()
    np.testing.assert_allclose(x_hat, back, atol=1e-5)


def test_no_latent_stands_for_less_than_the_finest_step() -> None:
    principal = fitted(LAYOUT, 1)
    finest = float(principal.scales[4])
    encoder, _ = grid(LAYOUT, 1, principal, finest)
    assert encoder.deviations[:4].tolist() == pytest.approx(principal.scales[:4].tolist())
    assert encoder.deviations[5:].tolist() == pytest.approx([finest] * 7)


@torch.no_grad()
def test_padding_repeats_the_last_row_and_column() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    expected = nn.functional.pad(x, (0, 5, 0, 6), mode="replicate")
    assert torch.equal(pad_to_stride(x, 8), expected)
    assert torch.equal(pad_to_stride(expected, 8), expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_presets_stay_within_their_work_and_count_it_rightly(name: str) -> None:
    layout, side = LAYOUTS[name], 64
    encoder, decoder = grid(layout, 3, None)
    work = [_macs(encoder, torch.zeros(1, 3, side, side)) / side**2 / 1000]
    places = side // layout.stride
    work.append(_macs(decoder, torch.zeros(1, places, places, layout.code_channels)) / side**2 / 1000)
    assert layout.kmac(3) == pytest.approx(tuple(work))
    assert all(found <= most for found, most in zip(work, LIMITS[name], strict=True))


@torch.no_grad()
def _macs(half: nn.Module, x: Tensor) -> float:
    """Multiplications of one pass: those of the convolutions by hooks, those of the block transform by its size."""
    total = 0.0

    def count(layer: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += out.shape[2] * out.shape[3] * layer.weight.numel()

    for layer in half.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    out = half(x)
    places = out.shape[1:3] if x.dim() == 4 and x.shape[1] == 3 else x.shape[1:3]
    return total + places[0] * places[1] * half.transform.numel()


@torch.no_grad()
def test_a_tile_with_its_halo_has_the_codes_and_pixels_of_the_whole() -> None:
    (encoder, decoder), (around, behind), stride = trained(), SMALL.halo, SMALL.stride
    x = torch.rand(1, 3, stride, 16 * stride, generator=torch.Generator().manual_seed(2))
    z, begin, end = encoder(x), 6, 9
    tile = x[..., (begin - around) * stride : (end + around) * stride]
    torch.testing.assert_close(encoder(tile)[:, :, around:-around], z[:, :, begin:end], atol=1e-4, rtol=1e-4)
    other = x.clone()
    other[..., : (begin - around) * stride] = 0
    assert not torch.allclose(encoder(other)[:, :, begin - around], z[:, :, begin - around], atol=1e-3)
    part = decoder(z[:, :, begin - behind : end + behind])[..., behind * stride : -behind * stride]
    torch.testing.assert_close(part, decoder(z)[..., begin * stride : end * stride], atol=1e-4, rtol=1e-4)


def test_a_layout_that_does_not_fit_its_stride_is_refused() -> None:
    with pytest.raises(OptionError, match="stride: expected 8 or 16"):
        GridLayout(32, 12, ((8, 1),), ((8, 1),))
    with pytest.raises(OptionError, match="grid decoder: expected 2 levels"):
        GridLayout(8, 12, ((8, 1), (8, 1)), ((8, 1),))
    with pytest.raises(OptionError, match="code channels"):
        GridLayout(8, 65, ((8, 1), (8, 1)), ((8, 1), (8, 1)))


def test_crops_keep_to_their_picture_and_say_what_lies_outside() -> None:
    sampler = CropSampler(pictures(3, (100, 70), (10, 40), (20, 21)), 32, 16)
    rng, sizes = np.random.default_rng(0), set()
    for _ in range(60):
        batch = sampler.batch(12, rng)
        count, channels, height, width = batch.pixels.shape
        assert channels == 3 and batch.pixels.dtype == torch.uint8
        assert count == max(1, round(12 * 256 / (height * width)))
        assert batch.inside.shape == (count, 1, height, width)
        sizes.add((height, width))
        if height == 16:  # of the picture that is 10 high and 40 wide
            assert batch.inside[:, 0, 10:].sum() == 0 and bool(batch.inside[:, 0, :10, :24].all())
            assert torch.equal(batch.pixels[:, :, 9], batch.pixels[:, :, 15])
    assert sizes == {(32, 32), (16, 32)}


def test_flipped_crops_are_the_same_pixels() -> None:
    (picture,) = pictures(1, (16, 16))
    sampler, rng = CropSampler([picture], 16, 16, flips=True), np.random.default_rng(0)
    crops = {batch.pixels.numpy().tobytes() for batch in (sampler.batch(1, rng) for _ in range(100))}
    assert len(crops) == 8
    assert len({bytes(sorted(crop)) for crop in crops}) == 1


def test_crops_that_are_no_multiple_of_the_stride_are_refused() -> None:
    with pytest.raises(OptionError, match="multiple of the stride"):
        CropSampler(pictures(1, (16, 16)), 24, 16)
    with pytest.raises(OptionError, match="all gray or all in colour"):
        CropSampler(pictures(1, (16, 16)) + pictures(3, (16, 16)), 16, 16)
    assert [padded_side(side, 16) for side in (1, 16, 17)] == [16, 16, 32]


class _Graph(nn.Module):
    """uint8 pictures [n, H, W, C] to latents: the shape in which an encoder is exported."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.encoder(image.permute(0, 3, 1, 2).float() / 255)
        return out


@torch.no_grad()
def trained() -> tuple[GridEncoder, GridDecoder]:
    """Halves whose branches count, as after training."""
    halves = grid(SMALL, 3, fitted(SMALL, 3))
    for half in halves:
        for parameter in half.branch.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
    return halves


@torch.no_grad()
def test_folded_halves_compute_the_same() -> None:
    encoder, decoder = trained()
    x = torch.rand(2, 3, 33, 50, generator=torch.Generator().manual_seed(1))
    z = encoder(x)
    assert float((z - grid(SMALL, 3, fitted(SMALL, 3))[0](x)).abs().max()) > 0.1  # the branch does count
    torch.testing.assert_close(encoder.folded()(x), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoder.folded()(z), decoder(z), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_one_exported_graph_takes_pictures_of_any_size() -> None:
    encoder, decoder = (half.folded() for half in trained())
    free = torch.export.Dim("batch"), torch.export.Dim("height"), torch.export.Dim("width")
    halves = {
        "image": (_Graph(encoder).eval(), torch.zeros(2, 35, 50, 3, dtype=torch.uint8)),
        "latent": (decoder.eval(), torch.zeros(2, 3, 4, SMALL.code_channels)),
    }
    sessions = {}
    for name, (half, example) in halves.items():
        program = torch.onnx.export(
            half, (example,), input_names=[name], opset_version=20, dynamic_shapes=(dict(enumerate(free)),),
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
        assert program is not None
        sessions[name] = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    rng = np.random.default_rng(0)
    for batch, height, width in ((1, 1, 1), (1, 1, 300), (2, 37, 41), (7, 16, 16)):
        image = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        latent = _Graph(encoder)(torch.from_numpy(image))
        (found,) = sessions["image"].run(None, {"image": image})
        assert found.shape == (batch, -(-height // 16), -(-width // 16), SMALL.code_channels)
        np.testing.assert_allclose(found, latent.numpy(), atol=1e-3)
        (back,) = sessions["latent"].run(None, {"latent": found})
        np.testing.assert_allclose(back, decoder(torch.from_numpy(found)).numpy(), atol=1e-4)
