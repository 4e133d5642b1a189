"""Parcels: cut only where a block ends, joined without loss, their bytes estimated."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._contracts import Failure
from penstock._engine.flow import Flow
from penstock._engine.parcel import (
    Parcel,
    block_cuts,
    count_failures,
    estimate_nbytes,
    join,
    value_nbytes,
    whole_blocks,
)

FAILED = Failure("decode", "ValueError", "no")
NO_FLOW = cast("Flow", None)
positions = st.lists(st.integers(0, 60), min_size=1, max_size=40, unique=True).map(sorted)


def parcel_of(values: list[Any], start: int = 0, nbytes: int = 0) -> Parcel:
    n = len(values)
    places = range(100, 100 + n)
    return Parcel(NO_FLOW, start, (start, n), places, places, values, count_failures(values), nbytes)


def blocks_of(places: list[int], block: int) -> list[list[int]]:
    """Return what block_cuts is to cut: neighbours with the same position // block."""
    groups: dict[int, list[int]] = {}
    for place in places:
        groups.setdefault(place // block, []).append(place)
    return list(groups.values())


@given(positions, st.integers(1, 9))
def test_cuts_are_where_position_over_block_changes(places: list[int], block: int) -> None:
    cuts = block_cuts(places, block)
    assert [places[a:b] for a, b in zip([0, *cuts], cuts, strict=False)] == blocks_of(places, block)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 9))
def test_cuts_of_a_range_are_those_of_its_list(start: int, n: int, block: int) -> None:
    places = range(start, start + n)
    cuts = block_cuts(places, block)
    assert [list(places[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)] == blocks_of(list(places), block)


def test_nothing_has_no_cuts() -> None:
    assert block_cuts([], 4) == block_cuts(range(0), 4) == []


@given(positions, st.integers(1, 9), st.integers(1, 50))
def test_whole_blocks_is_the_first_cut_that_reaches_n(places: list[int], block: int, n: int) -> None:
    cut = whole_blocks(places, block, n)
    assert cut in block_cuts(places, block)
    assert cut >= min(n, len(places))
    assert all(other >= cut for other in block_cuts(places, block) if other >= min(n, len(places)))


@given(st.lists(st.sampled_from([FAILED, 1, 2, 3]), min_size=2, max_size=20), st.data())
def test_split_then_join_loses_nothing(values: list[Any], data: st.DataObject) -> None:
    parcel = parcel_of(values, start=7)
    head, rest = parcel.split(data.draw(st.integers(1, len(values) - 1)))
    assert (head.start, rest.start) == (7, 7 + len(head))
    assert head.failed + rest.failed == parcel.failed
    assert head.origin == rest.origin == parcel.origin
    whole = join([rest, head])
    assert (list(whole.positions), list(whole.items)) == (list(parcel.positions), list(parcel.items))
    assert (whole.values, whole.start, whole.failed) == (values, 7, parcel.failed)


def test_a_part_has_its_share_of_the_bytes() -> None:
    head, rest = parcel_of([1, 2, 3, 4], nbytes=400).split(1)
    assert (head.nbytes, rest.nbytes) == (100, 300)


def test_parcels_are_told_apart_by_identity() -> None:
    """Comparing values would compare arrays, whose answer is an array."""
    a, b = parcel_of([np.zeros(2)]), parcel_of([np.zeros(2)])
    assert a != b
    assert a in [b, a]


@pytest.mark.parametrize(
    ("value", "nbytes"),
    [
        (np.zeros((2, 3), np.float32), 24),
        (b"12345", 5),
        (bytearray(3), 3),
        (memoryview(bytes(4)), 4),
        ("abc", 3),
        ((np.zeros(2, np.uint8), np.zeros(3, np.uint8), b"12", 7), 7),
        ({"image": np.zeros(4, np.uint8), "label": 3}, 4),
        (np.float64(1.0), 8),
        (object(), 0),
        (None, 0),
    ],
)
def test_bytes_of_a_value(value: Any, nbytes: int) -> None:
    assert value_nbytes(value) == nbytes


def test_an_nbytes_that_is_no_number_counts_as_nothing() -> None:
    """A value of the user's may mean anything by that name; it must not end the run."""

    class Odd:
        def nbytes(self) -> int:
            return 3

    assert value_nbytes(Odd()) == 0
    assert value_nbytes((Odd(), b"1")) == 1


def test_bytes_of_short_parcels_are_exact_and_of_long_ones_sampled() -> None:
    assert estimate_nbytes([b"1", b"22", b"333"]) == 6
    assert estimate_nbytes([b"12"] * 1001) == pytest.approx(2002, rel=0.01)
    assert estimate_nbytes([]) == 0
