"""The fast coder against a plain one written from ENTROPY.md, and against damage, floats and its promises."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aekit.codes import entropy, lanes, rans
from aekit.codes.entropy import FrequencyTables, decode, encode
from aekit.errors import CodesError, TablesError

Codes = entropy.U8


def plain_decode(
    data: bytes, n: int, tables: dict[str, Any], sets: list[int] | None = None, dimensions: int = 0
) -> list[list[int]]:
    """ENTROPY.md in Python integers: a state at a time, a symbol at a time, from the JSON form of the tables.

    With several sets of tables for `dimensions` dimensions, `sets` is the set of each code.
    """
    owners = [
        [(entry["first"] + i, f) for i, f in enumerate(entry["frequencies"]) if f] + [(256, entry["escape"])]
        for entry in tables["dimensions"]
    ]
    count, sets = dimensions or len(owners), sets or [0] * n
    greatest = [sum(max(f for _, f in owner) for owner in owners[d::count]) for d in range(count)]
    order = sorted(range(count), key=lambda d: (-greatest[d], d))
    size = n * count
    if size == 0:
        assert data == b""
        return []
    first, doublings = 1 << (data[0] & 15), data[0] >> 4
    at = 1
    runs = [4 * steps for steps in data[1 : 1 + doublings]]
    at += doublings
    lanes = [int.from_bytes(data[at + 4 * i : at + 4 * i + 4], "little") for i in range(first)]
    at += 4 * first
    stack = [int.from_bytes(data[i : i + 2], "little") for i in range(at, len(data) - 1, 2)][::-1]  # the top is last
    whole = len(stack)

    def refill(i: int) -> None:
        if lanes[i] < 1 << 16:
            lanes[i] = lanes[i] << 16 | stack.pop()

    def pop_bits(bits: list[int]) -> list[int]:
        values = [lanes[i] % (1 << b) for i, b in enumerate(bits)]
        for i, b in enumerate(bits):
            lanes[i] >>= b
            refill(i)
        return values

    def push_bits(values: list[int], bits: list[int]) -> None:
        full = [i for i, b in enumerate(bits) if lanes[i] >= 1 << (32 - b)]
        for i in reversed(full):
            stack.append(lanes[i] & 0xFFFF)
            lanes[i] >>= 16
        for i, b in enumerate(bits):
            lanes[i] = lanes[i] << b | values[i]

    for _ in range(doublings):
        width = len(lanes)
        lengths = pop_bits([4] * width)
        lower = pop_bits(lengths)
        lanes += [((1 << k | v) << 16) | stack.pop() for k, v in zip(lengths, lower, strict=True)]

    tail = [steps * (first << i) for i, steps in enumerate(runs)]
    symbols: list[int] = []
    for doubled in reversed(range(doublings + 1)):
        if doubled < doublings:
            width = len(lanes) // 2
            closing = lanes[width:]
            del lanes[width:]
            stack += [x & 0xFFFF for x in reversed(closing)]
            highs = [x >> 16 for x in closing]
            lengths = [h.bit_length() - 1 for h in highs]
            push_bits([h - (1 << k) for h, k in zip(highs, lengths, strict=True)], lengths)
            push_bits(lengths, [4] * width)
        left = tail[doubled] if doubled < doublings else size - sum(tail)
        while left:
            width = left % len(lanes) or len(lanes)
            left -= width
            for i in range(width):
                slot, start = lanes[i] % 4096, 0
                dimension, code = order[len(symbols) // n], len(symbols) % n
                table = iter(owners[sets[code] * count + dimension])
                symbol, f = next(table)
                while slot >= start + f:
                    start += f
                    symbol, f = next(table)
                lanes[i] = f * (lanes[i] >> 12) + slot - start
                symbols.append(symbol)
                refill(i)
    assert lanes == [1 << 16] * first
    escapes = iter(data[at + 2 * (whole - len(stack)) :])
    values = [next(escapes) if symbol == 256 else symbol for symbol in symbols]
    assert next(escapes, None) is None
    columns = {d: values[i * n : (i + 1) * n] for i, d in enumerate(order)}
    return [[columns[d][i] for d in range(count)] for i in range(n)]


def latent_like(n: int, dimensions: int, spread: float, seed: int) -> Codes:
    """Codes uint8 [n, D] as a trained encoder's: a bell a dimension, `spread` code units wide, give or take."""
    rng = np.random.default_rng(seed)
    widths = spread * np.exp(0.4 * np.random.default_rng(dimensions).standard_normal(dimensions))
    return np.clip(np.rint(128 + rng.standard_normal((n, dimensions)) * widths), 0, 255).astype(np.uint8)


@st.composite
def fits_and_codes(draw: st.DrawFn) -> tuple[FrequencyTables, Codes]:
    """Tables fitted to some codes, and others to code: alike or not, so that escapes run from none to all."""
    dimensions, seed = draw(st.sampled_from([1, 2, 3, 8, 40])), draw(st.integers(0, 2**32))
    spreads = st.sampled_from([0.0, 0.3, 1.5, 6.0, 200.0])
    fitted = latent_like(draw(st.sampled_from([1, 20, 3000])), dimensions, draw(spreads), seed)
    codes = latent_like(draw(st.integers(0, 700)), dimensions, draw(spreads), seed + 1)
    return FrequencyTables.fit(fitted), codes


