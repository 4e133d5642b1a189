"""What is done about workers that are stuck: the item is given up and the thread with it, and another takes its place.

A thread cannot be killed. One that is stuck is left behind (it is a daemon), what it had is saved, and what it may
still bring one day is dropped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from penstock._engine.notes import Notes
from penstock._engine.patience import Silence, alarm_s, slow_s, slowest
from penstock._engine.rescue import Lost, Rescue, rescue
from penstock._engine.standstill import standstill, with_processes
from penstock._engine.watch import Held, Watch, death, line_of, stacks_of
from penstock.errors import AuditError, PenstockError, Stalled

if TYPE_CHECKING:
    from penstock._engine.pipeline import Pipeline
    from penstock._engine.work import Worker

LEAST_LIMIT = 4
"""So many threads may be stuck at a time even where fewer work: a stuck batch takes one, and its culprit another."""
_LOG = logging.getLogger("penstock")


class Relief:
    """Looks after the workers of one pipeline. Everything but `say` is called with its lock held.

    As many threads may be left behind at a time as there are workers, and LEAST_LIMIT at least. Each keeps its memory,
    and its processor if it spins; and where half of all threads are stuck, it is no longer an item that is to blame.
    """

    def __init__(self, pipeline: Pipeline, item_timeout_s: float | None) -> None:
        """Allow `item_timeout_s` for one item (one batch) in one step; None: for ever."""
        self.watch = Watch(item_timeout_s)
        self.notes = Notes()
        self._pipeline = pipeline
        self._left: list[Worker] = []
        self._lost: list[Lost] = []
        self._unsaid: list[str | Callable[[], str]] = []
        self._slow: dict[Worker, tuple[float, int]] = {}
        self._silence = Silence(lambda: self.watch.awake_s)

    def given_up(self) -> list[threading.Thread]:
        """Return the threads that were given up and are stuck still."""
        self._left = [worker for worker in self._left if worker.thread.is_alive()]
        return [worker.thread for worker in self._left]

    def look(self) -> PenstockError | None:
        """Look at all workers and replace those that are stuck. Returns why the pipeline cannot go on, or None."""
        workers = self._pipeline.workers
        held = self.watch.look(workers)
        problem = death(workers) or self._relieve(self.watch.stuck(held)) or missing(self._pipeline)
        if problem is None:
            self._note_slow(held)
            self._note_silence(held)
        return problem

    def say(self) -> None:
        """Log what was seen. Without the lock: whoever logs may write to a disk that hangs."""
        while self._unsaid:
            said = self._unsaid.pop(0)
            _LOG.warning("%s", said if isinstance(said, str) else said())

    # ---- stuck workers

    def _relieve(self, stuck: list[Held]) -> PenstockError | None:
        reasons = []
        for held in stuck:
            why = self._hopeless(held)
            saved = rescue(held, self._message(held), final=why is not None)
            if saved is not None:
                self._lost.extend(saved.lost)
                self._left.append(held.worker)
                report = self._report(held, saved)
                why = why or self._replace(held, saved)
                if why is None:
                    self._unsaid.append(report)
                else:
                    reasons.append(f"{why}\n{report}")
        if not reasons:
            return None
        error = Stalled("\n".join(reasons))
        error.lost = tuple(self._lost)
        return error

    def _hopeless(self, held: Held) -> str | None:
        """Return why no other worker can take the place of a stuck one, or None."""
        pipeline, left = self._pipeline, len(self.given_up())
        stage, limit = pipeline.posts[held.worker.stage].stage, max(LEAST_LIMIT, pipeline.worker_count)
        if stage.serial:
            return (
                f"Stage {stage.name!r} may be entered by one thread at a time, and that one is stuck. The items it is "
                "at are marked as failed: the same command goes on behind them. A model that bears several threads "
                'says so (concurrency = "concurrent", or threads=N).'
            )
        if left >= limit:
            return f"{left} threads are stuck already, and no more than {limit} may be: what is wrong is not one item."
        return None

    def _replace(self, held: Held, saved: Rescue) -> str | None:
        """Put another worker in the place of the stuck one. Returns why there is none, or None."""
        worker, n = held.worker, len(saved.lost)
        clock = worker.clocks[held.lease.place]
        clock.busy_s, clock.items, clock.failed = (
            clock.busy_s + held.waited_s,
            clock.items + held.done + n,
            clock.failed + n,
        )
        self._note(held, saved)
        try:
            self._pipeline.replace(worker, saved)
        except RuntimeError as error:
            return f"Another thread cannot be had in the place of {worker.thread.name}: {error}."
        return None

    def _note(self, held: Held, saved: Rescue) -> None:
        name = held.lease.step.name
        if saved.lost:
            self.notes.add(f"stuck in stage {name!r} and given up with the thread", len(saved.lost))
        if saved.alone:
            self.notes.add(f"asked again alone, as their batch was stuck in stage {name!r}", saved.alone)

    def _message(self, held: Held) -> str:
        return (
            f"{line_of(held)}, longer than the {self.watch.item_timeout_s:g} s allowed; it was given up. Raise "
            "Limits(item_timeout_s=) if this is right for such items."
        )

    def _report(self, held: Held, saved: Rescue) -> str:
        goes = "failed" if saved.lost else "to be asked again one by one" if saved.alone else "dropped"
        return (
            f"{line_of(held)} (limit {self.watch.item_timeout_s:g} s). It is {goes}, and its thread is given up. Raise "
            f"Limits(item_timeout_s=) if this is right for such items. Stack:\n{stacks_of([held.worker.thread])}"
        )

    # ---- what is strange, and no failure

    def _note_slow(self, held: list[Held]) -> None:
        """Report each item (batch) once that takes far longer than others did in the same step."""
        marks = {one.worker: (one.lease.begun, one.done) for one in held}
        self._slow = {worker: mark for worker, mark in self._slow.items() if marks.get(worker) == mark}
        for one in held:
            calls = self._pipeline.posts[one.worker.stage].calls[one.lease.place]
            limit_s = slow_s(calls)
            if one.waited_s > limit_s and one.worker not in self._slow:
                self._slow[one.worker] = marks[one.worker]
                self.notes.add(f"slow in stage {one.lease.step.name!r}")
                usual = (
                    f"99 % of {len(calls):,} calls took less than {calls.quantile(0.99):.3g} s. " if len(calls) else ""
                )
                stack = stacks_of([one.worker.thread])
                self._unsaid.append(f"{line_of(one)}, and goes on. {usual}Stack:\n{stack}")

    def _note_silence(self, held: list[Held]) -> None:
        """Say so where nothing at all has moved for long though there is work inside."""
        flows = self._pipeline.statistics().flows
        counts = tuple((flow.admitted, flow.delivered, flow.in_flight) for flow in flows)
        pulse = (counts, tuple((one.lease.begun, one.done) for one in held))
        calls = slowest([calls for post in self._pipeline.posts for calls in post.calls])
        silent_s = self._silence.look(pulse, alarm_s(calls))
        if silent_s is not None and any(flow.in_flight for flow in flows):
            report = standstill(self._pipeline, held, silent_s)
            tellers = [one.worker.elsewhere for one in held if one.worker.elsewhere is not None]
            self._unsaid.append(partial(with_processes, report, tellers))


def missing(pipeline: Pipeline) -> PenstockError | None:
    """Return what is wrong where items entered that are nowhere any more, or None. Lock held."""
    if any(worker.parcel is not None for worker in pipeline.workers) or any(post.queue for post in pipeline.posts):
        return None  # what is in a queue or in somebody's hands may be all there is
    n = sum(flow.missing() for flow in pipeline.flows)
    if not n:
        return None
    return AuditError(
        f"{n:,} items entered the pipeline and did not come out, though nothing is left inside: results were lost. "
        "What is committed is safe: run the same command again. If this repeats, it is a bug in penstock."
    )
