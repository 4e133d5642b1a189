"""Which results a page shows where there are more than it can hold: the telling ones, and some of all (pure)."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

MOST_SHOWN = 10_000
"""Results on a page."""
TELLING = 0.25
"""The share of them that may be wrong answers, and the one that may be the least certain ones."""


def every_nth(n: int, most: int) -> range:
    """Return at most `most` of the numbers 0..n-1, equally far apart."""
    return range(0, n, max(1, -(-n // max(1, most))))


def lowest(scored: Iterable[tuple[float, T]], most: int) -> list[T]:
    """Return what has the `most` lowest scores, the lowest first."""
    return [value for _, _, value in heapq.nsmallest(most, ((s, i, v) for i, (s, v) in enumerate(scored)))]


def merged(groups: Sequence[Iterable[T]], most: int) -> list[T]:
    """Return at most `most` different values, those of the first groups first."""
    found: dict[T, None] = {}
    for value in _in_turn(groups):
        if len(found) >= most:
            break
        found[value] = None
    return list(found)


def _in_turn(groups: Sequence[Iterable[T]]) -> Iterator[T]:
    for group in groups:
        yield from group
