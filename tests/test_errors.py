"""errors: the tree in the docstring is the tree of the classes, and any error becomes one line."""

import inspect
import re

from hypothesis import given
from hypothesis import strategies as st

from aekit import errors
from aekit.errors import AekitError, one_line, reason


def test_the_tree_in_the_docstring_names_each_class_with_its_builtin() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) \((\w+)\)", errors.__doc__ or ""))
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AekitError)]
    assert set(drawn) == {kind.__name__ for kind in classes if kind is not AekitError}
    for kind in classes:
        if kind is not AekitError:
            assert drawn[kind.__name__] in {base.__name__ for base in kind.__mro__}


def test_a_reason_is_the_first_line_and_never_empty() -> None:
    assert reason(ValueError("one\ntwo")) == "one"
    assert reason(ValueError("\n one")) == "one"
    assert reason(MemoryError()) == "MemoryError"
    assert reason(ValueError("x" * 999)) == "x" * 160
    assert reason(ValueError("x" * 999), 3) == "xxx"


@given(st.text(), st.integers(1, 300))
def test_a_reason_fits_its_length_whatever_the_text(text: str, most: int) -> None:
    said = reason(ValueError(text), most)
    assert 0 < len(said) <= max(most, len("ValueError"))
    assert "\n" not in said


@given(st.text())
def test_an_error_is_one_line_whatever_names_it_holds(name: str) -> None:
    assert len(str(AekitError(name, found=name)).splitlines()) <= 1
    assert one_line(one_line(name)) == one_line(name)
