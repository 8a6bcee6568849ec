"""spec: what a model says of itself, there and back, with every untrusted value checked."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aekit.errors import SpecError
from aekit.spec import Geometry, GridGeometry, ModelSpec, read_geometry

SPEC = ModelSpec(Geometry(16, 24, 3), 4, "plain", "mlp", "default")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.builds(
        ModelSpec,
        st.builds(
            Geometry,
            st.integers(8, 256),
            st.integers(8, 256),
            st.sampled_from([1, 3]),
            background=st.integers(0, 255),
        ),
        st.integers(1, 65536),
        *[st.text(min_size=1, max_size=64)] * 3,
    )
)
def test_a_spec_survives_json(spec: ModelSpec) -> None:
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())), "here") == spec
    assert ModelSpec.from_dict(json.loads(spec.canonical()), "here") == spec


def test_the_canonical_form_is_what_graphs_already_carry() -> None:
    assert SPEC.canonical() == (
        '{"code_dim":4,"geometry":{"background":255,"channels":3,"height":16,"resize":"stretch","width":24},'
        '"network":"mlp","objective":"plain","preset":"default"}'
    )


def test_a_geometry_tells_its_shape() -> None:
    assert SPEC.geometry.shape == (16, 24, 3)
    assert SPEC.geometry.pixels == 1152
    assert [str(Geometry(8, 9, channels)) for channels in (1, 3)] == ["8x9 gray", "8x9 RGB"]


def changed(path: str, value: Any) -> dict[str, Any]:
    values = SPEC.to_dict()
    *outer, last = path.split(".")
    inner = values
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[(f"geometry.{side}", value) for side in ("height", "width") for value in (7, 257, -16, 16.0, "16", True)],
        *[("geometry.channels", value) for value in (0, 2, 4, 1.0, 3.0, True, "3", [3])],
        *[("geometry.background", value) for value in (-1, 256, 255.0, None)],
        *[("geometry.resize", value) for value in ("crop", None, ["stretch"], "x" * 10_000)],
        *[("code_dim", value) for value in (0, 65537, 4.0, 10**30, None)],
        *[(name, value) for name in ("objective", "network", "preset") for value in ("", "x" * 65, 3, None)],
        ("geometry", None),
        ("geometry", {"height": 16}),
        ("geometry.depth", 3),
        ("more", 1),
    ],
)
def test_each_hostile_value_is_refused_and_the_file_named(path: str, value: Any) -> None:
    with pytest.raises(SpecError, match=r"^model\.json: ") as caught:
        ModelSpec.from_dict(changed(path, value), "model.json")
    assert len(str(caught.value)) < 600


@given(st.sampled_from(["geometry", "code_dim", "network", *(f"geometry.{name}" for name in ("height", "channels"))]))
def test_a_missing_field_is_refused(path: str) -> None:
    values = changed(path, None)
    del (values["geometry"] if "." in path else values)[path.rpartition(".")[2]]
    with pytest.raises(SpecError, match="expected the fields"):
        ModelSpec.from_dict(values, "here")


@given(JUNK, st.sampled_from(["", "geometry", "code_dim", "geometry.height", "geometry.channels", "preset"]))
def test_junk_gives_a_spec_or_a_spec_error(junk: Any, path: str) -> None:
    try:
        ModelSpec.from_dict(changed(path, junk) if path else junk, "here")
    except SpecError as error:
        assert str(error).startswith("here: ")


# --- grid codes

GRID = ModelSpec(GridGeometry(16, 3, 7, 10, max_side=2000), 64, "rate", "grid", "default")


@given(
    st.builds(
        GridGeometry,
        st.integers(1, 64),
        st.sampled_from([1, 3]),
        st.integers(0, 256),
        st.integers(0, 256),
        st.integers(0, 65535),
        st.integers(0, 255),
    )
)
def test_a_grid_geometry_survives_json(geometry: GridGeometry) -> None:
    spec = ModelSpec(geometry, 4, "rate", "grid", "tiny")
    assert ModelSpec.from_dict(json.loads(spec.canonical()), "here") == spec
    assert spec.is_grid and spec.grid == geometry and spec.format_version == 2


def test_each_kind_of_model_has_its_own_geometry_and_version() -> None:
    assert (SPEC.is_grid, SPEC.format_version, SPEC.fixed) == (False, 1, SPEC.geometry)
    with pytest.raises(SpecError, match="expected a model of grid codes, found one for 16x24 RGB images"):
        _ = SPEC.grid
    with pytest.raises(SpecError, match="expected a model of one image size"):
        _ = GRID.fixed
    assert str(GRID.geometry) == "sides up to 2000 RGB"
    assert str(GridGeometry(8, 1, 0, 0)) == "any size gray"


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.integers(1, 64))
def test_a_code_has_a_place_for_every_pixel_and_no_more(height: int, width: int, stride: int) -> None:
    geometry = GridGeometry(stride, 3, 0, 0)
    places, padded = geometry.code_shape(height, width), geometry.padded(height, width)
    for side, count, whole in zip((height, width), places, padded, strict=True):
        assert whole == count * stride
        assert 0 <= whole - side < stride
    assert geometry.fitted(height, width) == (height, width)


@given(st.integers(1, 65535), st.integers(1, 65535), st.integers(1, 65535))
def test_a_picture_is_shrunk_to_the_longest_side_and_never_enlarged(height: int, width: int, most: int) -> None:
    rows, columns = GridGeometry(16, 1, 0, 0, max_side=most).fitted(height, width)
    if max(height, width) <= most:
        assert (rows, columns) == (height, width)
    else:
        assert max(rows, columns) == most and min(rows, columns) >= 1
        scale = most / max(height, width)
        assert abs(rows - max(height * scale, 1)) <= 0.51 and abs(columns - max(width * scale, 1)) <= 0.51


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("stride", value) for value in (0, 65, -8, 8.0, True, "8", None)],
        *[(halo, value) for halo in ("encoder_halo", "decoder_halo") for value in (-1, 257, 1.5, False)],
        *[("max_side", value) for value in (-1, 65536, None)],
        *[("background", value) for value in (-1, 256)],
        *[("channels", value) for value in (0, 2, 4, 3.0)],
        ("height", 8),
    ],
)
def test_each_hostile_value_of_a_grid_geometry_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SpecError):
        read_geometry({**GRID.to_dict()["geometry"], field: value})
