"""A codec of grid codes: pictures of any sizes, as arrays and lists, in groups, in tiles, and in parallel."""

import itertools
import subprocess
import sys
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from conftest import TINY
from grid_models import made_pictures, write_grid_model

from aekit.errors import OptionError, ShapeError
from aekit.model import grid_runs, tiles
from aekit.model.arguments import DTYPES
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes
from aekit.spec import GridGeometry


@pytest.fixture(scope="module")
def gray_codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    """A gray model of stride 16."""
    return Codec.load(write_grid_model(tmp_path_factory.mktemp("gray") / "model", channels=1, stride=16), "cpu", 1)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 40 pixels for every picture of over 1,000."""
    monkeypatch.setattr(tiles, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(tiles, "TILE_PIXELS", 40)


def large_picture(height: int = 140, width: int = 131) -> np.ndarray:
    return np.tile(made_pictures(2)[1], (9, 9, 1))[:height, :width]


def test_pictures_of_any_size_come_back_at_their_size(grid_codec: Codec) -> None:
    pictures = made_pictures(16)
    codes = grid_codec.encode(pictures, "uint8")
    assert codes.sizes == tuple(picture.shape[:2] for picture in pictures)
    assert [code.shape for code in codes] == [(-(-p.shape[0] // 8), -(-p.shape[1] // 8), 6) for p in pictures]
    decoded = grid_codec.decode(codes)
    assert [picture.shape for picture in decoded] == [picture.shape for picture in pictures]
    errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(pictures, decoded, strict=True)]
    assert np.mean(errors) < 900  # of a variance of about 2,500: the pictures are recognised


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (16, 16), (17, 15), (33, 50)])
def test_every_size_has_a_code_and_comes_back(gray_codec: Codec, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 1), dtype=np.uint8)
    codes = gray_codec.encode([picture], "uint8")
    assert codes[0].shape == (-(-size[0] // 16), -(-size[1] // 16), 6)
    assert gray_codec.decode(codes)[0].shape == (*size, 1)
    np.testing.assert_array_equal(gray_codec.encode([picture[..., 0]], "uint8")[0], codes[0])


def test_a_code_is_the_code_of_the_picture_with_repeated_edges(grid_codec: Codec) -> None:
    picture = made_pictures(1)[0]
    height, width = ((0, -side % 8) for side in picture.shape[:2])
    padded = np.pad(picture, (height, width, (0, 0)), mode="edge")
    np.testing.assert_array_equal(grid_codec.encode([picture], "uint8")[0], grid_codec.encode([padded], "uint8")[0])


def test_a_code_does_not_depend_on_its_company(grid_codec: Codec) -> None:
    pictures = made_pictures(12)
    together = grid_codec.encode(pictures, "uint8")
    for picture, code in zip(pictures, together, strict=True):
        np.testing.assert_array_equal(grid_codec.encode([picture], "uint8")[0], code)
        np.testing.assert_array_equal(grid_codec.encode(picture[None], "uint8")[0], code)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_arrays_and_lists_have_the_same_codes(grid_codec: Codec, dtype: str, count: int) -> None:
    images = np.stack([large_picture(21 + 0 * row, 33) // (row + 1) for row in range(5)])[:count]
    codes, listed = grid_codec.encode(images, dtype), grid_codec.encode(list(images), dtype)
    assert (codes.shape, codes.dtype) == ((count, 3, 5, 6), np.dtype(dtype))
    assert isinstance(listed, GridCodes) and len(listed) == count
    whole = grid_codec.decode(codes)
    assert (whole.shape, whole.dtype) == ((count, 24, 40, 3), np.dtype(np.uint8))
    if count:
        np.testing.assert_array_equal(grid_codec.decode(list(codes)), whole)
    again = grid_codec.reconstruct(images, dtype)
    assert again.shape == images.shape
    for row in range(count):
        np.testing.assert_array_equal(listed[row], codes[row])
        np.testing.assert_array_equal(grid_codec.decode(listed)[row], whole[row, :21, :33])
        np.testing.assert_array_equal(grid_codec.reconstruct(list(images), dtype)[row], again[row])
        np.testing.assert_array_equal(again[row], whole[row, :21, :33])


@pytest.mark.parametrize("batch_size", [1, 2, 7])
@pytest.mark.parametrize("parallel", [1, 3])
def test_batches_and_parallel_runs_change_nothing(grid_codec: Codec, batch_size: int, parallel: int) -> None:
    pictures = made_pictures(24)
    codes = grid_codec.encode(pictures, "uint8")
    other = Codec.load(grid_codec.bundle.path, "cpu", threads=1, parallel_batches=parallel)
    for code, found in zip(codes, other.encode(pictures, "uint8", batch_size), strict=True):
        np.testing.assert_array_equal(found, code)
    for picture, found in zip(grid_codec.decode(codes), other.decode(codes, batch_size), strict=True):
        assert np.abs(found.astype(int) - picture).max() <= 1


def test_a_run_holds_pictures_of_one_padded_size_and_not_too_many(
    grid_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, real = [], grid_codec._sessions.run_batch

    def run_batch(role: str, output: str, name: str, rows: np.ndarray, out: np.ndarray, *rest: object) -> None:
        seen.append(rows.shape)
        real(role, output, name, rows, out, *rest)

    monkeypatch.setattr(grid_codec._sessions, "run_batch", run_batch)
    monkeypatch.setattr(grid_runs, "RUN_PIXELS", 3 * 24 * 40)
    sizes = [(20, 33), (48, 40), (24, 40), (17, 34), (19, 40), (23, 39), (41, 40)]
    grid_codec.encode([np.zeros((*size, 3), np.uint8) for size in sizes], "uint8")
    assert sorted(seen) == [(1, 48, 40, 3), (1, 48, 40, 3), (2, 24, 40, 3), (3, 24, 40, 3)]


@pytest.mark.parametrize("shape", [(140, 131), (41, 40), (1, 1100), (137, 8), (200, 200)])
def test_tiles_change_nothing(grid_codec: Codec, shape: tuple[int, int], request: pytest.FixtureRequest) -> None:
    picture = large_picture(*shape) if min(shape) > 1 else np.tile(large_picture(1, 100), (1, 11, 1))
    code = grid_codec.encode([picture], "uint8")
    latent = grid_codec.encode([picture])[0]
    whole = grid_codec.decode(code)[0]
    request.getfixturevalue("small_tiles")
    assert len(tiles.tiles_of(code[0].shape, grid_codec.spec.grid, 1)) > 1
    np.testing.assert_array_equal(grid_codec.encode([picture], "uint8")[0], code[0])
    np.testing.assert_allclose(grid_codec.encode([picture])[0], latent, atol=1e-3)
    assert np.abs(grid_codec.decode(code)[0].astype(int) - whole).max() <= 1


@pytest.mark.usefixtures("small_tiles")
def test_without_its_margin_a_tile_has_other_codes(grid_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above must be able to fail: the made model does depend on a place's neighbours."""
    picture = large_picture()
    code = grid_codec.encode([picture])[0]
    real = tiles.tiles_of
    monkeypatch.setattr(grid_runs, "tiles_of", lambda shape, geometry, _: real(shape, geometry, 0))
    assert np.abs(grid_codec.encode([picture])[0] - code).max() > 0.1


