"""How long a run that is to stop waits for what is in flight (pure, but for the clock it is given)."""

from __future__ import annotations

from collections.abc import Callable

STOP_GRACE_S = 8.0
"""Without another item coming out: whoever sends SIGTERM often sends SIGKILL 10 s later."""
TIMES = 3
"""How many times what 99 % of calls take the slowest may take."""


class Grace:
    """From when a run is to stop: whether what is in flight may still come out, or is left for the next run."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin as a run that is not to stop; `clock` gives seconds."""
        self._clock = clock
        self._came_at: float | None = None

    def over(self, *, came: bool, usual_s: float) -> bool:
        """Return whether to wait no longer; ask again and again while the run is to stop.

        `came`: something has come out since the last time. `usual_s`: what a call of the slowest step takes at most, as
        far as was measured.
        """
        now = self._clock()
        if came or self._came_at is None:
            self._came_at = now
        return now - self._came_at > max(STOP_GRACE_S, TIMES * usual_s)
