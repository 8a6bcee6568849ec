"""Regular expressions on paths: the same groups as before, and a limit on time for those of strangers."""

import pytest

from aekit.errors import OptionError
from aekit.images import patterns
from aekit.images.patterns import group_names


def test_a_name_is_grouped_by_what_the_groups_match_or_by_the_whole_match() -> None:
    names = ["a/1_x.png", "a/2_y.png", "b/\udcff_z.png"]
    assert group_names(r"^(\w)/(.)", names) == ["a\x001", "a\x002", "b\x00\udcff"]
    assert group_names(r"^\w", names) == ["a", "a", "b"]


def test_an_expression_of_exponential_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "SECONDS", 2.0)
    with pytest.raises(OptionError, match="matched in 2 s, found one that takes longer"):
        group_names("(a+)+$", ["a" * 60 + "b"])


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "x" * 1001])
def test_a_malformed_or_enormous_expression_is_an_error(pattern: str) -> None:
    with pytest.raises(OptionError, match="--group-by"):
        group_names(pattern, ["a" * 10])