@pytest.mark.usefixtures("small_tiles")
def test_large_pictures_among_small_ones_keep_the_order(grid_codec: Codec) -> None:
    pictures = [*made_pictures(5), large_picture(), *made_pictures(3), large_picture(90, 131)]
    parallel = Codec.load(grid_codec.bundle.path, "cpu", threads=2, parallel_batches=2)
    for codec in (grid_codec, parallel):
        codes = codec.encode(pictures, "uint8")
        assert codes.sizes == tuple(picture.shape[:2] for picture in pictures)
        for place, picture in enumerate(pictures):
            np.testing.assert_array_equal(codes[place], grid_codec.encode([picture], "uint8")[0])
            np.testing.assert_array_equal(codec.decode(codes)[place], grid_codec.decode(codes[place : place + 1])[0])


def test_tiles_cover_a_side_once_and_are_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for places, tile, halo in itertools.product((1, 5, 39, 40, 41, 57, 1000), (1, 7, 40), (0, 3, 11)):
        monkeypatch.setattr(tiles, "TILE_PIXELS", 16 * tile)
        geometry = GridGeometry(16, 3, halo, halo)
        spans = tiles._spans(places, geometry, halo)
        assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
        assert tiles.tile_borders(places, geometry, halo) == [span.start for span in spans[1:]]
        assert (spans[0].start, spans[-1].stop) == (spans[0].first, spans[-1].last) == (0, places)
        assert len({span.last - span.first for span in spans}) == 1
        assert spans[0].last - spans[0].first <= max(tile, 3 * halo, 1)
        for span in spans:
            assert 0 <= span.first <= span.start < span.stop <= span.last <= places
            assert span.start - span.first >= halo or span.start == 0
            assert span.last - span.stop >= halo or span.stop == places


