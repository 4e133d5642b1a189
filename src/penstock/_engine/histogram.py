"""A histogram of fixed size whose quantiles are a few percent exact, whatever the numbers are (pure)."""

from __future__ import annotations

import math

LEAST = 1e-6
"""Lower end of the first bucket: a microsecond, where the numbers are seconds."""
MOST = 3600.0
GROWTH = 1.04
"""Each bucket ends at this many times its beginning."""
_SCALE = 1.0 / math.log(GROWTH)
_BUCKETS = math.ceil(math.log(MOST / LEAST) * _SCALE)
_SHOWN_TOGETHER = 6
"""Buckets that are one where people look at it: each then ends at 1.27 times its beginning."""


class Histogram:
    """Counts of numbers in buckets of equal ratio; numbers beyond LEAST and MOST count in the outermost ones.

    A quantile is at most (GROWTH - 1) / (GROWTH + 1), 2 %, off. Source: Masson, Rim, Lee: DDSketch, PVLDB 12 (2019),
    section 2.1, with a fixed range in place of collapsing buckets.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._counts = [0] * _BUCKETS
        self._n = 0

    def __len__(self) -> int:
        """Return how many numbers were added."""
        return self._n

    def add(self, number: float) -> None:
        """Count one number."""
        bucket = int(math.log(number / LEAST) * _SCALE) if number > LEAST else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._n += 1

    def quantile(self, share: float) -> float | None:
        """Return the number that `share` (0 to 1) of all are not above (nearest rank), or None where there is none."""
        rank, seen = max(1, math.ceil(share * self._n)), 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return LEAST * GROWTH**bucket * 2 * GROWTH / (1 + GROWTH)  # equally far, relatively, from both ends
        return None

    def coarse(self) -> list[tuple[float, float, int]]:
        """Return (from, to, count) of wider buckets, those that hold any, in order."""
        found = []
        for first in range(0, _BUCKETS, _SHOWN_TOGETHER):
            count = sum(self._counts[first : first + _SHOWN_TOGETHER])
            if count:
                found.append((LEAST * GROWTH**first, LEAST * GROWTH ** (first + _SHOWN_TOGETHER), count))
        return found
