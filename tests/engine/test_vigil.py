"""Time at one value, by a clock of our own."""

from __future__ import annotations

from penstock._engine.vigil import Vigil


def test_time_counts_while_the_mark_is_the_same() -> None:
    times = iter([0.0, 1.0, 2.0, 3.5, 4.0, 5.0, 6.0])
    vigil = Vigil(1.0, lambda: next(times))
    assert [vigil.waited_s(mark) for mark in "aaabba"] == [0.0, 1.0, 2.5, 0.0, 1.0, 0.0]


def test_time_in_which_nobody_asked_does_not_count() -> None:
    times = iter([0.0, 0.5, 100.0])
    vigil = Vigil(1.0, lambda: next(times))
    assert [vigil.waited_s("a"), vigil.waited_s("a")] == [0.0, 2.0]