def test_runs_at_a_time_are_limited_by_their_pixels(grid_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_runs, "RUN_PIXELS", 1)  # a run for each picture
    monkeypatch.setattr(grid_runs, "FLIGHT_PIXELS", 2 * 24 * 40)
    codec, lock, now, most = Codec.load(grid_codec.bundle.path, "cpu", 4, parallel_batches=4), Lock(), [], []
    real = codec._sessions.run_batch

    def run_batch(role: str, output: str, name: str, rows: np.ndarray, out: np.ndarray, *rest: object) -> None:
        with lock:
            now.append(rows.shape[1] * rows.shape[2])
            most.append(sum(now))
        real(role, output, name, rows, out, *rest)
        with lock:
            now.remove(rows.shape[1] * rows.shape[2])

    monkeypatch.setattr(codec._sessions, "run_batch", run_batch)
    pictures = [large_picture(24, 40)] * 12 + [large_picture(120, 130)]  # the last one is larger than the limit
    codec.encode(pictures, "uint8")
    assert len(most) == 13 and max(most) == 120 * 136
    assert sorted(most)[-2] <= 2 * 24 * 40


# --- codes


def test_grid_codes_are_a_sequence_and_slices_are_grid_codes(grid_codec: Codec) -> None:
    pictures = made_pictures(6)
    codes = grid_codec.encode(pictures, "uint8")
    part = codes[1:5:2]
    assert isinstance(part, GridCodes)
    assert part.sizes == (codes.sizes[1], codes.sizes[3])
    np.testing.assert_array_equal(part[1], codes[3])
    np.testing.assert_array_equal(codes[-1], codes.codes[5])
    both = part + codes[:1]
    assert both.sizes == (*part.sizes, codes.sizes[0])
    np.testing.assert_array_equal(codes.rows(), np.concatenate([code.reshape(-1, 6) for code in codes]))
    assert len(GridCodes((), ())) == 0 and GridCodes((), ()).rows().size == 0
    assert grid_codec.decode(GridCodes((), ())) == []


@pytest.mark.parametrize("size", [(0, 8), (8, -1), (8,), (8, 8, 8)])
def test_sizes_that_no_picture_has_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="height and width of 1 or more"):
        GridCodes((np.zeros((1, 1, 6), np.uint8),), (size,))


def test_numbers_of_codes_and_sizes_must_agree() -> None:
    code = np.zeros((2, 3, 6), np.uint8)
    with pytest.raises(ShapeError, match="expected 2, as many as sizes"):
        GridCodes((code,), ((9, 24), (9, 24)))
    for other in (code[0], code.astype(np.int32), code.astype(str)):
        with pytest.raises(ShapeError, match=r"expected \[h, w, K\] of uint8 or floating point"):
            GridCodes((other,), ((9, 24),))


