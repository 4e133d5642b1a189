"""The run loop: what comes out of the pipeline goes to the sink and into the ledger, until all is done."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from penstock import _exceeding
from penstock._budget import Budget
from penstock._climbing import Climber, bounds_of
from penstock._contracts import Failure, Item, Partial
from penstock._dealing import dealt
from penstock._devices import cpu_budget, memory_budget
from penstock._engine.flow import Flow, Take
from penstock._engine.latency import latencies
from penstock._engine.parcel import Parcel
from penstock._engine.patience import ALARM_S, Silence
from penstock._engine.pipeline import Pipeline
from penstock._engine.statistics import PipelineStatistics
from penstock._interrupt import Interrupts
from penstock._job import Job
from penstock._observer import Observer, Tally
from penstock._options import Auto, Limits
from penstock._plan import Part, crews_of, stages_of, window_of
from penstock._printable import printable
from penstock._ready import Ready
from penstock._sinks.ledger import Counts
from penstock._stopping import Grace
from penstock._telemetry import lifesign
from penstock._telemetry.progress import Mode, Progress
from penstock._telemetry.record import Record
from penstock._telemetry.report import Report, steps_of
from penstock._telemetry.running import visible
from penstock._telemetry.verdict import verdict
from penstock.errors import PenstockError, SinkError, StageError, Stalled

COMMIT_S = 0.5
"""Longest time a finished item waits to be committed."""
LOOK_S = 0.1
"""From one look at the pipeline, for what is shown and recorded, to the next: commits may come much faster."""
MOST_UNCOMMITTED = 16_384
"""Items in flight at most: each waits for its commit, with all that the ledger and the output will have of it."""
SHOWN_FAILURES = 100
_LOG = logging.getLogger("penstock")


@dataclass(frozen=True, slots=True)
class Orders:
    """How a run is to be driven. `planned` is None for an iterable without a length; `todo`: items of this run."""

    limits: Limits
    budget: Budget
    order: bool
    retry: bool
    progress: Mode
    planned: int | None
    todo: int | None
    limit: int | None = None
    """How many items the user wants at most."""
    threads: Auto | int = "auto"
    """As the user has said."""


class Drive:
    """The one writer of a job: absorbs finished parcels, commits, watches budget and signals, shows progress."""

    def __init__(self, job: Job, orders: Orders, interrupts: Interrupts) -> None:
        """Prepare to write into `job`."""
        self._job = job
        self._orders = orders
        self.interrupts = interrupts
        self.tally = Tally(job.ledger.counts(orders.planned))
        self._attempts = job.ledger.attempts() if orders.retry else {}
        self._record = Record(job.folder)
        self._grace = Grace(time.monotonic)
        self._source = Silence(time.monotonic)
        self._stopping = False
        self._stuck: set[int] = set()
        """Positions that came out as stuck."""

    def run(self, parts: Sequence[Part], take: Take, ready: Ready, threads: int) -> None:
        """Run what `take` gives through `parts`, into the job."""
        _exceeding.warn(parts, threads)
        try:
            with dealt(parts, threads) as (told, inside):
                self.tally.plan = _plan(ready, threads) | {"threads_inside": inside}
                self._run(told, take, ready, threads)
        except Stalled as error:
            self._keep_lost(error)
            raise

    def _run(self, parts: Sequence[Part], take: Take, ready: Ready, threads: int) -> None:
        stages, limits, orders = stages_of(parts, threads), self._orders.limits, self._orders
        window = window_of(stages, self._max_bytes(), MOST_UNCOMMITTED)
        bounds = bounds_of(crews_of(parts), threads=orders.threads == "auto", window=limits.max_bytes == "auto")
        self._record.begin()
        lifesign.beat()
        with self.interrupts.deferred(), Pipeline(stages, item_timeout_s=limits.item_timeout_s) as pipeline:
            observer = Observer(pipeline, self.tally, ready, frozenset(part.step.name for part in parts if part.own))
            climber = Climber(pipeline, crews_of(parts), bounds, observer, orders.todo)
            with (
                visible(partial(observer.shown, str(self._job.out), orders.todo)),
                pipeline.flow(take, window, ordered=orders.order) as flow,
                Progress(orders.todo, orders.progress) as progress,
            ):
                for plan in ready.memory:
                    progress.say(str(plan))
                try:
                    self._loop(pipeline, flow, progress, climber)
                except SinkError:
                    self._job.drop()  # a second try would fail as well, and hide why the first one did
                    raise
                finally:
                    self._commit(flow)
                    lifesign.rest()
                    progress.update(self.tally.done, self.tally.failed, 0, pipeline.statistics())
                    observer.close(climber.close())
                    self._record.close(pipeline.statistics(), (self.tally.done, self.tally.failed), latencies(pipeline))

    def _loop(self, pipeline: Pipeline, flow: Flow, progress: Progress, climber: Climber) -> None:
        committed, window, look_at = time.monotonic(), 1, 0.0
        while (parcels := flow.collect(COMMIT_S, max(1, window // 4))) is not None:
            lifesign.beat()
            begun = time.perf_counter()
            for parcel in parcels:
                self._absorb(parcel)
            now = time.monotonic()
            if not parcels or self._job.uncommitted * 2 >= window or now - committed >= COMMIT_S:
                self._commit(flow)
                committed, window = now, flow.statistics().window
                self.tally.window = max(self.tally.window, window)
                if now >= look_at:
                    look_at = now + LOOK_S
                    statistics = pipeline.statistics()
                    progress.update(self.tally.done, self.tally.failed, 0, statistics)
                    self._note_state(statistics)
            self.tally.output_s += time.perf_counter() - begun
            if self._is_to_stop(flow, progress):
                if self._grace.over(came=bool(parcels), usual_s=pipeline.usual_s()):
                    self._leave(pipeline, flow)
                    return
                continue
            for line in climber.look(self.tally.done + self.tally.failed):
                progress.say(line)
            self._note_source(flow)

    def _note_state(self, statistics: PipelineStatistics) -> None:
        """Put into the job's record what the run is like now."""
        self._record.look(statistics, (self.tally.done, self.tally.failed))
        if self._record.is_due:
            self.tally.steps, self.tally.seconds = steps_of(statistics), self._record.elapsed_s
            self._record.write(self._report(self._counts_now(), 0, self.tally.seconds).to_dict(), None)

    def _absorb(self, parcel: Parcel) -> None:
        done, failed = self._job.absorb(parcel.positions, parcel.items, parcel.values)
        self.tally.done += done
        self.tally.failed += failed
        self._note(parcel.items)
        if failed:
            pairs = zip(parcel.positions, parcel.values, strict=True)
            self._stuck.update(position for position, value in pairs if _was_stuck(value))

    def _keep_lost(self, error: Stalled) -> None:
        """Keep as failed what was stuck when the run could not go on: the next one goes on behind it."""
        lost = sorted((one for one in error.lost if one[0] not in self._stuck), key=lambda one: one[0])
        if lost:
            positions, items, failures = map(list, zip(*lost, strict=True))
            self._job.absorb(positions, items, failures)
            self._job.commit(self._attempts)
        self._job.report_failures()

    def _commit(self, flow: Flow) -> None:
        flow.release(self._job.commit(self._attempts))

    def _note(self, items: Sequence[Any]) -> None:
        if isinstance(items, range):
            return
        for item in items:
            if isinstance(item, Item) and item.note:
                self.tally.notes[item.note] = self.tally.notes.get(item.note, 0) + 1

    def _is_to_stop(self, flow: Flow, progress: Progress) -> bool:
        """Admit nothing more, and let what is in flight come out, if a signal came or the failure budget is spent."""
        tally = self.tally
        if tally.stopped is None:
            earlier = Counts(0, 0, 0, 0) if self._orders.retry else tally.before
            failed, done = tally.failed + earlier.failed, tally.done + earlier.done
            tally.stopped = self._orders.budget.spent(failed, done, self._orders.planned)
        if tally.stopped is None and self.interrupts.signal is None:
            return False
        if not self._stopping:
            self._stopping = True
            left = f"{flow.statistics().in_flight:,}"
            progress.say(f"Stopping: the {left} items in flight are finished first. Once more (Ctrl-C) stops at once.")
        flow.drain()
        return True

    def _leave(self, pipeline: Pipeline, flow: Flow) -> None:
        """Say what is still in flight in a run that is to stop: it is left for the next one."""
        self._commit(flow)
        left, at = flow.statistics().in_flight, "\n".join(f"  {line}" for line in pipeline.at_work())
        _LOG.warning(
            "Stopped without the %s items in flight, as nothing came out any more. They are left for the next run.\n%s",
            f"{left:,}",
            at,
        )

    def _note_source(self, flow: Flow) -> None:
        """Say so where the source has given nothing for long, and nothing is left to do."""
        seen = flow.statistics()
        silent_s = self._source.look((seen.admitted, seen.in_flight), ALARM_S)
        if silent_s is not None and not seen.in_flight:
            _LOG.warning(
                "The source has given nothing for %.0f s; %s items are done. Waiting for it.",
                silent_s,
                f"{self.tally.done:,}",
            )

    def _max_bytes(self) -> int:
        given = self._orders.limits.max_bytes
        return memory_budget() // 4 if given == "auto" else given

    # ---- the end

    def finish(self, ignored: int) -> Report:
        """Complete the output, audit it, and return the report. Raises StageError where the budget was spent."""
        complete = self.interrupts.signal is None and self.tally.stopped is None
        begun = time.perf_counter()
        if complete:
            self._job.finish(by_input=self._orders.order)
        else:
            self._job.report_failures()
        counts = self._audited(complete=complete)
        if complete or self.tally.stopped is not None:  # with all that came out since, and what failed on earlier runs
            spent = self._orders.budget.spent(counts.failed, counts.done, counts.planned)
            self.tally.stopped = spent or self.tally.stopped
        report = self._report(counts, ignored, self.tally.seconds + time.perf_counter() - begun)
        if self.tally.stopped is not None:
            raise StageError(self._stopped_message(report))
        self._record.write(report.to_dict(), "complete" if complete else "interrupted")
        return report

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write what is known into the job's record where the run ends with an error inside."""
        try:
            yield
        except BaseException as error:
            self._record_end(error)
            raise

    def _record_end(self, error: BaseException) -> None:
        try:
            report = self._report(self._counts_now(), 0, self.tally.seconds)
        except (sqlite3.Error, UnicodeError, PenstockError) as problem:  # a broken ledger is often why the run ended
            _LOG.warning("What this run did cannot be recorded: %s", problem)
            return
        signalled = isinstance(error, (KeyboardInterrupt, SystemExit))
        self._record.write(report.to_dict(), "interrupted" if signalled else "stopped", error)

    def _counts_now(self) -> Counts:
        """Return the counts without asking the ledger, which would have to look at every item."""
        tally, before = self.tally, self.tally.before
        failed = before.failed + (-tally.done if self._orders.retry else tally.failed)
        done, failed = before.done + tally.done, max(failed, tally.failed)
        planned = self._orders.planned
        return Counts(done + failed if planned is None else planned, done, failed, before.vanished)

    def _audited(self, *, complete: bool) -> Counts:
        planned = self._orders.planned
        if planned is None:  # an iterable without a length has as many items as came out of it
            planned = self.tally.before.done + self.tally.before.failed + self.tally.done + self.tally.failed
        return self._job.audit(planned=planned, complete=complete and not self._orders.retry)

    def _report(self, counts: Counts, ignored: int, seconds: float) -> Report:
        tally, limited = self.tally, self._orders.limit is not None and self._orders.limit == self._orders.planned
        return Report(
            out=str(self._job.out),
            planned=counts.planned,
            done=counts.done,
            failed=counts.failed,
            skipped=counts.planned - counts.done - counts.failed,
            ignored=ignored,
            vanished=0 if limited else counts.vanished,
            beyond_limit=counts.vanished if limited else 0,
            attempted=tally.done + tally.failed,
            seconds=seconds,
            stages=tally.steps,
            plan=tally.plan,
            failures=tuple(self._job.ledger.failures(SHOWN_FAILURES)),
            notes=self._notes(),
            verdict=None if tally.seen is None else verdict(replace(tally.seen, seconds=seconds)),
        )

    def _notes(self) -> dict[str, int]:
        nulls = int(getattr(self._job.sink, "nulls", 0))
        return {**self.tally.notes, "NaN or infinite values written as null": nulls} if nulls else self.tally.notes

    def _stopped_message(self, report: Report) -> str:
        shown = (f"{f['id']}: {f['stage']}: {f['type']}: {f['message']}" for f in report.failures[:3])
        first = "\n".join(f"  {printable(line)}" for line in shown)
        return f"{self.tally.stopped}\n{report}\nFirst failures:\n{first}\nAll: {self._job.folder / 'failures.jsonl'}"


def _was_stuck(value: Any) -> bool:
    failures = (value,) if type(value) is Failure else value.failures if type(value) is Partial else ()
    return any(failure.type == Stalled.__name__ for failure in failures)


def _plan(ready: Ready, threads: int) -> dict[str, Any]:
    return {
        **ready.choices,
        "threads": threads,
        "cpu_budget": cpu_budget().why,
        "measurements": list(ready.measurements),
        "agreement": ready.agreement,
        "ceilings": {name: round(rate, 1) for name, rate in ready.ceilings.items()},
        "memory": [plan.to_dict() for plan in ready.memory],
    }
