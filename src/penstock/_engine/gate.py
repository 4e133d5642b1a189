"""Where items enter a pipeline: the window, how much of it is taken, and the parcel that still takes items in.

Nothing inside a pipeline ever blocks on a full queue, because nothing enters that does not fit. All state is guarded by
the pipeline's one lock, which the condition shares.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock._engine.idle import NO_WAITS, Waits
from penstock._engine.parcel import Parcel
from penstock._engine.sizing import Window, admission, fits, window_items
from penstock._engine.statistics import FlowStatistics

if TYPE_CHECKING:
    from penstock._engine.flow import Flow
    from penstock._engine.inlet import Inlet
    from penstock._engine.pipeline import Pipeline

Chunk = tuple[Sequence[int], Sequence[Any], list[Any]]
"""(positions, items, values) of consecutive items of a source, ending where a batch ends."""
RAMP = 16
"""How many more items may enter at the start for each one that has come out."""


class Gate:
    """The window of one flow. Every method is called with the pipeline's lock held.

    `linger_s` not None: items enter one by one and wait at most that long for others to share a batch.
    """

    def __init__(self, pipeline: Pipeline, window: Window, linger_s: float | None) -> None:
        """Open it, with nothing inside."""
        self.room = threading.Condition(pipeline.lock)
        self.admitted = self.released = 0
        self.source_cost_s = 0.0
        self._pipeline = pipeline
        self._planned = self._window = window
        self._least, self._times = 0, 1.0
        self._linger_s = linger_s
        self._item_nbytes = 0.0
        self._largest = self._came = self._synthetic = 0
        self._starting = True
        self._growing: Parcel | None = None

    def learn(self, other: Gate) -> None:
        """Begin where `other`, which another flow had on the same pipeline, has come to: the items will be alike."""
        self._came, self._item_nbytes = other._came, other._item_nbytes

    def hold(self, items: int | None = None, times: float | None = None) -> None:
        """Let at least `items` be in flight, and `times` as many as were planned; of bytes twice as many at most."""
        self._least, self._times = self._least if items is None else items, self._times if times is None else times
        planned, times = self._planned, self._times
        least, most = max(planned.min_items, self._least), max(planned.max_items, self._least)
        self._window = Window(min(most, int(least * times)), most, int(planned.max_bytes * min(2.0, times)))
        self.room.notify_all()

    @property
    def in_flight(self) -> int:
        """How many items are inside."""
        return self.admitted - self.released

    def allowed(self) -> int:
        """Return how many items may be in flight; a slow start, as the first ones may not be like the others."""
        allowed = window_items(self._window, self._pipeline.rate() * self._times, self._item_nbytes)
        start = self._pipeline.worker_count * self._pipeline.block + RAMP * self._came
        self._starting = start < min(allowed, self._window.min_items)  # beyond, it grows with what is released
        return min(start, allowed)

    def offer(self) -> int | None:
        """Return how many items the next parcel should have, or None while they do not fit."""
        if self._linger_s is not None and self.admitted == self.released:
            return 1  # the one that an idle pipeline is asked for: nothing is computed before it is on its way
        allowed = self.allowed()
        n = 1 if self._linger_s is not None else self._parcel_size(allowed)
        return n if fits(allowed, self.in_flight, n) else None

    def _parcel_size(self, allowed: int) -> int:
        cost = max(self._pipeline.cost_s(), self.source_cost_s)
        return admission(cost, self._pipeline.block, allowed, self._pipeline.worker_count, self._item_nbytes)

    def admit(self, flow: Flow | Inlet, chunk: Chunk, nbytes: int) -> None:
        """Let the items of `chunk`, which hold `nbytes`, enter on behalf of `flow`."""
        positions, items, values = chunk
        start, n = self.admitted, len(values)
        self.admitted += n
        self._largest = max(self._largest, self.in_flight)
        self.measured(nbytes, n)
        if self._linger_s is not None and self._grow(items, values):
            return
        parcel = Parcel(flow, start, (start, n), positions, items, values, nbytes=nbytes)
        if self._linger_s is not None:
            self._open(parcel, self._linger_s)
        self._pipeline.enter(parcel)

    def came_out(self, n: int) -> None:
        """Note that `n` items are through, whether or not their room is free already."""
        self._came += n
        if self._starting:
            self.room.notify()

    def release(self, n: int) -> None:
        """Give back the room of `n` items."""
        self.released += n
        self.room.notify(n)

    def measured(self, nbytes: int, n: int) -> None:
        """Note that `n` items hold `nbytes` after a stage; the largest running mean of any stage counts."""
        self._item_nbytes = max(self._item_nbytes * 0.999, nbytes / max(1, n))

    def statistics(
        self, delivered: int, source_s: float, waits: Waits = NO_WAITS, late_s: float = 0.0
    ) -> FlowStatistics:
        """Return a snapshot, with what the flow knows beside it."""
        counts = (self.admitted, delivered, self.in_flight, self._largest)
        return FlowStatistics(*counts, self.allowed(), int(self._item_nbytes), source_s, waits, late_s)

    # ---- trickling items: an open parcel before the first stage takes them one by one until a worker takes it

    def seal(self) -> None:
        """Let nothing more join the parcel that was still growing."""
        if self._growing is not None:
            self._growing.open_until = None
            self._growing = None

    def _open(self, parcel: Parcel, linger_s: float) -> None:
        """Let later items join `parcel` while it waits; its batch begins with it, wherever it lies in the source."""
        self.seal()
        block = self._pipeline.block
        parcel.positions, parcel.items = [self._synthetic], list(parcel.items)
        self._synthetic += max(block, 1 << 16) // block * block
        parcel.open_until = time.monotonic() + (linger_s if block > 1 else 0.0)
        self._growing = parcel

    def _grow(self, items: Sequence[Any], values: list[Any]) -> bool:
        """Add one item to the open parcel, if there is one with room."""
        parcel = self._growing
        if parcel is None or len(parcel) >= self._parcel_size(self.allowed()):
            return False
        parcel.values.extend(values)
        parcel.items = _grown(parcel.items, items)
        parcel.positions = _grown(parcel.positions, [parcel.positions[-1] + 1])
        parcel.origin = (parcel.start, len(parcel))
        if len(parcel) >= self._pipeline.block:
            self._pipeline.wake_first()
        return True


def _grown(old: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Return `old` (a list: it grows in place) with `new` behind it."""
    grown = old if isinstance(old, list) else list(old)
    grown.extend(new)
    return grown
