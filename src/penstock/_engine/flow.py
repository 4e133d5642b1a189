"""One flow of items through a pipeline: what may enter, what has come out, and in which order.

All state is guarded by the pipeline's one lock, which both conditions (that of its gate, and its own) share.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

from penstock._engine.gate import Chunk, Gate
from penstock._engine.idle import CAUSES, Cause, Waits, cause
from penstock._engine.lateness import Lateness
from penstock._engine.parcel import Parcel, estimate_nbytes
from penstock._engine.patience import RECHECK_S
from penstock._engine.sizing import Window, smooth
from penstock._engine.statistics import FlowStatistics
from penstock._engine.tickets import Tickets
from penstock.errors import Cancelled

if TYPE_CHECKING:
    from penstock._engine.pipeline import Pipeline

Take = Callable[[int, int], Chunk | None]
"""take(n, block), n a multiple of block: gives the items of about n / block blocks; None when there are no more."""

CLOSE_S = 0.0001
"""Changes closer than this are counted as one: where parcels take no longer, to tell them apart costs as much."""
SOURCE_STOP_S = 0.5
"""How long a close waits for the source, which may be blocked for good in the user's iterable."""


class Flow:
    """Items on their way from one source to one consumer; a context manager and an iterator of parcels.

    `ordered`: parcels come out in the order of their items; otherwise as they are done. `linger_s` not None: the
    source trickles, items enter one by one and wait at most that long for others to share a batch.
    """

    tickets: Tickets | None = None
    """Nobody hears of single items: they come out in parcels."""

    def __init__(
        self, pipeline: Pipeline, take: Take, window: Window, *, ordered: bool = True, linger_s: float | None = None
    ) -> None:
        """Made by `Pipeline.flow`."""
        self.gate = Gate(pipeline, window, linger_s)
        self.closed = False
        self._pipeline = pipeline
        self._take = take
        self._block = 1 if linger_s is not None else pipeline.block
        self._ordered = ordered
        self._arrived = threading.Condition(pipeline.lock)
        self._waiting: dict[int, Parcel] = {}
        self._ready: deque[Parcel] = deque()
        self._arrived_to = self._delivered = 0
        self._source_s = 0.0
        self._held = 0
        self._full = False
        self._waits: dict[str, float] = dict.fromkeys(CAUSES, 0.0)
        self._accounted = time.perf_counter()
        self._lateness = Lateness()
        self._least = 1
        self._exhausted = False
        self._draining = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read_source, name="penstock-source", daemon=True)

    def __enter__(self) -> Self:
        """Start reading the source."""
        self._pipeline.attach(self)
        try:
            self._thread.start()
        except BaseException:  # no more threads may be had
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading; what is still inside the pipeline is dropped."""
        self.close()

    def __repr__(self) -> str:
        """Show state, counts and limits."""
        s = self.statistics()
        state = "closed" if self.closed else "draining" if self._draining else "open"
        return f"<Flow {state}: {s.admitted} admitted, {s.delivered} delivered, {s.in_flight} of {s.window} in flight>"

    # ---- the consumer's side

    def __iter__(self) -> Iterator[Parcel]:
        """Yield finished parcels until the source is exhausted; a parcel's room is free when the next is asked for."""
        while (parcels := self.collect(RECHECK_S)) is not None:
            parcels.reverse()
            while parcels:
                n = len(parcels[-1])
                yield parcels.pop()  # nothing here holds on to what the consumer is done with
                self.release(n)

    def collect(self, timeout_s: float, least: int = 1) -> list[Parcel] | None:
        """Return what came out: at least `least` items, fewer (or []) after `timeout_s`, None at the end.

        A consumer that needs no item at once asks for many: each time it wakes it takes the interpreter from a worker.
        Raises what went wrong.
        """
        self._lateness.begin()
        with self._pipeline.lock:
            self._least = least
            if not self._enough():
                self._arrived.wait(min(timeout_s, self._pipeline.watch_period_s))
                self._lateness.woken()
            parcels = list(self._ready)
            self._ready.clear()
            self._delivered += sum(map(len, parcels))
            if not parcels and self._ended():
                self._raise_error()
                return None
        self._lateness.end()
        self._pipeline.watch()
        return parcels

    def release(self, n: int) -> None:
        """Give back the room of `n` delivered items."""
        with self._pipeline.lock:
            self.account()
            self.gate.release(n)

    def drain(self) -> None:
        """Admit nothing more; what is in flight still comes out."""
        with self._pipeline.lock:
            self._draining = True
            self.gate.seal()
            self._pipeline.wake_first()
            self.gate.room.notify()
            self._arrived.notify()

    def fail(self, error: BaseException) -> None:
        """End the flow with `error`, raised to the consumer once it has taken what is ready. Lock held."""
        self._error = self._error or error
        self.closed = True
        self.gate.room.notify()
        self._arrived.notify()

    def close(self, timeout_s: float = SOURCE_STOP_S) -> None:
        """End the flow; idempotent. A source that does not return in time is left behind as a daemon."""
        with self._pipeline.lock:
            self.closed = True
            self._ready.clear()
            self._waiting.clear()
            self.gate.seal()
            self.gate.room.notify()
            self._arrived.notify()
            self._pipeline.detach(self)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def statistics(self) -> FlowStatistics:
        """Return a snapshot."""
        with self._pipeline.lock:
            waits = Waits(**self._waits)
            return self.gate.statistics(self._delivered, self._source_s, waits, self._lateness.mean_s)

    # ---- the pipeline's side, lock held

    def arrive(self, parcel: Parcel) -> None:
        """Take a finished parcel in; it becomes ready when everything before it has arrived. Lock held."""
        if self.closed:
            return
        self.gate.came_out(len(parcel))
        if not self._ordered:
            self._ready.append(parcel)
            self._arrived_to += len(parcel)
        else:
            self._waiting[parcel.start] = parcel
            self._held += len(parcel)
            while (following := self._waiting.pop(self._arrived_to, None)) is not None:
                self._ready.append(following)
                self._arrived_to += len(following)
                self._held -= len(following)
        if self._enough():
            self._lateness.tell()
            self._arrived.notify()

    def account(self) -> None:
        """Count the time since the last change as what the idle workers of the first stage waited for. Lock held.

        Called before anything changes that this is read off.
        """
        now = time.perf_counter()
        if now - self._accounted < CLOSE_S:
            return  # counted with what comes next
        idle = self._pipeline.posts[0].idle
        if idle:
            self._waits[self._cause()] += idle * (now - self._accounted)
        self._accounted = now

    def _cause(self) -> Cause:
        if self._exhausted or self._draining:
            return "end"
        if not self._full:
            return "source"
        out, in_flight = self._arrived_to - self.gate.released, self.gate.in_flight
        queued = any(post.queue for post in self._pipeline.posts)
        return cause(queued=queued, held=self._held, out=out, inside=in_flight - self._held - out)

    def missing(self) -> int:
        """Return how many items neither came out nor wait for others, where the pipeline is empty. Lock held."""
        there = self._arrived_to + sum(map(len, self._waiting.values()))
        return 0 if self.closed else self.gate.admitted - there

    def _enough(self) -> bool:
        """Tell whether the consumer need not wait."""
        return self._arrived_to - self._delivered >= self._least or self._ended()

    def _ended(self) -> bool:
        if self.closed:
            return True
        return (self._exhausted or self._draining) and self._arrived_to == self.gate.admitted

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
        if self.closed and not (self._exhausted and self._delivered == self.gate.admitted):
            raise Cancelled("The flow was closed before all its items were done.")

    # ---- the source's side

    def _read_source(self) -> None:
        """Body of the source thread: read no further ahead than the window."""
        error: BaseException | None = None
        exhausted = False
        try:
            while (n := self._wait_for_room()) is not None:
                begun = time.perf_counter()
                chunk = self._take(n, self._block)
                spent = time.perf_counter() - begun
                if chunk is None:
                    exhausted = True
                    break
                self._admit(chunk, spent)
        except BaseException as caught:  # noqa: BLE001 - whatever the user's iterable raises belongs to the consumer
            error = caught
        with self._pipeline.lock:
            self.account()
            self._error = self._error or error
            self._exhausted = exhausted or error is not None
            self.gate.seal()
            self._pipeline.wake_first()
            self._arrived.notify()

    def _wait_for_room(self) -> int | None:
        """Return how many items to read next, once they fit; None when reading is over."""
        with self._pipeline.lock:
            while not (self.closed or self._draining):
                if (n := self.gate.offer()) is not None:
                    return n
                self._set_full(full=True)
                self.gate.room.wait(RECHECK_S)
                self._set_full(full=False)
        return None

    def _set_full(self, *, full: bool) -> None:
        self.account()
        self._full = full

    def _admit(self, chunk: Chunk, spent_s: float) -> None:
        values = chunk[2]
        nbytes = estimate_nbytes(values)
        with self._pipeline.lock:
            if self.closed or self._draining:
                return  # not accounted: while the source gives, idle workers wait for it whatever has entered
            self._source_s += spent_s
            self.gate.source_cost_s = smooth(self.gate.source_cost_s, spent_s / len(values))
            self.gate.admit(self, chunk, nbytes)
