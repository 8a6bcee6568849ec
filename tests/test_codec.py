"""codec: arrays in, arrays out, the same whatever the batch size or the thread."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from threading import Barrier

import numpy as np
import numpy.typing as npt
import pytest
from conftest import TINY, made_images
from PIL import Image

from aekit.errors import OptionError, ShapeError
from aekit.evaluation.metrics import mse
from aekit.model import sessions
from aekit.model.arguments import DTYPES
from aekit.model.codec import Codec

IMAGES = made_images(40, seed=5)


def test_the_public_name_is_this_codec() -> None:
    import aekit

    assert aekit.Codec is Codec
    assert set(aekit.__all__) <= set(dir(aekit))
    assert all(getattr(aekit, name) is not None for name in aekit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aekit.nothing


def test_images_come_back_much_like_they_were(tiny_codec: Codec) -> None:
    mean = np.broadcast_to(IMAGES.mean(axis=0).astype(np.uint8), IMAGES.shape)
    assert mse(IMAGES, tiny_codec.reconstruct(IMAGES)) < mse(IMAGES, mean) / 5


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_and_dtypes(tiny_codec: Codec, dtype: str) -> None:
    for count in (0, 1, 40):
        codes = tiny_codec.encode(IMAGES[:count], dtype)
        assert (codes.shape, codes.dtype) == ((count, 4), np.dtype(dtype))
        images = tiny_codec.decode(codes)
        assert (images.shape, images.dtype) == ((count, 16, 16, 1), np.uint8)


def test_codes_are_the_latents_rounded_and_halved_in_precision(tiny_codec: Codec) -> None:
    latents = tiny_codec.encode(IMAGES)
    np.testing.assert_array_equal(tiny_codec.encode(IMAGES, "uint8"), np.clip(np.rint(latents), 0, 255))
    np.testing.assert_array_equal(tiny_codec.encode(IMAGES, "float16"), latents.astype(np.float16))
    # Code units: most of a byte's range is used; images that were not trained on may go a little beyond it.
    assert -10 < latents.min() < 60 < 190 < latents.max() < 265


@pytest.mark.parametrize("batch_size", [1, 2, 7, 256])
def test_results_do_not_depend_on_the_batch_size(tiny_codec: Codec, batch_size: int) -> None:
    whole = tiny_codec.encode(IMAGES, batch_size=40)
    np.testing.assert_allclose(tiny_codec.encode(IMAGES, batch_size=batch_size), whole, atol=1e-3)
    codes = tiny_codec.encode(IMAGES, "uint8", batch_size)
    np.testing.assert_array_equal(codes, tiny_codec.encode(IMAGES, "uint8", 40))
    difference = tiny_codec.decode(codes, batch_size).astype(int) - tiny_codec.decode(codes, 40)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", ">f4"])
def test_codes_decode_alike_whatever_holds_their_numbers(tiny_codec: Codec, dtype: str) -> None:
    codes = tiny_codec.encode(IMAGES, "uint8")
    np.testing.assert_array_equal(tiny_codec.decode(codes.astype(dtype)), tiny_codec.decode(codes))


def test_a_gray_model_takes_images_without_a_channel_axis_and_any_memory_order(tiny_codec: Codec) -> None:
    codes = tiny_codec.encode(IMAGES)
    np.testing.assert_array_equal(tiny_codec.encode(IMAGES[..., 0]), codes)
    np.testing.assert_array_equal(tiny_codec.encode(np.asfortranarray(IMAGES)), codes)
    np.testing.assert_allclose(tiny_codec.encode(IMAGES[::-2]), codes[::-2], atol=1e-3)


def test_reconstruct_is_encode_then_decode(tiny_codec: Codec) -> None:
    for dtype in DTYPES:
        wanted = tiny_codec.decode(tiny_codec.encode(IMAGES, dtype))
        np.testing.assert_array_equal(tiny_codec.reconstruct(IMAGES, dtype), wanted)


def test_threads_that_share_a_codec_get_the_same_results(tiny_codec: Codec) -> None:
    codes, images = tiny_codec.encode(IMAGES), tiny_codec.reconstruct(IMAGES)
    shared = Codec.load(TINY, "cpu", threads=1)  # fresh: its graphs are loaded by the threads
    barrier = Barrier(8)

    def together(_: int) -> object:
        barrier.wait()
        return shared._sessions.session("encoder")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(map(id, pool.map(together, range(8))))) == 1
        for got in pool.map(lambda _: shared.encode(IMAGES), range(32)):
            np.testing.assert_array_equal(got, codes)
        for back in pool.map(lambda _: shared.reconstruct(IMAGES, batch_size=256), range(32)):
            np.testing.assert_array_equal(back, images)


@pytest.mark.parametrize("method", [name for name in ("spawn", "fork") if name in get_all_start_methods()])
def test_processes_get_the_same_results_however_they_start(tiny_codec: Codec, method: str) -> None:
    codes = tiny_codec.encode(IMAGES)  # so that a forked process inherits a session in use
    with get_context(method).Pool(2) as pool:
        for got in pool.map(tiny_codec.encode, [IMAGES] * 4):
            np.testing.assert_array_equal(got, codes)
    np.testing.assert_array_equal(tiny_codec.encode(IMAGES), codes)


def test_a_fork_while_another_thread_loads_a_graph_does_not_hang(tiny_codec: Codec) -> None:
    if "fork" not in get_all_start_methods():
        pytest.skip("this system has no fork")
    with sessions._opening, get_context("fork").Pool(1) as pool:  # as if a thread were loading
        codes = pool.apply_async(tiny_codec.encode, [IMAGES]).get(timeout=60)
    np.testing.assert_array_equal(codes, tiny_codec.encode(IMAGES))


@pytest.mark.parametrize(
    ("images", "fix"),
    [
        (IMAGES.astype(np.float32), r"\(255 \* images\)"),
        (IMAGES.astype(np.int64), r"astype\(np.uint8\)"),
        (IMAGES[:, :15], "fit_array"),
        (IMAGES[0], r"images\[None\]"),
        (IMAGES[0, :, :, 0], r"images\[None\]"),
        (IMAGES.repeat(3, axis=3), "fit_array"),
        (IMAGES[None], "fit_array"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_a_remedy(
    tiny_codec: Codec, images: npt.NDArray[np.uint8], fix: str
) -> None:
    with pytest.raises(ShapeError, match=rf"expected uint8 \[n, 16, 16, 1\], found .*; .*{fix}"):
        tiny_codec.encode(images)


def test_lists_pillow_images_and_types_of_numpy_are_taken(tiny_codec: Codec) -> None:
    wanted = tiny_codec.encode(IMAGES[:3], "uint8")
    pictures = [Image.fromarray(image[:, :, 0]) for image in IMAGES[:3]]
    for images in (list(IMAGES[:3]), pictures, tuple(pictures)):
        np.testing.assert_array_equal(tiny_codec.encode(images, np.uint8), wanted)
    with pytest.raises(OptionError, match="did you mean 'float32'"):
        tiny_codec.encode(IMAGES, "float23")


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((2, 5), np.float32),
        np.zeros(4, np.float32),
        np.zeros((), np.float32),
        np.zeros((2, 4, 1), np.float32),
        np.zeros((2, 4), np.int64),
        np.zeros((2, 4), bool),
        np.zeros((2, 4), complex),
        np.zeros((2, 4), object),
    ],
    ids=lambda codes: f"{codes.dtype}{codes.shape}",
)
def test_codes_that_do_not_fit_are_refused(tiny_codec: Codec, codes: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ShapeError, match=r"expected \[n, 4\] of float32, float16, uint8, found"):
        tiny_codec.decode(codes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_codes_that_float32_can_not_hold_are_refused(tiny_codec: Codec, value: float, dtype: str) -> None:
    codes = np.zeros((2, 4), np.float64)
    codes[1, 2] = value
    with pytest.raises(ShapeError, match="finite numbers"):
        tiny_codec.decode(codes.astype(dtype))


def test_options_are_checked(tiny_codec: Codec) -> None:
    with pytest.raises(OptionError, match="float32 or float16 or uint8, found 'int8'"):
        tiny_codec.encode(IMAGES, "int8")
    for batch_size in (0, -1):
        with pytest.raises(OptionError, match="1 or more"):
            tiny_codec.encode(IMAGES, batch_size=batch_size)


def test_a_codec_gives_back_the_threads_it_took() -> None:
    codec = Codec.load(TINY, "cpu", threads=6, parallel_batches=2)
    assert (codec.threads, codec.parallel_batches, codec.threads_per_batch) == (6, 2, 3)
    assert Codec.load(TINY).threads is None
    assert Codec.load(TINY, threads=1, parallel_batches=4).threads_per_batch == 1


@pytest.mark.parametrize("number", [0, -1, 4097, 10**31])
def test_threads_and_batches_beyond_reason_are_refused(number: int) -> None:
    with pytest.raises(OptionError, match="threads: expected 1 to 4,096"):
        Codec.load(TINY, threads=number)
    with pytest.raises(OptionError, match="parallel batches: expected 1 to 4,096"):
        Codec.load(TINY, parallel_batches=number)