@settings(max_examples=60, deadline=None)
@given(fits_and_codes())
def test_round_trip_and_the_plain_decoder_agrees(case: tuple[FrequencyTables, Codes]) -> None:
    tables, codes = case
    data = encode(codes, tables)
    assert np.array_equal(decode(data, len(codes), tables), codes)
    assert plain_decode(data, len(codes), tables.to_dict()) == codes.tolist()


@pytest.mark.parametrize(
    ("n", "dimensions"), [(0, 8), (1, 1), (1, 8), (1, 512), (2, 512), (7, 3), (4097, 5), (4096, 64)]
)
def test_round_trip_at_the_edges_of_shape(n: int, dimensions: int) -> None:
    tables = FrequencyTables.fit(latent_like(500, dimensions, 1.5, seed=1))
    codes = latent_like(n, dimensions, 1.5, seed=2)
    data = encode(codes, tables)
    assert np.array_equal(decode(data, n, tables), codes)
    assert len(data) <= tables.entropy_bits(codes) / 8 * 1.01 + 8


def test_every_value_is_codable_though_never_seen() -> None:
    tables = FrequencyTables.fit(np.full((1000, 2), 7, np.uint8))
    codes = np.arange(256, dtype=np.uint8).repeat(2).reshape(256, 2)
    data = encode(codes, tables)
    assert np.array_equal(decode(data, 256, tables), codes)
    assert plain_decode(data, 256, tables.to_dict()) == codes.tolist()
    assert len(data) < 510 * 20 / 8 + 16  # 510 escapes of 12 + 8 bits


@pytest.mark.parametrize("dimensions", [8, 16, 32, 64])
@pytest.mark.parametrize("spread", [0.45, 0.7, 1.4, 3.0])  # about 0.6 to 4 bits a value
def test_a_block_of_4096_takes_under_one_percent_over_its_entropy(dimensions: int, spread: float) -> None:
    tables = FrequencyTables.fit(latent_like(60_000, dimensions, spread, seed=3))
    codes = latent_like(4096, dimensions, spread, seed=4)
    size = 8 * len(encode(codes, tables))
    histograms = np.stack([np.bincount(column, minlength=256) for column in codes.T])
    shares = np.maximum(histograms, 1) / 4096
    assert size <= 1.01 * tables.entropy_bits(codes)
    assert size <= 1.01 * float(-(histograms * np.log2(shares)).sum())  # and over the block's own histogram


def test_the_bytes_of_the_worked_example() -> None:
    page = (Path(__file__).parents[1] / "aekit" / "codes" / "ENTROPY.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json")[1].split("```")[0])
    tables = FrequencyTables.from_dict(example["tables"])
    codes = np.array(example["codes"], np.uint8)
    assert encode(codes, tables).hex(" ") == example["bytes"]
    assert plain_decode(bytes.fromhex(example["bytes"]), len(codes), example["tables"]) == example["codes"]
    assert FrequencyTables.from_dict(example["tables"]).to_dict() == example["tables"]


def test_tables_and_bytes_never_change() -> None:
    """Hashes of a large case, so that another machine, numpy or edit that changes a byte is noticed."""
    grid = np.arange(4096 * 16, dtype=np.uint64).reshape(4096, 16)
    noise = (grid * np.uint64(2654435761) >> np.uint64(7)) & np.uint64(0xFFFFFFFF)
    codes = np.bitwise_count(noise % np.uint64(65521)).astype(np.uint8)  # binomial: about 3 bits, by integers alone
    tables = FrequencyTables.fit(codes)
    assert hashlib.sha256(json.dumps(tables.to_dict()).encode()).hexdigest()[:16] == "3562ac047a77af1a"
    assert hashlib.sha256(encode(codes, tables)).hexdigest()[:16] == "27e1d2d35b609861"
    assert encode(codes, tables) == encode(codes.copy(order="F"), FrequencyTables.fit(codes[::-1]))


class IntegersOnly:
    """numpy, but for functions that raise AssertionError when handed or giving a float."""

    def __getattr__(self, name: str) -> Any:
        target = getattr(np, name)
        if not callable(target) or isinstance(target, type):
            return target

        def checked(*args: Any, **kwargs: Any) -> Any:
            result = target(*args, **kwargs)
            for value in (*args, result):
                assert np.asarray(value).dtype.kind not in "fc", f"{name} met a float"
            return result

        return checked


