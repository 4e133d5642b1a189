"""Several data sets in one epoch: the shares are kept, and a data set is gone through before an item comes again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._feed.mixture import MOST_TURNS, Mixture, turns_of
from penstock.errors import UsageError


@pytest.mark.parametrize(
    ("weights", "turns"),
    [
        ([1, 1], [1, 1]),
        ([0.7, 0.3], [7, 3]),
        ([2, 1], [2, 1]),
        ([1 / 3, 2 / 3], [1, 2]),
        ([5], [1]),
        ([0.5, 0.25, 0.25], [2, 1, 1]),
    ],
)
def test_turns_are_small_numbers_in_the_ratio(weights: list[float], turns: list[int]) -> None:
    assert turns_of(weights, [9] * len(weights)) == turns


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
def test_turns_are_as_asked_to_a_thousandth(weights: list[float]) -> None:
    turns = turns_of(weights, [5] * len(weights))
    total = sum(turns)
    assert total <= MOST_TURNS
    for weight, turn in zip(weights, turns, strict=True):
        assert abs(turn / total - weight / sum(weights)) <= 1 / MOST_TURNS + 1e-9


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.lists(st.integers(1, 5), min_size=4, max_size=4),
    st.booleans(),
)
def test_each_data_set_is_gone_through_before_an_item_comes_again(
    lengths: list[int], weights: list[int], shuffle: bool
) -> None:
    mixture = Mixture(lengths, weights[: len(lengths)], 3, shuffle=shuffle)
    seen: list[Counter[int]] = [Counter() for _ in lengths]
    for epoch in range(4):
        which, items = mixture.find(epoch, np.arange(len(mixture)))
        for one, item in zip(which.tolist(), items.tolist(), strict=True):
            assert 0 <= item < lengths[one]
            seen[one][item] += 1
    for one, length in enumerate(lengths):
        counts = [seen[one][item] for item in range(length)]
        assert max(counts) - min(counts) <= 1


def test_shares_hold_in_every_round() -> None:
    mixture = Mixture([100, 10], [3, 1], 0, shuffle=True)
    which, _ = mixture.find(2, np.arange(len(mixture)))
    assert len(mixture) == 108
    assert which.reshape(-1, 4).sum(axis=1).tolist() == [1] * 27


def test_a_place_has_what_it_has_among_others() -> None:
    mixture = Mixture([30, 7, 5], [5, 2, 3], 1, shuffle=True)
    which, items = mixture.find(1, np.arange(len(mixture)))
    for place in range(len(mixture)):
        one, item = mixture.find(1, np.array([place]))
        assert (one[0], item[0]) == (which[place], items[place])


@pytest.mark.parametrize(
    ("weights", "lengths"),
    [
        ([1.0], [2, 3]),
        ([1, 0], [2, 3]),
        ([1, -1], [2, 3]),
        ([1, float("nan")], [2, 3]),
        ([1, 1e-9], [2, 3]),
        ([1, 1], [2, 0]),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: list[float], lengths: list[int]) -> None:
    with pytest.raises(UsageError, match="weights="):
        turns_of(weights, lengths)
