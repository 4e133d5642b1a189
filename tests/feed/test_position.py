"""Where a feed has come to: each batch of an epoch once, whoever stops where, and goes on with how many."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._feed.position import Position, Rest, Share, joined, resumed
from penstock.errors import UsageError

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


def numbers(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {number for begin, end in ranges for number in range(begin, end)}


@given(RANGES)
def test_joined_ranges_cover_the_same(ranges: list[tuple[int, int]]) -> None:
    found = joined(ranges)
    assert numbers(found) == numbers(ranges)
    assert all(a[1] < b[0] for a, b in pairwise(found))


@given(RANGES, st.integers(60, 90), st.integers(0, 90), st.integers(0, 90))
def test_the_rest_is_what_is_not_done(ranges: list[tuple[int, int]], n: int, begin: int, end: int) -> None:
    done = joined(ranges)
    rest, left = Rest(n, done), sorted(set(range(n)) - numbers(done))
    assert [rest[place] for place in range(len(rest))] == left
    begin, end = sorted((min(begin, len(left)), min(end, len(left))))
    assert [x for pair in rest.numbers(begin, end) for x in range(*pair)] == left[begin:end]


def run(position: Position, n: int, shuffled: Iterable[int] = ()) -> list[int]:
    """Hand out n batches, in order or as `shuffled` says; return their numbers in the epoch."""
    given_out = []
    for _ in range(n):
        left = list(position.left())
        own = left[next(iter(shuffled), 0) % min(4, len(left))]
        position.hand_out(own)
        given_out.append(position.number(own))
    return given_out


@given(
    st.integers(1, 60),
    st.lists(
        st.tuples(st.integers(1, 5), st.lists(st.integers(0, 40), min_size=5, max_size=5)), min_size=1, max_size=4
    ),
    st.lists(st.integers(0, 3), min_size=200, max_size=200),
)
def test_each_batch_once_over_any_number_of_stops_and_worlds(
    batches: int, runs: list[tuple[int, list[int]]], order: list[int]
) -> None:
    """Whatever the number of ranks of each run, how far each rank came, and in which order batches were done."""
    chance, seen = iter(order), list[int]()
    states: list[Any] = []
    for world, steps in runs:
        shares = [Share(rank, world) for rank in range(world)]
        at = [Position(0, batches, share) if not states else resumed(states, batches, share) for share in shares]
        for position, n in zip(at, steps, strict=False):
            seen += run(position, min(n, position.count - position.handed_out), chance)
        states = json.loads(json.dumps([position.to_dict() for position in at]))
    last = resumed(states, batches, Share(0, 1))
    seen += [last.number(own) for own in last.left()]
    assert sorted(seen) == list(range(batches))


@given(st.integers(0, 200), st.integers(1, 7), st.booleans())
def test_all_ranks_together_get_all_batches(left: int, world: int, even: bool) -> None:
    shares = [Share(rank, world, even) for rank in range(world)]
    places = [share.place(own) for share in shares for own in range(share.count(left))]
    counts = {share.count(left) for share in shares}
    assert len(set(places)) == len(places)
    assert set(places) <= set(range(left))
    assert len(places) == (left // world * world if even else left)
    assert len(counts) == 1 if even else max(counts) - min(counts) <= 1


def test_states_of_other_moments_or_not_of_all_ranks_are_refused() -> None:
    first, second = Position(1, 20, Share(0, 2)).to_dict(), Position(2, 20, Share(1, 2)).to_dict()
    with pytest.raises(UsageError, match=r"not of one moment: epochs \[1, 2\]"):
        resumed([first, second], 20, Share(0, 1))
    with pytest.raises(UsageError, match=r"ranks \[0\] of \[2\]"):
        resumed([first], 20, Share(0, 1))
    with pytest.raises(UsageError, match=r"ranks \[0, 0\]"):
        resumed([first, first], 20, Share(0, 1))


def test_a_position_far_on_is_small_and_found_at_once() -> None:
    """Neither the state nor the work grows with how far it is: with 10**12 batches it would never end."""
    states = []
    for rank in range(100):
        position = Position(3, 10**12, Share(rank, 100))
        position.mark = 10**8 + rank % 3
        states.append(position.to_dict())
    assert len(json.dumps(states[0])) < 200
    found = resumed(states, 10**12, Share(5, 7))
    assert found.done[0] == (0, 10**10)
    assert found.number(0) == sorted(set(range(10**10, 10**10 + 99)) - numbers(found.done[1:]))[5]
