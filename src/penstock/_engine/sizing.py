"""How many: pure decisions on the size of parcels and windows, from measured costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

PARCEL_S = 0.03
"""Work in one parcel: short against what a person or a tail notices, but several items of a few milliseconds each.

A model evicts everything else from the caches: Python code that runs on several items in a row, step by step, runs two
or three times as fast as between two calls of the model (measured: 0.3 ms of 9.5 a photo). So the slowest *step*
counts, not the stage: of three models fused in one, each keeps its weights in the caches for several items (measured:
5 % in the median of ten pairs).
"""
PARCEL_BYTES = 1 << 25
"""Values of one parcel: what a consumer is done with is written again while it still lies in the caches.

Measured, batches of 9.6 MB from a process: three in a parcel go round in 7 slots and are filled in 0.43 ms, sixteen go
round in 18 and take 0.9.
"""
HORIZON_S = 0.25
"""Work in flight: a window holds about this much, so that a short stall of one stage starves no other."""
FIRST_SLICE = 8
"""Items before the first look at the clock inside a parcel of unknown cost; twice as many before each next one."""
SLICE_S = 0.001
"""Work before the first look where the cost is known; a parcel of so little work is never shared out."""
TURNS = 2
"""Parcels after which a worker lets an idle one of its stage go first.

Otherwise one thread of a cheap stage does everything, for whoever holds the interpreter lock takes the next parcel.
"""
SMOOTHING = 0.25
"""Weight of the newest measurement in a running cost."""


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of what may be in flight between a source and the consumer: items, and bytes of decoded data."""

    min_items: int = 64
    max_items: int = 16_384
    max_bytes: int = 1 << 30


def smooth(old: float, new: float) -> float:
    """Return the running mean `old` moved towards `new`; 0.0 means nothing was measured yet."""
    return new if old == 0.0 else old + SMOOTHING * (new - old)


def window_items(window: Window, rate: float, item_nbytes: float) -> int:
    """Return how many items may be in flight at `rate` items/s and `item_nbytes` each (0.0 = unknown); at least one."""
    by_rate = min(window.max_items, max(window.min_items, int(rate * HORIZON_S)))
    return by_rate if by_rate * item_nbytes <= window.max_bytes else max(1, int(window.max_bytes // item_nbytes))


def fits(allowed: int, in_flight: int, n: int) -> bool:
    """Tell whether `n` more items may enter; a single parcel always may when nothing else is in flight."""
    return in_flight == 0 or in_flight + n <= allowed


def admission(cost_s: float, block: int, allowed: int, workers: int, item_nbytes: float) -> int:
    """Return how many items the source puts in a parcel: whole blocks, about PARCEL_S of the slowest step.

    `cost_s` is that step's cost an item (0.0 = unknown: one block), `item_nbytes` what an item holds. Every worker
    gets two parcels of the window.
    """
    if cost_s <= 0.0:
        return block
    wanted = min(PARCEL_S / cost_s, allowed / (2 * workers), PARCEL_BYTES / max(1.0, item_nbytes))
    return block * max(1, math.floor(wanted / block))


def first_slice(cost_s: float) -> int:
    """Return how many items a worker does before it looks at the clock for the first time (`cost_s` 0.0 = unknown)."""
    return max(FIRST_SLICE, int(SLICE_S / cost_s)) if cost_s > 0.0 else FIRST_SLICE


def share(cost_s: float, step_s: float, length: int, queued: int, workers: int) -> int:
    """Return how many of the `length` items of the next parcel a worker takes, with `queued` items waiting in all.

    An item costs `cost_s`, `step_s` of it in the slowest step. Cheap parcels go whole. Of expensive ones a worker takes
    about PARCEL_S of that step, and never more than its fair share.
    """
    if cost_s <= 0.0:
        return 1
    if cost_s * length <= SLICE_S:
        return length
    return min(length, max(1, math.ceil(PARCEL_S / step_s)), max(1, math.ceil(queued / workers)))
