"""The order of an epoch: each place once, another order for each key, fair, and the same in every version."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock._feed.permutation import Permutation


@given(st.integers(1, 3000), st.integers(0, 1 << 70), st.integers(0, 9))
def test_each_number_lies_at_one_place(n: int, seed: int, epoch: int) -> None:
    found = Permutation(n, (seed, epoch))(np.arange(n))
    assert sorted(found.tolist()) == list(range(n))


@given(st.integers(1, 1 << 40), st.data())
def test_a_place_has_what_it_has_among_others(n: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9)))
    permutation = Permutation(n, (1, 2))
    together = permutation(places)
    assert together.tolist() == [permutation(np.array([place]))[0] for place in places]
    assert ((together >= 0) & (together < n)).all()


def test_all_orders_of_a_few_are_as_likely() -> None:
    """Of 24 orders of 4 each comes 1/24 of the time: chi squared with 23 degrees, 0.1 % beyond 49.7."""
    draws = 6000
    seen = Counter(tuple(Permutation(4, (seed, 0))(np.arange(4)).tolist()) for seed in range(draws))
    assert len(seen) == 24
    expected = draws / 24
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 49.7


def test_neighbours_do_not_stay_together() -> None:
    n = 10_000
    found = Permutation(n, (3, 1))(np.arange(n))
    assert abs(np.corrcoef(found, np.arange(n))[0, 1]) < 0.04
    assert np.mean(np.abs(np.diff(found)) == 1) < 0.002
    other = Permutation(n, (3, 2))(np.arange(n))
    assert np.mean(found == other) < 0.002


def test_the_order_is_the_same_in_every_version() -> None:
    """A run that is resumed with a later version must find the same batches: these numbers never change."""
    assert Permutation(10, (0, 0, 0))(np.arange(10)).tolist() == TEN
    assert Permutation(100_000_000, (7, 0, 3))(np.arange(5)).tolist() == MANY


TEN = [5, 7, 6, 3, 0, 4, 1, 9, 2, 8]
MANY = [27213973, 98116254, 39289804, 56713925, 4364453]


def test_it_takes_no_work_to_begin() -> None:
    """With anything done for each number this would not fit in memory."""
    assert Permutation(10**15, (1, 0, 0))(np.arange(64)).max() < 10**15
