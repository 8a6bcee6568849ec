"""The context model of grid codes: exact on every machine, and every damage found."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from context_models import Codes, random_codes, random_model
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_context import plain_decode

from aekit.codes.context import ContextModel, coder, decode, encode
from aekit.codes.context.network import LIMITS
from aekit.codes.context.places import Canvas, Lattice, Offset, cover_once, known
from aekit.codes.entropy import MAX_SYMBOLS
from aekit.errors import CodesError, ShapeError, TablesError

MODEL = random_model([2, 3], seed=1)
SHAPES = [(2, 4), (1, 1), (3, 1)]
CODES = random_codes(SHAPES, 5, seed=2)
WHOLE = encode(CODES, MODEL)


def same(codes: list[Codes], others: list[Codes]) -> bool:
    return len(codes) == len(others) and all(np.array_equal(a, b) for a, b in zip(codes, others, strict=True))


@pytest.mark.parametrize("sizes", [[1], [2], [3, 1], [1, 1, 6], [2, 6, 16, 24], [2, 6, 16, 40]])
@pytest.mark.parametrize(
    "shapes", [[(1, 1)], [(1, 300)], [(300, 1)], [(7, 5)], [(16, 16), (1, 1), (2, 3), (9, 4)], [(1, 1)] * 40]
)
def test_round_trip(sizes: list[int], shapes: list[tuple[int, int]]) -> None:
    model, codes = random_model(sizes), random_codes(shapes, sum(sizes))
    assert same(decode(encode(codes, model), shapes, model), codes)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_plain_decoder_agrees(data: st.DataObject) -> None:
    shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
    shapes = data.draw(st.lists(shape, min_size=1, max_size=3))
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    model = random_model(sizes, seed=data.draw(st.integers(0, 1000)), hidden=data.draw(st.integers(1, 5)))
    codes = random_codes(
        shapes, sum(sizes), data.draw(st.integers(0, 1000)), data.draw(st.sampled_from([0.1, 2.0, 30.0]))
    )
    block = encode(codes, model)
    assert same(decode(block, shapes, model), codes)
    assert plain_decode(block, shapes, model.to_dict()) == [code.tolist() for code in codes]


def test_the_plain_decoder_agrees_on_a_block_whose_lanes_double() -> None:
    model, shapes = random_model([1, 3]), [(40, 60)]
    codes = random_codes(shapes, 4)
    block = encode(codes, model)
    assert block[0] >> 4 >= 2
    assert plain_decode(block, shapes, model.to_dict()) == [code.tolist() for code in codes]


def test_symbols_do_not_depend_on_the_carrier_or_the_other_pictures() -> None:
    wide = dataclasses.replace(MODEL, carrier="float64")
    assert encode(CODES, wide) == WHOLE
    assert same(decode(WHOLE, SHAPES, wide), CODES)
    # A symbol's table and residual are the same whatever its picture shares the block with.
    alone = [coder.symbol_index([code], MODEL) for code in CODES]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        together = coder.symbol_index([CODES[index] for index in order], MODEL)
        assert sorted(together.tolist()) == sorted(np.concatenate(alone).tolist())
        moved = [CODES[index] for index in order]
        assert same(decode(encode(moved, MODEL), [SHAPES[index] for index in order], MODEL), moved)


EXACT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from context_models import random_codes, random_model
from aekit.codes.context import decode, encode
model, shapes = random_model([2, 6, 16, 24], hidden=48), [(40, 31), (3, 3)]
codes = random_codes(shapes, 48)
block = encode(codes, model)
again = decode(block, shapes, model)
assert all((a == b).all() for a, b in zip(again, codes))
print(hashlib.sha256(block).hexdigest())
"""


