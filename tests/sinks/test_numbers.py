from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._sinks.numbers import plain, shortest


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200))
def test_shortest_is_what_numpy_prints_for_any_float32(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    assert [repr(x) for x in shortest(values).tolist()] == [repr(float(str(x))) for x in values]


@given(st.lists(st.floats(-1e7, 1e7, width=32), min_size=1, max_size=200))
def test_shortest_is_what_numpy_prints_for_usual_float32(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    assert [repr(x) for x in shortest(values).tolist()] == [repr(float(str(x))) for x in values]


def test_shortest_is_what_numpy_prints_for_every_float16() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)]
    assert [repr(x) for x in shortest(values).tolist()] == [repr(float(str(x))) for x in values]


def test_shortest_keeps_shape_and_what_is_not_finite() -> None:
    values = np.array([[0.93, np.nan], [np.inf, -0.0]], np.float32)
    assert json.dumps(shortest(values).tolist()) == "[[0.93, NaN], [Infinity, -0.0]]"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.93), 0.93),
        (np.float16(0.1), 0.1),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.array([0.5], np.longdouble), [0.5]),
        (np.uint8(7), 7),
        (np.bool_(True), True),
        (np.array("a"), "a"),
        (np.array(3.0, np.float32), 3.0),
        (np.zeros((2, 0), np.float32), [[], []]),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array([None, "x"], object), [None, "x"]),
    ],
)
def test_plain(value: np.generic, expected: object) -> None:
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize("value", [np.complex64(1), np.array([b"x"]), np.datetime64("2020"), np.zeros(1, "i4,f4")])
def test_what_has_no_plain_value_is_refused(value: np.generic) -> None:
    with pytest.raises(TypeError, match=r"numpy (complex|bytes|datetime|void)"):
        plain(value)
