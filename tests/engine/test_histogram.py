"""Quantiles from a histogram of fixed size, beside those of a sorted list."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.histogram import GROWTH, LEAST, MOST, Histogram

OFF = (GROWTH - 1) / (GROWTH + 1)


def filled(numbers: list[float]) -> Histogram:
    histogram = Histogram()
    for number in numbers:
        histogram.add(number)
    return histogram


@given(st.lists(st.floats(LEAST, MOST / GROWTH), min_size=1), st.floats(0, 1))
def test_a_quantile_is_two_percent_exact(numbers: list[float], share: float) -> None:
    exact = sorted(numbers)[max(1, math.ceil(share * len(numbers))) - 1]
    assert filled(numbers).quantile(share) == pytest.approx(exact, rel=OFF * 1.001)


def test_an_empty_one_has_none() -> None:
    assert Histogram().quantile(0.5) is None
    assert len(Histogram()) == 0


@pytest.mark.parametrize(("number", "end"), [(0.0, LEAST), (LEAST / 100, LEAST), (1e9, MOST)])
def test_numbers_beyond_the_ends_count_in_the_outermost_buckets(number: float, end: float) -> None:
    histogram = filled([number])
    assert len(histogram) == 1
    assert histogram.quantile(1.0) == pytest.approx(end, rel=GROWTH - 1)


@given(st.lists(st.floats(0, MOST), min_size=1))
def test_wider_buckets_hold_all_numbers_in_order(numbers: list[float]) -> None:
    buckets = filled(numbers).coarse()
    assert sum(count for _, _, count in buckets) == len(numbers)
    assert all(begin < end for begin, end, _ in buckets)
    assert [begin for begin, _, _ in buckets] == sorted({begin for begin, _, _ in buckets})
    inside = [x for x in numbers if any(begin * 0.999 <= x <= end * 1.001 for begin, end, _ in buckets)]
    assert all(x < LEAST for x in set(numbers) - set(inside))