@pytest.mark.parametrize(
    "settings",
    [
        {"OPENBLAS_NUM_THREADS": "1"},
        {"OPENBLAS_NUM_THREADS": "4"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_CORETYPE": "Zen"},
    ],
    ids=str,
)
def test_bytes_are_the_same_on_other_kernels_and_thread_counts(settings: dict[str, str]) -> None:
    command = [sys.executable, "-c", EXACT, str(Path(__file__).parent)]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    model, shapes = random_model([2, 6, 16, 24], hidden=48), [(40, 31), (3, 3)]
    here = hashlib.sha256(encode(random_codes(shapes, 48), model)).hexdigest()
    assert done.stdout.strip() == here


def test_the_committed_block_never_changes() -> None:
    """Models and blocks that were written once are read for ever, and written again byte for byte."""
    example = json.loads((Path(__file__).parent / "data" / "context.json").read_text(encoding="utf-8"))
    model, block = ContextModel.from_dict(example["model"]), bytes.fromhex(example["bytes"])
    codes = [np.array(code, np.uint8) for code in example["codes"]]
    shapes = [code.shape[:2] for code in codes]
    assert encode(codes, model) == block
    assert same(decode(block, shapes, model), codes)
    assert plain_decode(block, shapes, example["model"]) == example["codes"]
    assert model.to_dict() == example["model"]
    freq, start = (table.take(coder.symbol_index(codes, model)) for table in model.tables.of_values)
    assert (freq + start == 4096).any()  # escapes are among them


def test_every_bit_flip_is_found_or_harmless() -> None:
    for bit in range(8 * len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            codes = decode(bytes(damaged), SHAPES, MODEL)
        except CodesError:
            continue
        assert same(codes, CODES), f"bit {bit}"


def test_every_truncation_and_every_wrong_shape_is_found() -> None:
    for size in range(len(WHOLE)):
        with pytest.raises(CodesError):
            decode(WHOLE[:size], SHAPES, MODEL)
    with pytest.raises(CodesError):
        decode(WHOLE + b"\0", SHAPES, MODEL)
    for shapes in ([(4, 2), (1, 1), (3, 1)], [(2, 4), (1, 1)], [(2, 4), (3, 1), (1, 1)], []):
        with pytest.raises(CodesError):
            decode(WHOLE, shapes, MODEL)
    with pytest.raises(CodesError):
        decode(WHOLE, SHAPES, random_model([2, 3], seed=3))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_found(noise: bytes) -> None:
    with pytest.raises(CodesError):
        decode(noise, SHAPES, MODEL)


def test_a_check_of_two_bytes_is_shorter_and_still_found() -> None:
    short = encode(CODES, MODEL, check=2)
    assert short == WHOLE[:-2]
    assert same(decode(short, SHAPES, MODEL, check=2), CODES)
    with pytest.raises(CodesError, match="fit its check"):
        decode(short[:-1] + bytes([short[-1] ^ 1]), SHAPES, MODEL, check=2)


def test_no_pictures_take_the_check_alone() -> None:
    assert encode([], MODEL) == bytes(4)
    assert decode(bytes(4), [], MODEL) == []


def test_codes_of_another_form_are_refused() -> None:
    for code in (np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 5), np.int16), np.zeros((2, 5), np.uint8)):
        with pytest.raises(ShapeError, match=r"uint8 \[h, w, 5\]"):
            encode([code], MODEL)
    with pytest.raises(ShapeError, match="at least one place"):
        encode([np.zeros((0, 3, 5), np.uint8)], MODEL)
    with pytest.raises(ShapeError, match="symbols"):
        decode(WHOLE, [(MAX_SYMBOLS, 1)], MODEL)
    with pytest.raises(ShapeError, match="at least one place"):
        decode(WHOLE, [(-3, -5)], MODEL)


def test_the_bound_holds_for_the_worst_inputs_and_is_enforced() -> None:
    for group in MODEL.groups:
        signs = np.sign(group.weights.astype(np.int64))
        reached = (128 * np.abs(group.weights.astype(np.int64)) * np.abs(signs)).sum(0).max()
        assert reached <= group.worst_case
    assert MODEL.check_bounds() == max(group.worst_case for group in MODEL.groups) < LIMITS["float32"]
    heavy = dataclasses.replace(MODEL.groups[0], weights=np.full_like(MODEL.groups[0].weights, 32767))
    model = dataclasses.replace(MODEL, groups=(heavy, MODEL.groups[1]))
    with pytest.raises(TablesError, match="sums below 16777216 for float32"):
        model.check_bounds()
    with pytest.raises(TablesError, match="sums below"):
        encode(CODES, model)
    wide = ContextModel.from_dict(json.loads(json.dumps(dataclasses.replace(model, carrier="float64").to_dict())))
    assert wide.carrier == "float64"
    assert same(decode(encode(CODES, wide), SHAPES, wide), CODES)
    assert plain_decode(encode(CODES, wide), SHAPES, wide.to_dict()) == [code.tolist() for code in CODES]


