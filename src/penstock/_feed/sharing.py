"""What the feeds of one process share, so that one for training and one for validation do not take it twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from penstock._devices import memory_budget
from penstock._engine.patience import RECHECK_S
from penstock._engine.wanted import wanted

SHARE = 4
"""Batches that wait may take one part in so many of the memory that this process may use."""


class Sharing:
    """Turns at work, as many as the largest of the feeds has workers, and bytes; shared by threads."""

    def __init__(self) -> None:
        """Begin with no feed."""
        self._free = threading.Condition()
        self._feeds: list[int] = []
        self._busy = 0

    @contextmanager
    def feed(self, workers: int) -> Iterator[None]:
        """Count a feed with so many workers for as long as it is open."""
        with self._free:
            self._feeds.append(workers)
        try:
            yield
        finally:
            with self._free:
                self._feeds.remove(workers)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to make a batch, unless nobody wants it any more; hold it."""
        with self._free:
            while self._busy >= max(self._feeds, default=1) and wanted():
                self._free.wait(RECHECK_S)
            self._busy += 1
        try:
            yield
        finally:
            with self._free:
                self._busy -= 1
                self._free.notify()

    def max_bytes(self) -> int:
        """Return the bytes that the batches of one feed may hold while they wait."""
        with self._free:
            return memory_budget() // SHARE // max(1, len(self._feeds))


SHARING = Sharing()
