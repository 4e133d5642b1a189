"""Looks whether workers live and move. It has no thread: whoever waits calls it now and then."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock._contracts import Item
from penstock._engine.parcel import whole_blocks
from penstock._printable import printable
from penstock.errors import PenstockError

if TYPE_CHECKING:
    import threading

    from penstock._engine.work import Lease, Worker

SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker is at, as the watch saw it: the step, how many values it has given, for how long not another."""

    worker: Worker
    lease: Lease
    done: int
    waited_s: float


class Watch:
    """Remembers how far each worker had come, and since when it has not moved.

    Only time in which it looks often enough counts: of a process that was halted, or a machine that slept, no item can
    be blamed for the time that has passed meanwhile.
    """

    def __init__(self, item_timeout_s: float | None, clock: Callable[[], float] = time.perf_counter) -> None:
        """Allow `item_timeout_s` for one item (one batch) in one step; None: for ever."""
        self.item_timeout_s = item_timeout_s
        self._clock = clock
        self._looked_at = clock()
        self.awake_s = 0.0
        """Seconds in which it looked often enough."""
        self._seen: dict[Worker, tuple[float, int, float]] = {}

    @property
    def period_s(self) -> float:
        """How often to look."""
        return 1.0 if self.item_timeout_s is None else min(1.0, max(0.01, self.item_timeout_s / 4))

    def look(self, workers: Sequence[Worker]) -> list[Held]:
        """Return what each worker is at, and for how long it has been at the item (the batch) in hand."""
        now = self._clock()
        since_s = min(now - self._looked_at, 2 * self.period_s)
        self._looked_at, self.awake_s = now, self.awake_s + since_s
        seen, self._seen = self._seen, {}
        found = []
        for worker in workers:
            if (lease := worker.lease) is not None:
                done = len(lease.out)
                # A lease is known by its time: another one may lie at the address of one that is gone.
                begun, before, at = seen.get(worker, (-1.0, -1, 0.0))
                if (begun, before) != (lease.begun, done):
                    at = self.awake_s - (0.0 if done else min(now - lease.begun, since_s))
                self._seen[worker] = (lease.begun, done, at)
                found.append(Held(worker, lease, done, self.awake_s - at))
        return found

    def stuck(self, held: Sequence[Held]) -> list[Held]:
        """Return those that have been at one item (one batch) for longer than they may."""
        limit_s = self.item_timeout_s
        if limit_s is None:
            return []
        return [one for one in held if one.waited_s > limit_s and one.worker.elsewhere is None]


def death(workers: Sequence[Worker]) -> PenstockError | None:
    """Return what is wrong where workers that should be at work have ended, or None."""
    dead = [w.thread.name for w in workers if w.thread.ident is not None and not w.thread.is_alive()]
    if not dead:
        return None
    return PenstockError(f"The worker threads {', '.join(dead)} ended without a word. This is a bug in penstock.")


def in_hand(lease: Lease, done: int) -> int:
    """Return how many items a step that has given `done` values is at: one, or what is left of one batch or parcel."""
    part = lease.part
    positions = part.positions[done:]
    if lease.step.by_parcel:
        return max(1, len(positions))
    alone = part.alone and lease.place == part.step
    return whole_blocks(positions, lease.step.block, 1) if positions and lease.step.block and not alone else 1


def names_of(items: Sequence[object]) -> str:
    """Return the ids of the first items, and how many more there are; each in one line, whatever it is made of."""
    names = [printable(str(item.id if isinstance(item, Item) else item)) for item in items[:SHOWN_NAMES]]
    more = f" and {len(items) - SHOWN_NAMES} more" if len(items) > SHOWN_NAMES else ""
    return ", ".join(names) + more


def line_of(held: Held) -> str:
    """Return what a worker is at, and for how long, as a sentence without its end."""
    items = held.lease.part.items[held.done : held.done + in_hand(held.lease, held.done)]
    return f"stage {held.lease.step.name!r} has worked on {names_of(items)} for {held.waited_s:.1f} s"


def stacks_of(threads: Sequence[threading.Thread]) -> str:
    """Return where each of `threads` is, as far as it is alive."""
    frames = sys._current_frames()  # noqa: SLF001 - documented, "for internal and specialized purposes": this is one
    return "\n".join(
        f"--- {thread.name}\n" + "".join(traceback.format_stack(frames[thread.ident]))
        for thread in threads
        if thread.ident in frames
    )
