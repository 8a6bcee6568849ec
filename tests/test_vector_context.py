"""Vector codes with a context model: version 4 of the archive, messages, and the model folder."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from archives import BUNDLE, CODES, RECORDS, opened, read_whole, written
from conftest import made_images
from context_models import random_model
from plain_archive import read_archive
from test_entropy import latent_like

from aekit import Codec, Messages
from aekit.codes.archive import container, staged_archive
from aekit.codes.grid_coders import CONTEXT
from aekit.codes.tables import pack_tables, read_tables
from aekit.errors import AekitError, BundleError, CodesError, ModelMismatch
from aekit.model.bundle import Bundle

MODEL = random_model((1, 1, 2), seed=3, of_vectors=True)
IN_CONTEXT = dataclasses.replace(BUNDLE, manifest={**BUNDLE.manifest, "context": pack_tables(MODEL)})
MANY = latent_like(700, 4, 20.0, seed=5)  # with escapes


@pytest.fixture
def context_codec(model: Path) -> Codec:
    """The tiny model with a context model."""
    file = model / "model.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "context": pack_tables(MODEL), "format_version": 4}))
    return Codec.load(model, provider="cpu", threads=1)


@pytest.mark.parametrize("named", [True, False])
def test_codes_come_back_and_a_plain_reader_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(container, "MAX_INPUTS", 3)
    records = RECORDS if named else None
    data = written(CODES, records, IN_CONTEXT)
    assert data == written(CODES, records, IN_CONTEXT, 2)
    with opened(data, tmp_path, IN_CONTEXT) as archive:
        assert archive.header.version == 4
        assert archive.block(archive.places[0]).mode == CONTEXT  # type: ignore[attr-defined]
        np.testing.assert_array_equal(archive.codes(), CODES)
        np.testing.assert_array_equal(next(archive.batches(10, [1])), CODES[1:2])
        assert (list(archive.inputs()), list(archive.qualities())) == (list(records or ()), [])
    header, codes, plain = read_archive(data, read_tables(BUNDLE).tables.to_dict(), context=MODEL.to_dict())
    assert (header["named"], codes, len(plain)) == (named, CODES.tolist(), len(records or ()))
    # An archive that grew is the one made at once, to the byte.
    path = tmp_path / "grown.aek"
    path.write_bytes(written(CODES[:2], RECORDS[:2] if named else None, IN_CONTEXT))
    with staged_archive(path, IN_CONTEXT, named=named, append=True) as more:
        more.add(CODES[2:], RECORDS[2:] if named else ())
    assert path.read_bytes() == data


def test_many_codes_with_escapes_come_back(tmp_path: Path) -> None:
    codes, _ = read_whole(written(MANY, None, IN_CONTEXT), tmp_path, IN_CONTEXT)
    np.testing.assert_array_equal(codes, MANY)


def test_a_block_of_failures_alone_has_no_codes(tmp_path: Path) -> None:
    failures = [record for record in RECORDS if record.error]
    data = written(CODES[:0], failures, IN_CONTEXT)
    codes, inputs = read_whole(data, tmp_path, IN_CONTEXT)
    assert (codes.shape, inputs) == ((0, 4), failures)
    assert read_archive(data, read_tables(BUNDLE).tables.to_dict(), context=MODEL.to_dict())[1] == []


def test_every_altered_byte_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(MANY[:30], None, IN_CONTEXT)
    rng = np.random.default_rng(0)
    for at in rng.permutation(len(data))[:150]:
        altered = bytearray(data)
        altered[at] ^= 1 << int(rng.integers(8))
        with pytest.raises((CodesError, ModelMismatch)):
            opened(bytes(altered), tmp_path, IN_CONTEXT).codes()
    # Without the checksum of the frame, the block's own one finds what the codes hide.
    monkeypatch.setattr(container, "_is_sealed", lambda _: True)
    with opened(data, tmp_path, IN_CONTEXT) as archive:
        (place,) = archive.places
    for at in range(place.offset + 5, place.offset + place.size - 4):
        altered = bytearray(data)
        altered[at] ^= 1 << int(rng.integers(8))
        with opened(bytes(altered), tmp_path, IN_CONTEXT) as archive:
            try:
                found = archive.codes()
            except CodesError:
                continue
            np.testing.assert_array_equal(found, MANY[:30])  # a block may name static tables for no codes, or the like


def test_another_coder_or_count_is_refused(tmp_path: Path) -> None:
    with opened(written(CODES, None, IN_CONTEXT), tmp_path, IN_CONTEXT) as archive:
        (place,), layout = archive.places, archive._layout
        archive.codes()
        block = archive.block(place)
        for changes, found in (
            ({"mode": 7}, "expected entropy coder 0 or 1, found 7; update aekit"),
            ({"mode": 0}, "the codes (can't be decoded|decode to other numbers)"),
            ({"crc": 0}, "decode to other numbers"),
            ({"rows": 3}, "the codes can't be decoded"),
            ({"rows": 0}, "decode to other numbers"),
        ):
            with pytest.raises(CodesError, match=found):
                layout.codes(dataclasses.replace(block, **changes), "here")  # type: ignore[type-var]
        for body in (b"", bytes(12), block.to_bytes()[5:20], b"\xff\xff" * 10):  # type: ignore[attr-defined]
            with pytest.raises(CodesError, match="here: expected"):
                layout.block(body, "here")


def test_a_model_without_the_context_model_is_refused(tmp_path: Path) -> None:
    for one, other in ((IN_CONTEXT, BUNDLE), (BUNDLE, IN_CONTEXT)):
        with pytest.raises(CodesError, match="expected frequency tables"):
            opened(written(CODES, None, one), tmp_path, other).codes()


def test_an_older_aekit_refuses_it_in_words(
    tmp_path: Path, context_codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(CODES, None, IN_CONTEXT)
    monkeypatch.setattr(container, "NEWEST", 2)
    with pytest.raises(CodesError, match="expected format 2 or older, found format 4, or damage; update aekit"):
        opened(data, tmp_path)
    monkeypatch.setattr("aekit.model.bundle.FORMAT_VERSION", 2)
    with pytest.raises(BundleError, match="format 2 or older, found 4"):
        Bundle.read(context_codec.bundle.path)


def test_a_message_comes_back_and_no_altered_one_gives_another_image(context_codec: Codec, tiny_codec: Codec) -> None:
    messages, image = Messages(context_codec), made_images(1)[0]
    data, whole = messages.pack(image), tiny_codec.decode(tiny_codec.encode(image[None], "uint8"))[0]
    np.testing.assert_array_equal(messages.unpack(data), whole)
    with pytest.raises(ModelMismatch):
        Messages(tiny_codec).unpack(data)
    found = 0
    for at in range(8 * len(data)):
        altered = bytearray(data)
        altered[at // 8] ^= 1 << at % 8
        try:
            np.testing.assert_array_equal(messages.unpack(bytes(altered)), whole)
        except AekitError:
            found += 1
    assert found > 0.9 * 8 * len(data)
