from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._preprocess.geometry import Axis, check_geometry, geometry_of
from penstock._spec import InputSpec
from penstock.errors import ItemError, SpecError

CROPPED = InputSpec(size=(224, 224), resize="short_side", short_side=256, crop="center")
sides = st.integers(1, 3000)


def lengths(spec: InputSpec, height: int, width: int) -> tuple[Any, ...]:
    found = geometry_of(spec, height, width)
    return (found.rows.scaled, found.columns.scaled), (found.rows.first, found.columns.first), found.field


def test_short_side_and_crop_round_as_torchvision() -> None:
    assert lengths(CROPPED, 375, 500) == ((256, 341), (16, 58), (224, 224))  # 341.33 down; 58.5 to even
    assert lengths(CROPPED, 500, 375) == ((341, 256), (58, 16), (224, 224))
    assert lengths(CROPPED, 100, 100) == ((256, 256), (16, 16), (224, 224))
    share = InputSpec(size=(192, 192), resize="short_side", short_side="size/0.875", crop="center")
    assert lengths(share, 192, 192) == ((219, 219), (14, 14), (192, 192))  # 13.5 to even


def test_other_ways_to_the_size() -> None:
    assert lengths(InputSpec(size=(10, 20), resize="stretch"), 7, 9) == ((10, 20), (0, 0), (10, 20))
    assert lengths(InputSpec(resize="short_side", short_side=50), 100, 301) == ((50, 150), (0, 0), (50, 150))
    assert lengths(InputSpec(keep_aspect_height=32), 54, 1421) == ((32, 842), (0, 0), (32, 842))
    assert lengths(InputSpec(keep_aspect_height=32), 1000, 3) == ((32, 1), (0, 0), (32, 1))
    assert lengths(InputSpec(), 7, 9) == ((7, 9), (0, 0), (7, 9))


def test_pad_puts_the_picture_in_the_middle() -> None:
    found = geometry_of(InputSpec(size=(100, 100), resize="pad"), 50, 200)
    assert (found.rows.scaled, found.columns.scaled, found.field, found.top, found.left) == (25, 100, (100, 100), 37, 0)
    found = geometry_of(InputSpec(size=(100, 60), resize="pad"), 1000, 1)
    assert (found.rows.scaled, found.columns.scaled, found.top, found.left) == (100, 1, 0, 29)


@given(sides, sides)
def test_what_is_kept_lies_within_the_scaled_picture(height: int, width: int) -> None:
    for spec in (CROPPED, InputSpec(size=(31, 77), resize="pad"), InputSpec(keep_aspect_height=32)):
        found = geometry_of(spec, height, width)
        for axis in (found.rows, found.columns):
            assert axis.scaled >= 1
            assert 0 <= axis.first <= axis.first + axis.length <= axis.scaled
        assert found.top + found.rows.length <= found.field[0]
        assert found.left + found.columns.length <= found.field[1]


def test_axis_knows_where_it_came_from() -> None:
    axis = Axis(source=400, scaled=100, first=10, length=50)
    assert (axis.ratio, axis.span, axis.unchanged) == (4.0, (40.0, 240.0), False)
    assert Axis(5, 5, 0, 5).unchanged
    assert not Axis(5, 7, 1, 5).unchanged


def test_a_sliver_that_would_become_huge_is_refused() -> None:
    with pytest.raises(ItemError, match="would become 3,200,000,000 x 32"):
        geometry_of(InputSpec(keep_aspect_height=32), 1, 100_000_000)


def test_a_size_left_open_is_refused() -> None:
    check_geometry(CROPPED)
    for spec in (
        InputSpec(resize="pad"),
        InputSpec(resize="stretch"),
        InputSpec(resize="short_side", short_side="size/0.875", crop="center"),
    ):
        with pytest.raises(SpecError, match="needs a size"):
            check_geometry(spec)
