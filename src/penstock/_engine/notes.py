"""What was unusual and no failure, counted for the report."""

from __future__ import annotations

import threading


class Notes:
    """Counts of what happened to items, by what it was; shared by threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, what: str, n: int = 1, why: str = "") -> None:
        """Count `what` for `n` items; of `why` only the first is kept, for each may name other items."""
        with self._lock:
            self._counts[what] = self._counts.get(what, 0) + n
            self._first.setdefault(what, why)

    def counts(self) -> dict[str, int]:
        """Return the counts, each under what it was with the first reason given."""
        with self._lock:
            return {f"{what} ({why})" if (why := self._first[what]) else what: n for what, n in self._counts.items()}
