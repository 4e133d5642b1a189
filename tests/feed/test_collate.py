"""Samples into a batch: as torch's default_collate does it, and a sample that is unlike the others is told so."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._feed.collate import Rows, as_tensors
from penstock.errors import ItemError

Pair = namedtuple("Pair", "x y")  # noqa: PYI024 - what people have


def batch(samples: list[Any], n: int | None = None) -> Any:
    rows = Rows(n or len(samples), np.empty)
    for sample in samples:
        rows.put(sample)
    return rows.done()


def same(a: Any, b: Any) -> bool:
    """Tell whether two batches are of the same types with the same numbers."""
    torch = pytest.importorskip("torch")
    if isinstance(b, torch.Tensor):
        return bool(isinstance(a, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b))
    if isinstance(b, dict):
        return type(a) is dict and a.keys() == b.keys() and all(same(a[key], b[key]) for key in b)
    if isinstance(b, tuple | list) and b and isinstance(b[0], str | bytes):
        return type(a) is list and a == list(b)  # torch gives a tuple where they lay in one
    if isinstance(b, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(type(a) is type(b) and a == b)


LEAVES = st.sampled_from(["int", "float", "bool", "str", "bytes", "array", "tensor", "scalar"])
SHAPES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)


def sample_of(shape: Any, k: int) -> Any:
    torch = pytest.importorskip("torch")
    if isinstance(shape, list):
        parts = [sample_of(part, k) for part in shape]
        return Pair(*parts) if len(parts) == 2 else tuple(parts)
    if isinstance(shape, dict):
        return {key: sample_of(part, k) for key, part in shape.items()}
    return {
        "int": k,
        "float": k + 0.5,
        "bool": k % 2 == 0,
        "str": f"s{k}",
        "bytes": b"%d" % k,
        "array": np.full((2, 3), k, np.float32),
        "tensor": torch.full((3,), k, dtype=torch.int16),
        "scalar": np.float32(k),
    }[shape]


@given(SHAPES, st.integers(1, 5))
def test_batches_are_those_of_default_collate(shape: Any, n: int) -> None:
    pytest.importorskip("torch")
    from torch.utils.data import default_collate

    samples = [sample_of(shape, k) for k in range(n)]
    assert same(as_tensors(batch(samples)), default_collate(samples))


def test_numpy_stays_numpy() -> None:
    found = batch([(np.zeros((2, 2), np.uint8), k, "a") for k in range(3)])
    assert (found[0].dtype, found[0].shape) == (np.uint8, (3, 2, 2))
    assert found[1].dtype == np.int64
    assert found[2] == ["a", "a", "a"]


def test_a_tensor_anywhere_makes_a_batch_of_tensors() -> None:
    torch = pytest.importorskip("torch")
    rows = Rows(1, np.empty)
    rows.put({"a": (1, {"b": torch.ones(1)})})
    assert rows.torch
    plain = Rows(1, np.empty)
    plain.put({"a": (1, np.ones(1))})
    assert not plain.torch


def test_tensors_without_a_numpy_type_are_stacked() -> None:
    torch = pytest.importorskip("torch")
    found = batch([torch.full((2,), k, dtype=torch.bfloat16) for k in range(3)])
    assert found.dtype == torch.bfloat16
    assert found.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_tensors_over_arrays_share_their_memory() -> None:
    pytest.importorskip("torch")
    array = np.zeros(3)
    as_tensors({"a": [array]})["a"][0][1] = 5.0
    assert array[1] == 5.0


def test_fewer_samples_than_room_give_a_shorter_batch() -> None:
    assert batch([np.ones(2)] * 3, 8).shape == (3, 2)
    assert Rows(4, np.empty).done() is None


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (np.zeros(2), np.zeros(3), r"sample is \(3,\) float64, and that of the first \(2,\) float64"),
        (np.zeros(2), np.zeros(2, np.float32), "float32"),
        (np.zeros(2), 5, "of type int"),
        (1, "a", "of type str, no number"),
        ("a", 1, "of type int, no string"),
        ((1, 2), (1,), "sample has 1 parts, and that of the first 2 parts"),
        ((1, 2), 7, "has int"),
        ({"a": 1}, {"b": 1}, r"has \['b'\], and that of the first the keys \['a'\]"),
        ({"a": (1, np.zeros(2))}, {"a": (1, np.zeros(1))}, r"sample\['a'\]\[1\] is \(1,\)"),
        (1, 1 << 64, "more than 64 bits"),
    ],
)
def test_a_sample_unlike_the_first_is_refused_and_changes_nothing(first: Any, second: Any, why: str) -> None:
    rows = Rows(3, np.empty)
    rows.put(first)
    with pytest.raises(ItemError, match=why):
        rows.put(second)
    rows.put(first)
    assert rows.count == 2
    assert len(np.atleast_1d(_leaf(rows.done()))) == 2


def _leaf(found: Any) -> Any:
    while isinstance(found, dict | list) and not isinstance(
        found[next(iter(found))] if isinstance(found, dict) else found[0], str
    ):
        found = next(iter(found.values())) if isinstance(found, dict) else found[0]
    return found


@pytest.mark.parametrize("value", [None, object(), {1, 2}, np.array(["a"]), np.array([None])])
def test_what_no_batch_can_be_made_of_is_refused(value: Any) -> None:
    with pytest.raises(ItemError, match=r"Give collate=|batches are made of"):
        Rows(2, np.empty).put({"x": value})
    with pytest.raises(ItemError, match="more than 64 bits"):
        Rows(2, np.empty).put(1 << 70)
