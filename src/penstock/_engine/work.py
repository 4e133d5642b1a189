"""What one worker does with a parcel, outside the lock: slice by slice, to be timed, watched and stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock._engine.parcel import Parcel, estimate_nbytes, whole_blocks
from penstock._engine.sizing import FIRST_SLICE, PARCEL_S
from penstock._engine.step import Rows, Step, run_step

OVERTIME_S = 2 * PARCEL_S
"""A parcel that takes longer than this is handed on in pieces, so that other workers can share the rest."""


@dataclass(slots=True)
class Clock:
    """Seconds, items and failures of one step, counted by one worker since it last reported."""

    busy_s: float = 0.0
    cpu_s: float = 0.0
    items: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker is at: read from other threads by the watch and by whoever stops it."""

    part: Parcel
    step: Step
    values: list[Any]
    """What the step works through, in order; nobody else reads it."""
    out: list[Any]
    """What has come of it so far."""
    begun: float
    place: int = 0
    """Which step of the stage it is."""


Bound = list[tuple[Step, Callable[..., Any]]]
"""The steps of a stage, each with the function that this worker's thread got for it."""
Done = tuple[Parcel, Parcel | None, list[Clock]]
"""What a worker has finished, what it leaves to the others, and the time it took."""


@dataclass(slots=True, eq=False)
class Worker:
    """One thread of a stage, and what it is doing."""

    stage: int
    index: int
    thread: threading.Thread
    steps: tuple[Step, ...] = ()
    """Of its stage, as they were when it was made."""
    extra: bool = False
    """It was called for while the pipeline ran: the stage can do without it."""
    entered: bool = False
    """It has entered its steps."""
    leaving: bool = False
    """It is to go, behind the parcel in hand."""
    items: int = 0
    turns: int = 0
    """Parcels it took since it last let another worker go first."""
    first_slice: int = FIRST_SLICE
    """Items to do before the first look at the clock; set by the pipeline from the stage's measured cost."""
    last: bool = False
    """Its stage is the last one."""
    lease: Lease | None = None
    done: Done | None = None
    item_timeout_s: float | None = None
    """Longest time for one item (one batch) in one step."""
    elsewhere: Callable[[], str] | None = None
    """What it is at is done by a process, which keeps that time itself, as it can be killed; this tells where it is."""
    elsewhere_s: float = 0.0
    """For how long processes have worked for it."""
    ending: bool = False
    """The pipeline ends: whatever it waits for is not wanted any more."""
    parcel: Parcel | None = None
    """What it has taken and not handed over yet."""
    through: list[Any] = field(default_factory=list)
    """Of that, the values of the first items: those that all steps are done with."""
    clocks: list[Clock] = field(default_factory=list)
    """What it has counted since it took it."""
    given_up: bool = False
    """It was stuck, and another one has its place: whatever it still brings is dropped."""

    def cut(self) -> None:
        """Stop the worker behind the item (the batch) in hand, by ending the list it works through.

        Costs nothing where nothing is stopped. Only for a pipeline that ends: what has come of the rest is dropped.
        """
        self.ending = True
        if (lease := self.lease) is not None:
            lease.values.clear()


class Here(threading.local):
    """What the calling thread is: steps that wait for others ask it how long they may."""

    worker: Worker | None = None


HERE = Here()


def work(worker: Worker, bound: Bound, parcel: Parcel, block: int | None) -> Done:
    """Run the steps over `parcel`, in slices of whole blocks; what is left after OVERTIME_S goes back."""
    clocks = worker.clocks = [Clock() for _ in bound]
    values = worker.through = []
    failed, offset, n = 0, 0, len(parcel)
    deadline = time.perf_counter() + OVERTIME_S
    while offset < n and not parcel.flow.closed:
        end = _slice_end(parcel, offset, block, max(worker.first_slice, offset))
        rows = _run_slice(worker, bound, parcel if end - offset == n else parcel.part(offset, end), clocks)
        if rows is None:
            break
        values.extend(rows.values)
        failed += rows.failed
        offset = end
        if time.perf_counter() > deadline:
            break
    head, rest = (parcel, None) if offset == n else parcel.split(offset)
    head.values, head.failed, head.nbytes = values, failed, estimate_nbytes(values)
    head.step, head.alone = 0, False  # all steps are done with it
    return head, rest, clocks


def _slice_end(parcel: Parcel, offset: int, block: int | None, n: int) -> int:
    """Return where the next slice of about `n` items ends; they double, as a parcel may turn out slow at any time."""
    if len(parcel) - offset <= n:
        return len(parcel)
    return offset + (whole_blocks(parcel.positions[offset:], block, n) if block else n)


def _run_slice(worker: Worker, bound: Bound, part: Parcel, clocks: list[Clock]) -> Rows | None:
    """Run all steps over `part`; None where the worker was cut short: no further step may see what came of it."""
    tickets = part.flow.tickets
    if tickets is not None and worker.stage == 0:
        tickets.begin(part)
    rows = Rows(_positions(part, bound), part.items, part.values, part.failed)
    begun, on_cpu = time.perf_counter(), _cpu_s(worker, part)
    for place in range(part.step, len(bound)):
        (step, fn), clock = bound[place], clocks[place]
        out: list[Any] = []
        values, before = rows.values, rows.failed
        worker.lease = Lease(part, step, values, out, begun, place)
        if worker.given_up:  # looked at behind the lease, which whoever gives it up reads behind setting this
            return None
        rows = Rows(part.positions, part.items, out, run_step(step, fn, rows, out))
        now = time.perf_counter()
        cpu_s = _cpu_s(worker, part)
        clock.busy_s += now - begun
        clock.cpu_s += cpu_s - on_cpu
        clock.items += len(out) - before
        clock.failed += rows.failed - before
        begun, on_cpu = now, cpu_s
        if not values:
            return None
    if tickets is not None and worker.last:
        tickets.finish(part.items, rows.values)
    return rows


def _cpu_s(worker: Worker, part: Parcel) -> float:
    """Return for how long the calling thread has had a CPU, with what processes did for it; 0.0 for single requests.

    It takes half a microsecond, which a slice of many items hides and one of a single request does not.
    """
    return 0.0 if part.flow.tickets is not None else time.thread_time() + worker.elsewhere_s


def _positions(part: Parcel, bound: Bound) -> Sequence[int]:
    """Return the positions that the batches of the first step are formed by: such that each item has its own."""
    block = bound[part.step][0].block if part.alone else None
    return range(0, block * len(part), block) if block else part.positions
