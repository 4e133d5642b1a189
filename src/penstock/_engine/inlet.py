"""A flow without a source: any thread puts items in, one by one, and each item's ticket hears what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from penstock._engine.gate import Gate
from penstock._engine.parcel import Parcel, value_nbytes
from penstock._engine.sizing import HORIZON_S, Window
from penstock._engine.statistics import FlowStatistics
from penstock._engine.tickets import Ticket, Tickets
from penstock.errors import Closed, Overloaded

if TYPE_CHECKING:
    from penstock._engine.pipeline import Pipeline

DRAIN_S = 2 * HORIZON_S
"""How long leaving an inlet waits for what is inside: twice what the window is made to hold."""


class Inlet:
    """Items put in by many callers, in no order, on one pipeline with other flows; a context manager.

    An item is known by its number, counted from 0. An item costs two changes of thread: the worker that is done with
    the last stage tells the ticket itself, and then the item's room is free.
    """

    def __init__(self, pipeline: Pipeline, window: Window, linger_s: float) -> None:
        """Made by `Pipeline.inlet`."""
        self.tickets = Tickets()
        self.closed = False
        self._pipeline = pipeline
        self.gate = Gate(pipeline, window, linger_s)
        self._queue = 0
        self._draining = False
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        """Begin to take items."""
        self._pipeline.attach(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more items, give those inside a short time to come out, and drop the rest."""
        self.drain(DRAIN_S)
        self.close()

    def __repr__(self) -> str:
        """Show state, counts and limits."""
        s = self.statistics()
        state = "closed" if self.closed else "draining" if self._draining else "open"
        return f"<Inlet {state}: {s.admitted} admitted, {s.delivered} delivered, {s.in_flight} of {s.window} in flight>"

    # ---- the callers' side

    def put(self, value: Any, ticket: Ticket, timeout_s: float | None = None) -> None:
        """Let `value` enter, waiting for room at most `timeout_s` (None: as long as the pipeline runs).

        Who comes later waits behind those who wait already: otherwise some of many callers would wait for seconds.
        A worker of the pipeline never waits: the room may be its own to give back. Raises Overloaded where there is no
        room in time, Closed where there will be none, and the error that has ended the pipeline.
        """
        nbytes = value_nbytes(value)
        if not self._put(value, ticket, nbytes, newcomer=True):
            self._put_later(value, ticket, nbytes, 0.0 if self._pipeline.is_worker() else timeout_s)

    def _put_later(self, value: Any, ticket: Ticket, nbytes: int, patience_s: float | None) -> None:
        """Wait for room, as `put` does that found none."""
        begun, newcomer = time.monotonic(), True
        while True:
            waited_s = time.monotonic() - begun
            if patience_s is not None and waited_s >= patience_s:
                raise self._overloaded(waited_s)
            self._await_room(None if patience_s is None else patience_s - waited_s, newcomer)
            newcomer = False
            self._pipeline.watch()
            if self._put(value, ticket, nbytes, newcomer):
                return

    def _put(self, value: Any, ticket: Ticket, nbytes: int, newcomer: bool) -> bool:
        with self._pipeline.lock:
            self._raise_if_closed()
            if not self._has_room(newcomer):
                return False
            item = self.gate.admitted
            self.tickets.add(item, ticket)
            self.gate.admit(self, ([item], [item], [value]), nbytes)
            if self._queue and self.gate.offer() is not None:  # the window has grown: nobody else would say so
                self.gate.room.notify()
            return True

    def _has_room(self, newcomer: bool) -> bool:
        return not (newcomer and self._queue) and self.gate.offer() is not None

    def _await_room(self, timeout_s: float | None, newcomer: bool) -> None:
        with self._pipeline.lock:
            if not self.closed and not self._draining and not self._has_room(newcomer):
                period_s = self._pipeline.watch_period_s
                self._queue += 1
                try:
                    self.gate.room.wait(period_s if timeout_s is None else min(timeout_s, period_s))
                finally:
                    self._queue -= 1

    def _raise_if_closed(self) -> None:
        if self._error is not None:
            raise self._error
        if self.closed or self._draining:
            raise Closed("The inlet is closed: no more items can enter it.")

    def _overloaded(self, waited_s: float) -> Overloaded:
        s, rate = self.statistics(), self._pipeline.rate()
        speed = f", done at {rate:,.0f} a second" if rate else ""
        return Overloaded(
            f"No room for another item after {waited_s:.3g} s: {s.in_flight} are in flight, the limit is {s.window}"
            f"{speed}. Wait longer (timeout_s=), send fewer, or turn the caller away."
        )

    # ---- the end

    def drain(self, timeout_s: float) -> None:
        """Take no more items; wait at most `timeout_s` for those inside. A worker of the pipeline does not wait."""
        deadline = time.monotonic() + (0.0 if self._pipeline.is_worker() else timeout_s)
        with self._pipeline.lock:
            self._draining = True
            self.gate.seal()
            self._pipeline.wake_first()
            self.gate.room.notify_all()
            while not self.closed and self.gate.in_flight and (left_s := deadline - time.monotonic()) > 0:
                self.gate.room.wait(left_s)

    def fail(self, error: BaseException) -> None:
        """End with `error`; whoever calls drops the tickets afterwards. Lock held."""
        self._error = self._error or error
        self.closed = True
        self.gate.room.notify_all()

    def close(self, _timeout_s: float = 0.0) -> None:
        """End at once; idempotent. What is inside is dropped, and its tickets hear of it."""
        with self._pipeline.lock:
            self.closed = True
            self.gate.seal()
            self.gate.room.notify_all()
            self._pipeline.detach(self)
        self.tickets.drop(self._error)

    def statistics(self) -> FlowStatistics:
        """Return a snapshot; what was delivered is what left the last stage."""
        with self._pipeline.lock:
            return self.gate.statistics(self.gate.released, 0.0)

    # ---- the pipeline's side, lock held

    def arrive(self, parcel: Parcel) -> None:
        """Give back the room of a parcel whose tickets have been told. Lock held."""
        self.gate.came_out(len(parcel))
        self.gate.release(len(parcel))

    def account(self) -> None:
        """Nothing is said about what idle workers wait for: for callers."""

    def missing(self) -> int:
        """Return how many items did not come out, where the pipeline is empty. Lock held."""
        return 0 if self.closed else self.gate.in_flight
