"""How late a thread that waits for others gets the interpreter, once they have told it to go on."""

from __future__ import annotations

import time
from collections.abc import Callable

from penstock._devices import delayed_s

PERIOD_S = 0.02
"""Time from one look to the next: a look takes 40 microseconds, and gives the interpreter away twice."""

RETRY_S = 0.002
"""Until the next look where one saw no wait."""


class Lateness:
    """Looks now and then at a wait of one thread: `begin`, `tell` (by others), `woken`, `end`.

    Time in which other programs had the CPUs does not count.
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, delayed: Callable[[], float] = delayed_s
    ) -> None:
        """Begin with nothing seen."""
        self.seconds, self.looks = 0.0, 0
        self._clock, self._delayed = clock, delayed
        self._due = clock()
        self._before: float | None = None
        self._told: float | None = None
        self._late_s: float | None = None

    def begin(self) -> None:
        """Look at the wait that comes, where it is time to."""
        self._told = self._late_s = self._before = None
        now = self._clock()
        if now >= self._due:
            self._before, self._due = self._delayed(), now + RETRY_S

    def tell(self) -> None:
        """Note when the thread was first told to go on."""
        if self._told is None:
            self._told = self._clock()

    def woken(self) -> None:
        """Note when it did."""
        if self._told is not None:
            self._late_s = self._clock() - self._told

    def end(self) -> None:
        """Count what was seen."""
        if self._before is not None and self._late_s is not None:
            self.seconds += max(0.0, self._late_s - (self._delayed() - self._before))
            self.looks += 1
            self._due = self._clock() + PERIOD_S

    @property
    def mean_s(self) -> float:
        """Seconds on average, 0.0 where none was seen."""
        return self.seconds / self.looks if self.looks else 0.0
