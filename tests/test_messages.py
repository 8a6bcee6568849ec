"""Messages: one image as bytes that stand alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import made_images
from context_models import random_model
from grid_models import made_pictures

from aekit import Codec, Messages
from aekit.codes.entropy import FrequencyTables
from aekit.codes.tables import pack_tables, read_tables
from aekit.errors import AekitError, CodesError, ModelMismatch, ShapeError


@pytest.fixture
def context_codec(grid_model: Path) -> Codec:
    """The tiny grid model with a context model."""
    file = grid_model / "model.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "context": pack_tables(random_model((2, 4)))}))
    return Codec.load(grid_model, provider="cpu", threads=1)


def test_a_picture_of_any_size_comes_back_as_its_code_says(grid_codec: Codec, context_codec: Codec) -> None:
    for codec in (grid_codec, context_codec):
        messages = Messages(codec)
        for picture in made_pictures(8):
            (expected,) = codec.decode(codec.encode([picture], "uint8"))
            np.testing.assert_array_equal(messages.unpack(messages.pack(picture)), expected)


def test_an_image_of_a_vector_model_comes_back(tiny_codec: Codec) -> None:
    messages, image = Messages(tiny_codec), made_images(1)[0]
    expected = tiny_codec.decode(tiny_codec.encode(image[None], "uint8"))[0]
    np.testing.assert_array_equal(messages.unpack(messages.pack(image)), expected)


def test_a_side_of_over_4095_pixels_takes_another_byte(grid_codec: Codec) -> None:
    messages, picture = Messages(grid_codec), np.full((3, 4100, 3), 90, np.uint8)
    large, small = messages.pack(picture), messages.pack(picture[:, :4095])
    assert [data[0] & 0x08 for data in (large, small)] == [0x08, 0]
    assert messages.unpack(large).shape == picture.shape
    assert messages.unpack(small).shape == (3, 4095, 3)


def test_a_message_costs_few_bytes_beyond_its_ideal_bits(grid_codec: Codec) -> None:
    messages, tables = Messages(grid_codec), read_tables(grid_codec.bundle).tables
    for picture in made_pictures(8):
        rows = grid_codec.encode([picture], "uint8").rows()
        assert len(messages.pack(picture)) <= tables.entropy_bits(rows) / 8 + 16


@pytest.mark.parametrize("kind", ["grid", "context", "vector"])
def test_no_altered_message_gives_another_picture(
    kind: str, grid_codec: Codec, context_codec: Codec, tiny_codec: Codec
) -> None:
    codec = {"grid": grid_codec, "context": context_codec, "vector": tiny_codec}[kind]
    messages = Messages(codec)
    image = made_images(1)[0] if kind == "vector" else made_pictures(8)[5]
    data = messages.pack(image)
    whole = messages.unpack(data)
    found = 0
    for at in range(8 * len(data)):
        altered = bytearray(data)
        altered[at // 8] ^= 1 << at % 8
        try:
            again = messages.unpack(bytes(altered))
        except AekitError:
            found += 1
            continue
        np.testing.assert_array_equal(again, whole)
    assert found > 0.9 * 8 * len(data)
    for size in range(len(data)):
        with pytest.raises(AekitError):
            messages.unpack(data[:size])


def test_a_message_of_another_export_is_refused(grid_codec: Codec, context_codec: Codec, grid_model: Path) -> None:
    data = Messages(grid_codec).pack(made_pictures(1)[0])
    with pytest.raises(ModelMismatch, match="a message: expected codes of model"):
        Messages(context_codec).unpack(data)
    with pytest.raises(CodesError, match="expected version 1, found 2; update aekit"):
        Messages(grid_codec).unpack(bytes([0x20]) + data[1:])


def test_an_image_of_another_form_is_refused(grid_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = Messages(grid_codec)
    with pytest.raises(ShapeError, match=r"expected uint8 \[height, width, 3\]"):
        messages.pack(np.zeros((8, 8), np.uint8))
    monkeypatch.setattr("aekit.codes.messages.MAX_SYMBOLS", 10)
    with pytest.raises(ShapeError, match="write an archive instead"):
        messages.pack(made_pictures(1)[0])


def test_numbers_without_a_frequency_are_packed_too(grid_model: Path) -> None:
    file = grid_model / "model.json"
    narrow = FrequencyTables.fit(np.full((50, 6), 128, np.uint8))
    file.write_text(json.dumps({**json.loads(file.read_text()), "tables": pack_tables(narrow)}))
    codec = Codec.load(grid_model, provider="cpu", threads=1)
    messages, picture = Messages(codec), made_pictures(2)[1]
    (expected,) = codec.decode(codec.encode([picture], "uint8"))
    np.testing.assert_array_equal(messages.unpack(messages.pack(picture)), expected)
