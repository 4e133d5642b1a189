"""Looks whether workers live and move. It has no thread: whoever waits calls it now and then."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock._contracts import Item
from penstock._engine.parcel import whole_blocks
from penstock.errors import PenstockError, Stalled

if TYPE_CHECKING:
    from penstock._engine.work import Lease, Worker


class Watch:
    """Remembers how far each worker had come, and since when it has not moved."""

    def __init__(self, item_timeout_s: float | None) -> None:
        """Allow `item_timeout_s` for one item (one batch) in one step; None: for ever."""
        self._item_timeout_s = item_timeout_s
        self._seen: dict[int, tuple[float, int, float]] = {}

    @property
    def period_s(self) -> float:
        """How often to look."""
        return 1.0 if self._item_timeout_s is None else min(1.0, max(0.01, self._item_timeout_s / 4))

    def look(self, workers: Sequence[Worker]) -> PenstockError | None:
        """Return what is wrong with workers that should be at work, or None."""
        dead = [w.thread.name for w in workers if w.thread.ident is not None and not w.thread.is_alive()]
        if dead:
            names = ", ".join(dead)
            return PenstockError(f"The worker threads {names} ended without a word. This is a bug in penstock.")
        if self._item_timeout_s is None:
            return None
        held = [(worker, worker.lease) for worker in workers if not worker.guarded]
        waited = [(worker, lease, self._stuck_s(worker, lease)) for worker, lease in held]
        stuck = [(w, lease, s) for w, lease, s in waited if lease is not None and s > self._item_timeout_s]
        return Stalled(self._report(stuck)) if stuck else None

    def _stuck_s(self, worker: Worker, lease: Lease | None) -> float:
        """Return how long `worker` has been at the item (the batch) it is at, as far as is known."""
        now = time.perf_counter()
        if lease is None:
            self._seen.pop(id(worker), None)
            return 0.0
        # A lease is known by its time: another one may lie at the address of one that is gone.
        mark = (lease.begun, len(lease.out))
        seen = self._seen.get(id(worker))
        if seen is None or seen[:2] != mark:
            seen = (*mark, now if lease.out else lease.begun)
            self._seen[id(worker)] = seen
        return now - seen[2]

    def _report(self, stuck: Sequence[tuple[Worker, Lease, float]]) -> str:
        lines = [self._line(lease, waited_s) for _, lease, waited_s in stuck]
        frames = sys._current_frames()  # noqa: SLF001 - documented, "for internal and specialized purposes": this is one
        threads = [worker.thread for worker, _, _ in stuck]
        stacks = [
            f"--- {thread.name}\n" + "".join(traceback.format_stack(frames[thread.ident]))
            for thread in threads
            if thread.ident in frames
        ]
        return "\n".join([*lines, "Raise Limits(item_timeout_s=) if this is right for such items. Stacks:", *stacks])

    def _line(self, lease: Lease, waited_s: float) -> str:
        done = len(lease.out)
        positions = lease.part.positions[done:]
        n = whole_blocks(positions, lease.step.block, 1) if lease.step.block and positions else 1
        names = [str(item.id if isinstance(item, Item) else item) for item in lease.part.items[done : done + n]]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"stage {lease.step.name!r} has worked on {shown} for {waited_s:.1f} s (limit {self._item_timeout_s} s)."
