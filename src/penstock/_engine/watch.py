"""Looks whether workers live and move. It has no thread: whoever waits in vain calls it."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock._contracts import Item
from penstock.errors import PenstockError, Stalled

if TYPE_CHECKING:
    from penstock._engine.pipeline import Lease, Worker


class Watch:
    """Remembers how far each worker had come, and since when it has not moved."""

    def __init__(self, item_timeout_s: float | None) -> None:
        """Allow `item_timeout_s` for one item (one batch) in one step; None: for ever."""
        self._item_timeout_s = item_timeout_s
        self._seen: dict[int, tuple[int, int, float]] = {}

    @property
    def period_s(self) -> float:
        """How often to look."""
        return 1.0 if self._item_timeout_s is None else min(1.0, self._item_timeout_s / 4)

    def look(self, workers: Sequence[Worker], closing: bool) -> PenstockError | None:
        """Return what is wrong, or None."""
        dead = [w.thread.name for w in workers if w.thread.ident is not None and not w.thread.is_alive()]
        if dead and not closing:
            return PenstockError(f"The worker threads {', '.join(dead)} ended without a word. This is a bug in penstock.")
        if self._item_timeout_s is None:
            return None
        stuck = [w for w in workers if self._stuck_s(w) > self._item_timeout_s]
        return Stalled(self._report(stuck)) if stuck else None

    def _stuck_s(self, worker: Worker) -> float:
        lease, now = worker.lease, time.perf_counter()
        if lease is None:
            self._seen.pop(id(worker), None)
            return 0.0
        mark = (id(lease), len(lease.out))
        seen = self._seen.get(id(worker))
        if seen is None or seen[:2] != mark:
            self._seen[id(worker)] = (*mark, lease.begun if not lease.out else now)
            return now - lease.begun if not lease.out else 0.0
        return now - seen[2]

    def _report(self, stuck: Sequence[Worker]) -> str:
        lines = [self._line(worker) for worker in stuck]
        frames = sys._current_frames()
        stacks = [
            f"--- {worker.thread.name}\n" + "".join(traceback.format_stack(frames[worker.thread.ident]))
            for worker in stuck
            if worker.thread.ident in frames
        ]
        return "\n".join([*lines, "Raise Limits(item_timeout_s=) if this is right for such items. Stacks:", *stacks])

    def _line(self, worker: Worker) -> str:
        lease = worker.lease
        if lease is None:
            return f"{worker.thread.name} was stuck and has moved on."
        held = lease.parcel.items[len(lease.out) :][: lease.step.block or 1]
        names = [str(item.id if isinstance(item, Item) else item) for item in held]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        waited = time.perf_counter() - lease.begun
        return f"stage {lease.step.name!r} has worked on {shown} for {waited:.1f} s (limit {self._item_timeout_s} s)."