# --- what is refused


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (0, 8, 3), (8, 0, 3), (8, 8, 4), (1, 8, 8, 3)])
def test_pictures_of_another_form_are_refused(grid_codec: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected uint8 \[height, width, 3\]"):
        grid_codec.encode([np.zeros(shape, np.uint8)])
    with pytest.raises(ShapeError, match=r"expected uint8 \[height, width, 3\]"):
        grid_codec.encode([np.zeros((8, 8, 3), np.float32)])


@pytest.mark.parametrize("shape", [(), (3,), (8, 8), (1, 1, 8, 8, 3)])
def test_arrays_of_another_form_are_refused(grid_codec: Codec, shape: tuple[int, ...]) -> None:
    for call in (grid_codec.encode, grid_codec.reconstruct):
        with pytest.raises(ShapeError, match=r"a list of pictures, or uint8 \[n, height, width, 3\]"):
            call(np.zeros(shape, np.uint8))


def test_a_code_that_does_not_fit_its_size_is_refused(grid_codec: Codec) -> None:
    code = np.zeros((2, 3, 6), np.uint8)
    assert grid_codec.decode(GridCodes((code,), ((9, 24),)))[0].shape == (9, 24, 3)
    for size in ((9, 25), (17, 24), (8, 24), (9, 16)):
        with pytest.raises(ShapeError, match=f"for {size[0]}x{size[1]} pixels"):
            grid_codec.decode(GridCodes((code,), (size,)))


@pytest.mark.parametrize("shape", [(2, 3, 6), (1, 2, 3, 5), (6,), (1, 1, 2, 3, 6), (2, 0, 3, 6)])
def test_codes_of_another_form_are_refused(grid_codec: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        grid_codec.decode(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_codes_that_float32_can_not_hold_are_refused(grid_codec: Codec, value: float) -> None:
    code = np.zeros((2, 3, 6))
    code[1, 2, 3] = value
    for codes in (code[None], GridCodes((code,), ((9, 24),))):
        with pytest.raises(ShapeError, match="finite numbers"):
            grid_codec.decode(codes)


def test_options_are_checked(grid_codec: Codec) -> None:
    with pytest.raises(OptionError, match="float32 or float16 or uint8, found 'int8'"):
        grid_codec.encode(made_pictures(1), "int8")
    for call in (lambda: grid_codec.encode(made_pictures(1), batch_size=0), lambda: grid_codec.decode([], 0)):
        with pytest.raises(OptionError, match="1 or more"):
            call()


def test_a_vector_model_says_so_when_it_meets_pictures_or_grid_codes(grid_codec: Codec) -> None:
    vectors = Codec.load(TINY, "cpu", 1)
    for call in (vectors.encode, vectors.reconstruct):
        with pytest.raises(ShapeError, match="images of differing sizes"):
            call([np.zeros((16, 16, 1), np.uint8), np.zeros((16, 17, 1), np.uint8)])
    with pytest.raises(ShapeError, match="found grid codes; use the model that made these codes"):
        vectors.decode(grid_codec.encode(made_pictures(2), "uint8"))
    with pytest.raises(ShapeError, match=r"expected \[n, h, w, 6\], or a GridCodes, found \[2, 4\]"):
        grid_codec.decode(np.zeros((2, 4), np.uint8))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_a_large_picture_takes_little_more_memory_than_it_has_pixels(shared_grid_model: Path) -> None:
    code = (
        "import re, sys\nimport numpy as np\nfrom pathlib import Path\nfrom aekit.model.codec import Codec\n"
        "def memory(name): return int(re.search(name + r':\\s*(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "codec = Codec.load(sys.argv[1], 'cpu', 1)\n"
        "codec.reconstruct([np.zeros((8, 8, 3), np.uint8)])\n"
        "picture = np.full((6000, 5000, 3), 90, np.uint8)\n"
        "before = memory('VmRSS')\ncodes = codec.encode([picture], 'uint8')\npicture = codec.decode(codes)[0]\n"
        "print((memory('VmHWM') - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, shared_grid_model], capture_output=True, text=True, check=True)
    # 30 megapixels: the decoded picture takes 86 MB. Encoded or decoded at once, floats of it alone take 343 MB.
    assert float(done.stdout) < 300
