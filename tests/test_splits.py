"""splits: what is held out depends on names alone, keeps groups together and never takes everything."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aekit.errors import OptionError, SourceError
from aekit.images.held_out import FRACTION, hold_out

NAMES = st.lists(st.text(max_size=8), min_size=2, max_size=60, unique=True)


@given(NAMES, st.randoms())
def test_the_choice_depends_on_nothing_but_names(names: list[str], random: object) -> None:
    chosen = {name for name, held in zip(names, hold_out(names), strict=True) if held}
    shuffled = sorted(names, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert chosen == {name for name, held in zip(shuffled, hold_out(shuffled), strict=True) if held}


@given(NAMES)
def test_about_a_tenth_is_held_out_at_least_one_and_never_everything(names: list[str]) -> None:
    assert hold_out(names).sum() == max(1, round(FRACTION * len(names)))
    assert not hold_out(names).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_groups_stay_together_and_one_is_left_to_train_on(groups: list[int]) -> None:
    names = [f"video{group}/{row}.png" for row, group in enumerate(groups)]
    if len(set(groups)) < 2:
        with pytest.raises(SourceError, match="at least 2 groups"):
            hold_out(names, r"video\d+")
        return
    held = hold_out(names, r"video\d+")
    sides = {(group, bool(side)) for group, side in zip(groups, held, strict=True)}
    assert len(sides) == len(set(groups))
    assert 0 < held.sum() < len(names)


@pytest.mark.parametrize("small", "abcdefgh")
def test_two_unequal_groups_never_both_go(small: str) -> None:
    names = [f"{small}/0", *(f"z/{row}" for row in range(39))]  # one image is too few to hold out, 39 are too many
    assert hold_out(names, r"^\w").sum() in (1, 39)


def test_equal_groups_give_about_a_tenth() -> None:
    names = [f"{row // 30}/{row}.png" for row in range(6000)]
    assert hold_out(names, r"^\d+").mean() == pytest.approx(FRACTION, abs=0.005)


def test_the_groups_of_an_expression_join_to_one_key() -> None:
    names = [f"{batch}-{row}-{kind}" for batch in "abcdefgh" for kind in "xy" for row in range(5)]
    held = hold_out(names, r"^(\w)-\d-(\w)")
    keys = np.array([name[0] + name[-1] for name in names])
    assert all(len(set(held[keys == key])) == 1 for key in set(keys))
    assert len(set(keys[held])) == 2  # 16 keys of 5 images: two of them make the tenth


def test_at_most_5000_are_held_out() -> None:
    assert hold_out([str(row) for row in range(60_000)]).sum() == 5000


def test_another_process_with_another_hash_seed_chooses_the_same() -> None:
    names = ["a", "b/\udcff.png", "ö", *map(str, range(50))]
    code = f"from aekit.images.held_out import hold_out; print(hold_out({names!r}).nonzero()[0].tolist())"
    out = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True)
    assert out.stdout.decode().strip() == str(hold_out(names).nonzero()[0].tolist())


def test_what_leaves_nothing_to_train_on_is_refused() -> None:
    for names in ([], ["a"]):
        with pytest.raises(SourceError, match="at least 2 images"):
            hold_out(names)


@pytest.mark.parametrize(("pattern", "found"), [("(", "expected a regular expression"), ("video", "which it misses")])
def test_a_bad_expression_is_refused(pattern: str, found: str) -> None:
    with pytest.raises(OptionError, match=found):
        hold_out(["a", "b"], pattern)
