"""What `Session.submit` hands out: a future that is resolved exactly once, and the count of what became of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from penstock._contracts import Failure
from penstock._engine.histogram import Histogram
from penstock._engine.statistics import PipelineStatistics
from penstock.errors import Cancelled, ItemError


@dataclass(frozen=True, slots=True)
class RequestStatistics:
    """The requests of a session so far: admitted = done + failed + cancelled + those in flight."""

    admitted: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    """Cancelled by their callers before a worker began with them, or dropped when the session was closed."""
    overloaded: int = 0
    """Turned away with `Overloaded`; not among `admitted`."""
    done_s: float = 0.0
    """Seconds from `submit` to the result, of all those done together."""
    p50_s: float | None = None
    """Seconds from `submit` to the result, of those done (2 % exact); None before the first."""
    p95_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True, slots=True)
class SessionStatistics(PipelineStatistics):
    """The stages of a session with their workers, and its requests."""

    requests: RequestStatistics = RequestStatistics()


class Tally:
    """Counts what became of requests, and how long they took; shared by threads."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latencies = Histogram()
        self._done_s = 0.0

    def add(self, outcome: str, seconds: float | None = None) -> None:
        """Count one request as "done" (which took `seconds`), "failed", "cancelled" or "overloaded"."""
        with self._lock:
            self._counts[outcome] += 1
            if seconds is not None:
                self._latencies.add(seconds)
                self._done_s += seconds

    def statistics(self) -> RequestStatistics:
        """Return a snapshot; how many were admitted is for others to say."""
        with self._lock:
            counts, quantile = dict(self._counts), self._latencies.quantile
            found = RequestStatistics(**counts, p50_s=quantile(0.5), p95_s=quantile(0.95), p99_s=quantile(0.99))
            return replace(found, done_s=self._done_s)


class Submitted:
    """One call of `submit`: the ticket that the engine tells what becomes of the item.

    A worker may begin or finish while a closing session drops it, and the caller may cancel at any time: whoever is
    first decides, under the request's own lock, and the others do nothing.
    """

    __slots__ = ("_begun_s", "_lock", "_running", "_settled", "_tally", "future")

    def __init__(self, tally: Tally) -> None:
        """Begin to count the time."""
        self.future: Future[Any] = Future()
        self._tally = tally
        self._begun_s = time.perf_counter()
        self._lock = threading.Lock()
        self._running = self._settled = False

    def begin(self) -> bool:
        """Start the future; return whether it is still wanted."""
        with self._lock:
            if not (self._running or self._settled):
                self._start()
            return not self._settled

    def finish(self, item: int, value: Any) -> None:
        """Resolve the future: with `value`, or an ItemError where it is a `Failure`."""
        if not self._claim():
            return
        if type(value) is Failure:
            self._tally.add("failed")
            self._resolve(item, item_error(item, value))
        else:
            self._tally.add("done", time.perf_counter() - self._begun_s)
            self._resolve(item, None, value)

    def drop(self, item: int, error: BaseException | None) -> None:
        """Resolve the future with `error`; None: with `Cancelled`, for the session was closed."""
        if self._claim():
            self._tally.add("cancelled" if error is None else "failed")
            closed = Cancelled(f"The session was closed before item {item} was done; submit it to another one.")
            self._resolve(item, error or closed)

    def _claim(self) -> bool:
        """Return True to the one caller that is to resolve the future."""
        with self._lock:
            if not (self._running or self._settled):
                self._start()
            first, self._settled = not self._settled, True
            return first

    def _start(self) -> None:
        """Start the future, or note that its caller has cancelled it. Lock held; calls no code of the user."""
        self._running = self.future.set_running_or_notify_cancel()
        if not self._running:
            self._settled = True
            self._tally.add("cancelled")

    def _resolve(self, item: int, error: BaseException | None, value: Any = None) -> None:
        try:
            if error is None:
                self.future.set_result(value)
            else:
                self.future.set_exception(error)
        except BaseException:  # a callback of the user's, which may raise anything, must not end a worker
            logging.getLogger("penstock").exception("item %d: a callback of its future raised, or it was set", item)


def item_error(item: Any, failure: Failure) -> ItemError:
    """Return what is raised for an item that failed: which, in which stage, why."""
    return ItemError(f"item {item} failed in stage {failure.stage!r}: {failure.type}: {failure.message}")
