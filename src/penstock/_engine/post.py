"""A stage at work: what waits before it, what is being gathered for it, and what was measured of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from penstock._engine.histogram import Histogram
from penstock._engine.parcel import Parcel, join, whole_blocks
from penstock._engine.patience import RECHECK_S
from penstock._engine.sizing import share, smooth
from penstock._engine.step import Stage
from penstock._engine.work import Clock

if TYPE_CHECKING:
    from penstock._engine.flow import Flow
    from penstock._engine.inlet import Inlet


@dataclass(slots=True)
class Post:
    """A stage at work. Guarded by the pipeline's lock."""

    stage: Stage
    ready: threading.Condition
    block: int | None
    """Of the stage, which works it out each time it is asked."""
    queue: deque[Parcel] = field(default_factory=deque)
    branches: int = 1
    """How many stages end at this one; it waits for the parcel from each."""
    pieces: dict[tuple[Flow | Inlet, int], list[tuple[int, Parcel]]] = field(default_factory=dict)
    """By the parcel they were cut from: pieces, with the stage each came from."""
    clocks: list[Clock] = field(default_factory=list)
    calls: list[Histogram] = field(default_factory=list)
    """Of each step: how long a call took, on average over a parcel."""
    cost_s: float = 0.0
    """Of an item, in all steps; 0.0: not measured yet."""
    step_s: float = 0.0
    """Of an item, in the slowest step."""
    staffed: tuple[float, float] = field(default_factory=lambda: (0.0, time.perf_counter()))
    """For how long its workers were there, summed, up to the moment behind it."""
    changed: bool = False
    idle: int = 0
    promised: int = 0
    """Parcels that are put by for workers who wait: those who come along while these wake up leave them."""
    refusal: Exception | None = None
    """Why a worker that was called for while the pipeline ran could not begin."""

    def staffed_s(self) -> float:
        """Return for how long there were workers until now, summed over them; 0.0 where their number never changed."""
        return self._staffed_s(time.perf_counter()) if self.changed else 0.0

    def _staffed_s(self, now: float) -> float:
        seconds, since = self.staffed
        return seconds + self.stage.workers * (now - since)

    def change(self, stage: Stage) -> None:
        """Have its workers, or its steps, be as in `stage` from now on."""
        now = time.perf_counter()
        self.staffed, self.changed = (self._staffed_s(now), now), True
        self.stage = stage

    def queued(self) -> int:
        """Return how many items wait."""
        return sum(map(len, self.queue))

    def take(self, block: int) -> Parcel | float:
        """Take the first parcel that need not wait for more items, or has `block`; else return for how long to wait."""
        queue, wait_s = self.queue, RECHECK_S
        while queue and queue[0].flow.closed:
            queue.popleft()
        for i, parcel in enumerate(queue):
            remaining_s = _lingers_s(parcel, block)
            if remaining_s <= 0.0:
                del queue[i]
                return self._shared(parcel)
            wait_s = min(wait_s, remaining_s)
        return wait_s

    def _shared(self, parcel: Parcel) -> Parcel:
        """Return as much of `parcel` as one worker should take, and leave the rest to the others."""
        if parcel.open_until is not None:
            parcel.flow.gate.seal()
        workers = self.stage.workers
        # The fair share matters only where few parcels wait, and a long queue costs too much to be counted each time.
        length = len(parcel)
        waiting = sum(map(len, islice(self.queue, 2 * workers))) if self.queue else 0
        n = share(self.cost_s, self.step_s, length, length + waiting, workers)
        if n < length and self.block:
            n = whole_blocks(parcel.positions, self.block, n)
        if n < length:
            parcel, rest = parcel.split(n)
            self.queue.appendleft(rest)
        if self.queue and self.idle:
            self.ready.notify()
        return parcel

    def rest(self, timeout_s: float, flows: Sequence[Flow | Inlet]) -> None:
        """Let the calling worker wait for a parcel; `flows`, which have just counted, count what for. Lock held."""
        self.idle += 1
        self.ready.wait(timeout_s)
        for flow in flows:
            flow.account()
        self.idle -= 1
        self.promised = max(0, self.promised - 1)  # whoever has waited, for whatever reason, may take one

    def count(self, clocks: Sequence[Clock]) -> None:
        """Add what a worker has counted."""
        for total, clock in zip(self.clocks, clocks, strict=True):
            total.busy_s += clock.busy_s
            total.cpu_s += clock.cpu_s
            total.items += clock.items
            total.failed += clock.failed

    def measure(self, n: int, clocks: Sequence[Clock]) -> None:
        """Learn what an item costs from a parcel of `n`; one of failures alone says nothing."""
        if self.cost_s and not any(clock.items for clock in clocks):
            return
        seconds = [clock.busy_s for clock in clocks]
        self.cost_s = smooth(self.cost_s, max(1e-9, sum(seconds) / n))
        self.step_s = smooth(self.step_s, max(1e-9, max(seconds) / n))
        for step, clock, calls in zip(self.stage.steps, clocks, self.calls, strict=True):
            if clock.items:
                calls.add(clock.busy_s / -(-clock.items // (step.block or 1)))

    def gather(self, piece: Parcel, origin: int) -> Parcel | None:
        """Keep `piece` until all pieces of its parcel are here from each branch, then return them as one."""
        key = (piece.flow, piece.origin[0])
        pieces = self.pieces.setdefault(key, [])
        pieces.append((origin, piece))
        if sum(len(there) for _, there in pieces) < self.branches * piece.origin[1]:
            return None
        del self.pieces[key]
        return join([there for s, there in pieces if s == origin])


def _lingers_s(parcel: Parcel, block: int) -> float:
    """Return how long `parcel` may still wait for more items to join it."""
    if parcel.open_until is None or len(parcel) >= block > 1:
        return 0.0
    return parcel.open_until - time.monotonic()
