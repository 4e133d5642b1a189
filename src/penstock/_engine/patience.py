"""How long is too long, learnt from how long things take: pure decisions, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from penstock._engine.histogram import Histogram

FIRST_S = 60.0
"""For an item (a batch) of a step that few have been through: a first call may compile."""
SLOW_S = 10.0
"""What takes less is never worth a word."""
RECHECK_S = 1.0
"""Longest wait before looking whether the other side still lives."""
ALARM_S = 30.0
"""Without any sign of life in the whole pipeline."""
TIMES = 20
"""How many times the 99th percentile is strange."""
LEARNT = 20
"""How many measurements make a percentile."""


def slow_s(calls: Histogram) -> float:
    """Return after how long an item (a batch) is reported as slow in a step whose calls took so long until now."""
    p99 = calls.quantile(0.99)
    return FIRST_S if p99 is None or len(calls) < LEARNT else max(SLOW_S, TIMES * p99)


def alarm_s(calls: Histogram) -> float:
    """Return after how long without a sign of life the run says so, by the calls of its slowest step."""
    return max(ALARM_S, TIMES * (calls.quantile(0.99) or 0.0))


class Silence:
    """Tells when nothing has moved for too long: at first after the patience given, then each time after twice that."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin to count now; `clock` gives seconds."""
        self._clock = clock
        self._pulse: Hashable = None
        self._since = clock()
        self._factor = 1

    def look(self, pulse: Hashable, patience_s: float) -> float | None:
        """Return for how many seconds `pulse` has been the same, where that is to be said now, else None."""
        now = self._clock()
        if pulse != self._pulse:
            self._pulse, self._since, self._factor = pulse, now, 1
        silent_s = now - self._since
        if silent_s <= patience_s * self._factor:
            return None
        self._factor *= 2
        return silent_s


def slowest(calls: list[Histogram]) -> Histogram:
    """Return the histogram with the highest 99th percentile; an empty one where none has any."""
    return max(calls, key=lambda each: each.quantile(0.99) or 0.0, default=Histogram())