def test_coding_and_fitting_use_no_float(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = latent_like(3000, 8, 2.0, seed=5)
    for module in (entropy, rans, lanes):
        monkeypatch.setattr(module, "np", IntegersOnly())
    with np.errstate(all="raise"):
        tables = FrequencyTables.fit(codes[:2000])
        assert np.array_equal(decode(encode(codes, tables), 3000, tables), codes)
    with pytest.raises(AssertionError, match="met a float"):
        tables.entropy_bits(codes)  # the one that reports in floats, which shows that the check works


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_named_or_gives_codes(data: st.DataObject) -> None:
    tables, codes = FrequencyTables.fit(latent_like(900, 4, 1.5, seed=6)), latent_like(600, 4, 2.5, seed=7)
    whole = bytearray(encode(codes, tables))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 20))] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.just(len(whole)) | st.integers(0, len(whole)))]
    n = data.draw(st.sampled_from([600, 600, 600, 0, 1, 599, 601, 5000]))
    try:
        decoded = decode(bytes(cut), n, tables)
    except CodesError:
        return
    assert decoded.shape == (n, 4)
    assert decoded.dtype == np.uint8


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300))
def test_noise_is_named_or_gives_codes(noise: bytes, n: int) -> None:
    tables = FrequencyTables.fit(latent_like(900, 4, 1.5, seed=6))
    with contextlib.suppress(CodesError):
        assert decode(noise, n, tables).shape == (n, 4)


def test_every_truncation_is_noticed() -> None:
    tables, codes = FrequencyTables.fit(latent_like(900, 4, 1.5, seed=6)), latent_like(300, 4, 2.5, seed=7)
    whole = encode(codes, tables)
    for size in range(len(whole)):
        with pytest.raises(CodesError):
            decode(whole[:size], 300, tables)
    with pytest.raises(CodesError):
        decode(whole + b"\0", 300, tables)


def test_a_block_of_no_information_stays_small_and_bounded() -> None:
    codes = np.zeros((4096, 64), np.uint8)
    tables = FrequencyTables.fit(codes)
    data = encode(codes, tables)
    assert np.array_equal(decode(data, 4096, tables), codes)
    assert len(data) < 80
    with pytest.raises(CodesError):
        decode(encode(codes[:2], tables), 4096, tables)  # one lane for 262,144 symbols would take a second


def test_wrong_arguments_are_named() -> None:
    tables = FrequencyTables.fit(latent_like(50, 4, 1.5, seed=8))
    for codes in (np.zeros((3, 5), np.uint8), np.zeros((3, 4), np.int16), np.zeros(4, np.uint8), np.uint8(3)):
        with pytest.raises(ValueError, match=r"uint8 \[n, 4\]"):
            encode(codes, tables)  # type: ignore[arg-type]
    for n in (-1, entropy.MAX_SYMBOLS):
        with pytest.raises(ValueError, match="must have 0 to"):
            decode(b"", n, tables)


def test_tables_pass_through_json() -> None:
    for codes in (latent_like(400, 12, 3.0, seed=9), np.arange(512, dtype=np.uint8).reshape(256, 2)[:, :1]):
        tables = FrequencyTables.fit(codes)
        again = FrequencyTables.from_dict(json.loads(json.dumps(tables.to_dict())))
        assert np.array_equal(again.frequencies, tables.frequencies)


@pytest.mark.parametrize(
    "entry",
    [
        {"first": 0, "frequencies": [4095], "escape": 0},
        {"first": 0, "frequencies": [], "escape": 4096},
        {"first": 0, "frequencies": [4000], "escape": 1},
        {"first": 0, "frequencies": [4096.0], "escape": 1},
        {"first": 0, "frequencies": [-1, 4096], "escape": 1},
        {"first": 0, "frequencies": [65536 + 4095], "escape": 1},
        {"first": 255, "frequencies": [2000, 2095], "escape": 1},
        {"first": 256, "frequencies": [4095], "escape": 1},
        {"first": -1, "frequencies": [4095], "escape": 1},
        {"first": 0, "frequencies": 4095, "escape": 1},
        {"first": 0, "escape": 1},
        [0, 4095, 1],
    ],
)
def test_bad_tables_are_named(entry: Any) -> None:
    with pytest.raises(TablesError):
        FrequencyTables.from_dict({"precision": 12, "dimensions": [entry]})


@pytest.mark.parametrize("data", [{}, [], {"precision": 13, "dimensions": []}, {"precision": 12, "dimensions": 3}])
def test_other_forms_of_tables_are_named(data: Any) -> None:
    with pytest.raises(TablesError):
        FrequencyTables.from_dict(data)


def test_fit_names_what_it_cannot_use() -> None:
    for codes in (np.zeros((0, 4), np.uint8), np.zeros((4, 0), np.uint8), np.zeros((4, 4)), np.zeros(4, np.uint8)):
        with pytest.raises(TablesError):
            FrequencyTables.fit(codes)  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=256, max_size=256), st.integers(0, 255))
def test_normalised_frequencies_always_sum(counts: list[int], kept: int) -> None:
    counts[kept] += 1
    sparse = np.array(counts) * (np.arange(256) % (kept % 9 + 1) == kept % (kept % 9 + 1))
    frequencies = entropy._normalise(sparse)
    assert frequencies.sum() == 4096
    assert 1 <= frequencies[256] < 4096
    assert not frequencies[:256][sparse == 0].any()
