"""The page that a worker process writes before it works: what it has in hand, and where its answers lie.

It outlives the process: whoever finds it dead reads which item it had begun with, and everything it had answered.
Every word is written at once; what belongs together is written in the order in which it is read.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass

WORDS = 1024
PAGE_BYTES = 8 * WORDS
_REQUEST, _INDEX, _SINCE_NS, _PHASE, _ANSWERED, _CANCELLED, _TABLE = range(7)
MOST_ITEMS = WORDS - _TABLE
"""Items of one request: so many places of answers fit on the page."""
NONE = -1
PHASES = ("idle", "receiving", "working", "answering", "waiting for memory")
IDLE, RECEIVING, WORKING, ANSWERING, WAITING = range(5)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process was at: which value of which request, in what phase, since when (seconds, monotonic)."""

    request: int
    index: int | None
    phase: str
    since_s: float


class Leases:
    """The page, mapped in both processes. The child writes, but for `cancel`."""

    def __init__(self, descriptor: int) -> None:
        """Map the page behind `descriptor`, which is closed."""
        try:
            self._map = mmap.mmap(descriptor, PAGE_BYTES)
        finally:
            os.close(descriptor)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("q")

    def close(self) -> None:
        """Unmap it; idempotent."""
        self._words.release()
        self._bytes.release()
        self._map.close()

    # ---- the child's side

    def begin_request(self, request: int) -> None:
        """Say that a request is being received."""
        self._words[_ANSWERED] = 0
        self._words[_INDEX] = NONE
        self._words[_REQUEST] = request
        self.enter(RECEIVING)

    def begin_item(self, index: int) -> None:
        """Say that work on a value begins."""
        words = self._words
        words[_SINCE_NS] = time.monotonic_ns()
        words[_INDEX] = index
        words[_PHASE] = WORKING

    def enter(self, phase: int) -> None:
        """Say in which phase it is from now on."""
        self._words[_SINCE_NS] = time.monotonic_ns()
        self._words[_PHASE] = phase

    def answer(self, place: int) -> None:
        """Say where the next answer lies; it counts from now on."""
        n = self._words[_ANSWERED]
        self._words[_TABLE + n] = place
        self._words[_INDEX] = NONE
        self._words[_ANSWERED] = n + 1

    def cancelled(self, request: int) -> bool:
        """Tell whether nobody wants the rest of a request any more."""
        return bool(self._words[_CANCELLED] == request)

    # ---- the parent's side

    def cancel(self, request: int) -> None:
        """Ask the child to end a request behind the item in hand."""
        self._words[_CANCELLED] = request

    def answers(self, request: int) -> list[int]:
        """Return where the answers to a request lie that are there so far, in order."""
        if self._words[_REQUEST] != request:
            return []
        return list(self._words[_TABLE : _TABLE + self._words[_ANSWERED]])

    def held(self) -> Held:
        """Return what the process is at, or was when it died."""
        words = self._words
        index = words[_INDEX]
        return Held(words[_REQUEST], None if index == NONE else index, PHASES[words[_PHASE]], words[_SINCE_NS] / 1e9)
