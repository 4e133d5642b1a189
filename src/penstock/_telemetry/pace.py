"""How fast items finish and how long the rest will take: pure functions of marks and the clock."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Mark = tuple[float, int]
"""A moment in seconds, and how many items were finished at it."""

WINDOW = 1 / 3
"""The sliding window's share of the time so far: long enough to be calm, short enough to follow a change."""
MAX_MARKS = 256
BURSTS = 8


def add_mark(marks: list[Mark], now_s: float, finished: int) -> None:
    """Note that `finished` items are finished at `now_s`; the first mark is the first finished item.

    What came before that is start-up, which never comes again and is no part of a rate. The marks are thinned whenever
    there are too many, the oldest most, so that a run of days keeps a few hundred.
    """
    if finished <= (marks[-1][1] if marks else 0):
        return
    marks.append((now_s, finished))
    if len(marks) > MAX_MARKS:
        del marks[1:-1:2]


def item_cost_s(marks: Sequence[Mark], now_s: float) -> float | None:
    """Return the seconds that each of the next items will take; None while there are fewer than two marks.

    The mean over the window and the mean over all the time, half and half: the one follows a change, the other does
    not jump. A wait longer than the last ones were is part of the cost: a run that hangs shows it.
    """
    if len(marks) < 2:
        return None
    (start_s, _), (last_s, finished) = marks[0], marks[-1]
    end = (max(last_s, now_s - burst_s(marks)), finished)
    since_s = end[0] - (end[0] - start_s) * WINDOW
    recent = next((mark for mark in reversed(marks[:-1]) if mark[0] <= since_s), marks[0])
    return (_seconds_each(recent, end) + _seconds_each(marks[0], end)) / 2


def eta_s(marks: Sequence[Mark], remaining: int, now_s: float) -> float | None:
    """Return the seconds until `remaining` more items are finished; None where the marks do not tell yet."""
    cost_s = item_cost_s(marks, now_s)
    if cost_s is None:
        return None
    # The items that finish next have been worked on since the last mark.
    begun_s = min(now_s - marks[-1][0], burst_s(marks))
    return max(0.0, remaining * cost_s - begun_s)


def burst_s(marks: Sequence[Mark]) -> float:
    """Return the longest of the last waits between two marks: items finish in batches."""
    return max(later - earlier for (earlier, _), (later, _) in pairwise(marks[-BURSTS - 1 :]))


def _seconds_each(start: Mark, end: Mark) -> float:
    return (end[0] - start[0]) / (end[1] - start[1])
