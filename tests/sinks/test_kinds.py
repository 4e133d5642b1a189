from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._sinks.kinds import Kind, kind_of, widen


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, None),
        (True, "bool"),
        (3, "int64"),
        (2**63, "json"),
        (0.5, "float64"),
        ("x", "str"),
        (np.float32(1), "float32"),
        (np.zeros((2, 3), np.uint8), ["list", ["list", "uint8", 3], 2]),
        (np.zeros((0, 4), np.float16), ["list", ["list", "float16", 4], None]),
        (np.array(1, np.int16), "int16"),
        ([], ["list", None, None]),
        ([1, 2.5], ["list", "float64", None]),
        ((1, None), ["list", "int64", None]),
        ({"a": [{"b": 1}, {"b": None}]}, {"a": ["list", {"b": "int64"}, None]}),
        ({}, {}),
    ],
)
def test_kind_of(value: Any, kind: Kind) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize(
    ("a", "b", "both"),
    [
        ("int64", "float64", "float64"),
        ("uint8", "int16", "int64"),
        ("uint64", "int64", "float64"),
        ("float32", "float64", "float64"),
        ("float32", "float32", "float32"),
        ("bool", "int64", "json"),
        ("str", "int64", "json"),
        ("str", ["list", "str", None], "json"),
        ({"a": "str"}, "str", "json"),
        (None, "str", "str"),
        (None, ["list", "uint8", 3], ["list", "uint8", None]),
        (["list", "uint8", 3], ["list", "uint8", 4], ["list", "uint8", None]),
        (["list", None, None], ["list", ["list", "uint8", 3], None], ["list", ["list", "uint8", None], None]),
        ({"b": "str", "a": "str"}, {"b": "str", "a": None}, {"b": "str", "a": "str"}),
        ({"b": "str"}, {"a": ["list", "int8", 2]}, {"a": ["list", "int8", None], "b": "str"}),
    ],
)
def test_widen(a: Kind, b: Kind, both: Kind) -> None:
    assert json.dumps(widen(a, b)) == json.dumps(both) == json.dumps(widen(b, a))


NAMES = st.sampled_from(["bool", "int8", "int64", "uint64", "float16", "float32", "float64", "str", "json"])
KINDS = st.recursive(
    st.none() | NAMES,
    lambda part: (
        st.tuples(st.just("list"), part, st.sampled_from([None, 1, 2])).map(list)
        | st.lists(st.tuples(st.sampled_from("abc"), part), max_size=3).map(dict)
    ),
    max_leaves=6,
)


@settings(max_examples=400)
@given(KINDS, KINDS, KINDS)
def test_widen_does_not_depend_on_the_order_of_the_rows(a: Kind, b: Kind, c: Kind) -> None:
    assert json.dumps(widen(a, b)) == json.dumps(widen(b, a))
    assert json.dumps(widen(widen(a, b), c)) == json.dumps(widen(a, widen(b, c)))
    both = widen(a, b)
    assert json.dumps(widen(both, a)) == json.dumps(both) == json.dumps(widen(both, both))