def test_a_model_survives_json() -> None:
    again = ContextModel.from_dict(json.loads(json.dumps(MODEL.to_dict())))
    assert again.to_dict() == MODEL.to_dict()
    assert again.carrier == "float32"
    assert encode(CODES, again) == WHOLE


def _changed(path: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(MODEL.to_dict()))
    at: Any = data
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        at = at[part]
    at[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", 2), ("format", True), ("order", [0, 1, 2, 3, 3]), ("order", [0, 1, 2, 3]), ("order", 5),
        ("order", [0, 1, 2, 3, 4.0]), ("order", []), ("groups", []), ("groups", 3), ("groups", {}), ("groups.0", None),
        ("groups.0.channels", 1), ("groups.0.channels", 10**9), ("groups.0.channels", -1), ("groups.0.channels", 0),
        ("groups.0.hidden", 10**9), ("groups.0.hidden", 5), ("groups.0.hidden", 6.0), ("groups.0.lattices", []),
        ("groups.0.lattices", [[3, 0, 0]]), ("groups.0.lattices", [[2, 0, 0]]), ("groups.0.lattices", [[1, 0, 0]] * 99),
        ("groups.0.window", [[0, 5]]), ("groups.0.window", [[0]]), ("groups.0.own", [[0, 1]] * 24),
        ("groups.0.own", [[0, 1.5]]), ("groups.0.weights", "A"), ("groups.0.weights", "!" * 8), ("groups.0.weights", 3),
        ("groups.0.hidden_shift", "HwAAAAAA"), ("groups.0.out_bias", None), ("tables", None), ("tables", {}),
        ("tables.dimensions", []), ("tables.precision", 16), ("worst_case", 7), ("worst_case", None),
    ],
)  # fmt: skip
def test_models_of_another_form_are_refused(path: str, value: Any) -> None:
    with pytest.raises(TablesError):
        ContextModel.from_dict(_changed(path, value))


@pytest.mark.parametrize("data", [None, [], {}, 3, "model"])
def test_things_that_are_no_model_are_refused(data: Any) -> None:
    with pytest.raises(TablesError):
        ContextModel.from_dict(data)


def test_too_many_tables_are_refused() -> None:
    tables = MODEL.to_dict()["tables"]["dimensions"]
    with pytest.raises(TablesError, match="at most 64 scales"):
        ContextModel.from_dict(_changed("tables.dimensions", tables * 100))
    with pytest.raises(TablesError, match="at most 64 scales"):
        ContextModel.from_dict(_changed("tables.dimensions", tables[:-1]))


def test_an_offset_is_known_only_if_every_place_of_the_pass_knows_it() -> None:
    quarters = [Lattice(2, 0, 0), Lattice(2, 1, 1), Lattice(2, 0, 1), Lattice(2, 1, 0)]
    around = [Offset(0, 1), Offset(1, 1), Offset(0, 2)]
    assert [known(quarters, number, around) for number in range(4)] == [[], [1], [0], [0, 1]]
    mixed = [Lattice(4, 0, 0), Lattice(2, 1, 1)]
    assert known(mixed, 1, [Offset(-1, -1), Offset(1, 1)]) == []  # (1, 1) knows (0, 0); (3, 1) does not know (2, 0)
    assert cover_once(quarters)
    assert not cover_once(quarters[:3])
    assert not cover_once([*quarters, Lattice(4, 0, 0)])


def test_the_canvas_holds_pictures_apart() -> None:
    canvas = Canvas([(2, 3), (1, 1)], 1, 1)
    canvas.fill([np.arange(1, 7, dtype=np.uint8).reshape(2, 3, 1), np.full((1, 1, 1), 9, np.uint8)], [0])
    rows, pitch = canvas.places(Lattice(1, 0, 0))
    right = canvas.around(rows, pitch, [Offset(0, 1)], slice(0, 2)).tolist()
    assert right == [[16, 2 - 128], [16, 3 - 128], [0, 0], [16, 5 - 128], [16, 6 - 128], [0, 0], [0, 0]]
    assert canvas.codes([0]).ravel().tolist() == [1, 2, 3, 4, 5, 6, 9]
