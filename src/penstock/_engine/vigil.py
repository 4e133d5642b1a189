"""For how long a worker process has been at one value: pure, but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class Vigil:
    """Counts only time in which it is asked often enough.

    Where all were halted, or the machine slept, no item can be blamed for the time that has passed meanwhile.
    """

    def __init__(self, period_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Expect to be asked every `period_s`."""
        self._most_s = 2 * period_s
        self._clock = clock
        self._asked_s = clock()
        self._mark: object = None
        self._waited_s = 0.0

    def waited_s(self, mark: object) -> float:
        """Return for how long `mark`, which says what the process is at, has been the same."""
        now = self._clock()
        since_s, self._asked_s = min(now - self._asked_s, self._most_s), now
        self._waited_s = self._waited_s + since_s if mark == self._mark else 0.0
        self._mark = mark
        return self._waited_s
