"""Which results are shown where there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock._page.choice import every_nth, lowest, merged


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_every_nth_is_few_and_spread(n: int, most: int) -> None:
    chosen = list(every_nth(n, most))
    assert len(chosen) <= most
    assert len(chosen) >= min(n, most // 2)
    assert all(0 <= place < n for place in chosen)


def test_lowest() -> None:
    assert lowest([(0.5, "a"), (0.1, "b"), (0.5, "c"), (0.9, "d")], 3) == ["b", "a", "c"]


def test_merged_takes_each_once_the_first_groups_first() -> None:
    assert merged([[3, 1], [1, 2], [5, 6]], 4) == [3, 1, 2, 5]
