"""A codec of grid codes: pictures of any sizes, as arrays and lists, in groups and in tiles."""

import numpy as np
import pytest
from grid_models import made_pictures

from aekit.errors import ShapeError
from aekit.model import grids
from aekit.model.codec import Codec
from aekit.model.grids import GridCodes


def test_pictures_of_any_size_come_back_at_their_size(grid_codec: Codec) -> None:
    pictures = made_pictures(16)
    codes = grid_codec.encode(pictures, "uint8")
    assert codes.sizes == tuple(picture.shape[:2] for picture in pictures)
    assert [code.shape for code in codes] == [(-(-p.shape[0] // 8), -(-p.shape[1] // 8), 6) for p in pictures]
    decoded = grid_codec.decode(codes)
    assert [picture.shape for picture in decoded] == [picture.shape for picture in pictures]
    errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(pictures, decoded, strict=True)]
    assert np.mean(errors) < 900  # of a variance of about 2,500: the pictures are recognised


def test_a_code_does_not_depend_on_its_company(grid_codec: Codec) -> None:
    pictures = made_pictures(12)
    together = grid_codec.encode(pictures, "uint8")
    for picture, code in zip(pictures, together, strict=True):
        np.testing.assert_array_equal(grid_codec.encode([picture], "uint8")[0], code)
        np.testing.assert_array_equal(grid_codec.encode(picture[None], "uint8")[0], code)


def test_tiles_change_nothing(grid_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.tile(made_pictures(2)[1], (3, 4, 1))[:140, :131]
    code = grid_codec.encode([picture], "uint8")
    whole = grid_codec.decode(code)[0]
    monkeypatch.setattr(grids, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(grids, "TILE_PIXELS", 40)
    np.testing.assert_array_equal(grid_codec.encode([picture], "uint8")[0], code[0])
    np.testing.assert_array_equal(grid_codec.decode(code)[0], whole)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (0, 8, 3), (8, 8, 4)])
def test_pictures_of_another_form_are_refused(grid_codec: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected uint8 \[height, width, 3\]"):
        grid_codec.encode([np.zeros(shape, np.uint8)])


def test_a_code_that_does_not_fit_its_size_is_refused(grid_codec: Codec) -> None:
    code = np.zeros((2, 3, 6), np.uint8)
    assert grid_codec.decode(GridCodes((code,), ((9, 24),)))[0].shape == (9, 24, 3)
    with pytest.raises(ShapeError, match="for 9x25 pixels"):
        grid_codec.decode(GridCodes((code,), ((9, 25),)))
    with pytest.raises(ShapeError, match="expected 2, as many as sizes"):
        GridCodes((code,), ((9, 24), (9, 24)))
