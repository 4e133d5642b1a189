from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._evaluation.compare import compared, in_words

pytest.importorskip("scipy", reason="scipy has the binomial test: pip install 'penstock[evaluate]'")

COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS)
def test_the_p_value_is_the_exact_one(only_a: int, only_b: int) -> None:
    n = only_a + only_b
    as_far = [k for k in range(n + 1) if abs(2 * k - n) >= abs(only_a - only_b)]
    exact = Fraction(sum(comb(n, k) for k in as_far), 2**n)
    comparison = compared("a", "b", (only_a, only_b, 5, 7))
    assert comparison.p_value == pytest.approx(float(exact))
    assert (comparison.only_a, comparison.only_b, comparison.both, comparison.neither) == (only_a, only_b, 5, 7)


@pytest.mark.parametrize(
    ("paired", "said"),
    [
        ((12, 31, 400, 57), "b is better: 31 items only b has right, 12 only a; p = 0.0054"),
        ((31, 12, 400, 57), "a is better: 31 items only a has right, 12 only b; p = 0.0054"),
        ((1, 0, 9, 0), "a and b may be equally good: 1 item only a has right, 0 only b; p = 1"),
        ((2, 2, 9, 0), "a and b may be equally good: 2 items only a has right, 2 only b; p = 1"),
        ((0, 0, 9, 1), "a and b are right on the same items"),
        ((0, 0, 0, 0), "a and b have answered no item in common"),
    ],
)
def test_what_the_numbers_mean_is_said(paired: tuple[int, int, int, int], said: str) -> None:
    assert compared("a", "b", paired).text == said


def test_chance_is_a_p_value_of_a_twentieth() -> None:
    assert "may be equally good" in in_words("a", "b", (1, 9, 0, 0), 0.05)
    assert "b is better" in in_words("a", "b", (1, 9, 0, 0), 0.0499)
