"""A stage at work: what waits before it, what is being gathered for it, and what was measured of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock._engine.histogram import Histogram
from penstock._engine.parcel import Parcel, join
from penstock._engine.sizing import smooth
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
    idle: int = 0
    promised: int = 0
    """Parcels that are put by for workers who wait: those who come along while these wake up leave them."""

    def queued(self) -> int:
        """Return how many items wait."""
        return sum(map(len, self.queue))

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
        self.cost_s = smooth(self.cost_s, max(1e-9, sum(clock.busy_s for clock in clocks) / n))
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
