"""Two models on the same items: is the one better, or may it be chance?"""

from __future__ import annotations

from penstock._evaluation.libraries import statistics
from penstock._evaluation.result import Comparison

CHANCE = 0.05
"""A p-value at or above it is taken for chance."""


def compared(a: str, b: str, paired: tuple[int, int, int, int]) -> Comparison:
    """Return the comparison of models `a` and `b`. `paired`: items that only a, only b, both, neither have right.

    The exact McNemar test: where both are equally good, an item that only one of them has right is as likely to be a's
    as b's, so that their number has a binomial distribution with 1/2. Exact for any number of items; the chi-squared
    form is an approximation for many. Source: McNemar, Note on the sampling error of the difference between
    correlated proportions or percentages, Psychometrika 12, 1947. Raises MissingDependency without scipy.
    """
    only_a, only_b, both, neither = paired
    n = only_a + only_b
    p_value = float(statistics().binomtest(only_a, n, 0.5).pvalue) if n else 1.0
    return Comparison(a, b, only_a, only_b, both, neither, p_value, in_words(a, b, paired, p_value))


def in_words(a: str, b: str, paired: tuple[int, int, int, int], p_value: float) -> str:
    """Return what the numbers of a comparison mean (pure)."""
    only_a, only_b, *_ = paired
    if not sum(paired):
        return f"{a} and {b} have answered no item in common"
    if not only_a + only_b:
        return f"{a} and {b} are right on the same items"
    better, worse, more, fewer = (a, b, only_a, only_b) if only_a >= only_b else (b, a, only_b, only_a)
    counts = f"{more:,} {_items(more)} only {better} has right, {fewer:,} only {worse}; p = {p_value:.2g}"
    if p_value < CHANCE:
        return f"{better} is better: {counts}"
    return f"{a} and {b} may be equally good: {counts}"


def _items(n: int) -> str:
    return "item" if n == 1 else "items"
