from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from penstock._sinks.answers import pack, unpack

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
numbers = arrays(st.sampled_from([np.float32, np.int64, np.uint8]), array_shapes(max_dims=2, max_side=3))
answers = st.recursive(
    plain | numbers, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part, max_size=3)
)


@given(answers)
def test_what_is_unpacked_is_what_was_packed(answer: Any) -> None:
    packed = pack(answer)
    assert packed is not None
    assert_same(unpack(*packed), answer)


def assert_same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_same(found[key], value)
    else:
        assert found == wanted


def test_numbers_of_numpy_become_numbers() -> None:
    packed = pack({"x": np.float64(0.5)})
    assert packed is not None
    assert unpack(*packed) == {"x": 0.5}


def test_what_json_cannot_say_is_not_kept() -> None:
    assert pack({"x": object()}) is None
    assert pack({1, 2}) is None
