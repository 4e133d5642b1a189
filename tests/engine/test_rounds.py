"""Who is asked for again, and who is left out: every value is answered or given up once, whatever dies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.rounds import Rounds


def test_rounds_of_at_most_so_many() -> None:
    rounds = Rounds(7, 3)
    assert [rounds.next() for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6], None]
    assert Rounds(0, 3).next() is None


def test_who_was_in_hand_is_asked_for_alone_behind_the_rest() -> None:
    rounds = Rounds(6, 10)
    asked = rounds.next()
    assert asked is not None
    assert rounds.broken(asked, 2, 2, attempts=2) is None
    assert [rounds.next(), rounds.next(), rounds.next()] == [[3, 4, 5], [2], None]
    assert rounds.broken([2], 0, 0, attempts=2) == 2
    assert rounds.next() is None
    assert rounds.attempts[2] == 2


def test_where_nobody_was_in_hand_halves_are_asked() -> None:
    rounds = Rounds(5, 10)
    asked = rounds.next()
    assert asked is not None
    assert rounds.broken(asked, 1, None, attempts=2) is None
    assert [rounds.next(), rounds.next(), rounds.next()] == [[1, 2], [3, 4], None]
    assert rounds.broken([1], 0, None, attempts=1) == 1


def test_a_death_behind_the_last_answer_costs_nothing() -> None:
    rounds = Rounds(3, 10)
    asked = rounds.next()
    assert asked is not None
    assert rounds.broken(asked, 3, None, attempts=1) is None
    assert rounds.next() is None


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 4), st.randoms(use_true_random=False))
def test_every_value_is_answered_or_given_up_once(n: int, most: int, attempts: int, chance: random.Random) -> None:
    rounds, answered, given_up = Rounds(n, most), [], []
    while (asked := rounds.next()) is not None:
        assert 1 <= len(asked) <= most
        done = chance.randint(0, len(asked))
        answered += asked[:done]
        if done < len(asked) or chance.random() < 0.2:
            held = done if done < len(asked) and chance.random() < 0.7 else None
            lost = rounds.broken(asked, done, held, attempts)
            given_up += [] if lost is None else [lost]
    assert sorted(answered + given_up) == list(range(n))
    assert all(rounds.attempts[index] >= attempts for index in given_up)


@pytest.mark.parametrize("poison", [{0}, {59}, {3, 4, 5}, set(range(60))])
def test_only_what_kills_is_given_up(poison: set[int]) -> None:
    """With the suspect known and unknown by turns: a process that dies of an item costs that item alone."""
    rounds, answered, given_up, deaths = Rounds(60, 16), [], [], 0
    while (asked := rounds.next()) is not None:
        at = next((place for place, index in enumerate(asked) if index in poison), None)
        answered += asked[: len(asked) if at is None else at]
        if at is not None:
            deaths += 1
            lost = rounds.broken(asked, at, at if deaths % 2 else None, 3)
            given_up += [] if lost is None else [lost]
    assert sorted(answered) == [i for i in range(60) if i not in poison]
    assert set(given_up) == poison
