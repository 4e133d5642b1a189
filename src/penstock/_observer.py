"""A run as it is seen from outside, while it goes on and at its end: by verdict, climb, record and collectors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from penstock._devices import cpu_budget, forget_memory_peak, memory_use
from penstock._engine.pipeline import Pipeline
from penstock._engine.statistics import PipelineStatistics, StepStatistics
from penstock._models.footprint import exceeded
from penstock._ready import Ready
from penstock._sinks.ledger import Counts
from penstock._telemetry.report import steps_of
from penstock._telemetry.running import RunSeen
from penstock._telemetry.seen import Seen


@dataclass(slots=True)
class Tally:
    """What this run has done so far, and why it must stop, if it must."""

    before: Counts
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    """From the first item to the last commit."""
    window: int = 0
    stopped: str | None = None
    notes: dict[str, int] = field(default_factory=dict)
    steps: tuple[StepStatistics, ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    output_s: float = 0.0
    """Of the writing thread, in the sink and in the ledger."""
    seen: Seen | None = None


class Observer:
    """Looks at a pipeline and at the tally of its run; `given`: the steps that call a function of the user's."""

    def __init__(self, pipeline: Pipeline, tally: Tally, ready: Ready, given: frozenset[str]) -> None:
        """Begin now: seconds are counted from here."""
        forget_memory_peak()
        self._pipeline, self._tally, self._ready, self._given = pipeline, tally, ready, given
        self._begun, self._cpu_s = time.perf_counter(), time.process_time()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.perf_counter() - self._begun

    def shown(self, out: str, todo: int | None) -> RunSeen:
        """Return what collectors of metrics see of a run into `out` with `todo` items."""
        return RunSeen(out, todo, self._tally.done, self._tally.failed, self._pipeline.statistics())

    def seen(self) -> Seen:
        """Return what a verdict is worked out from, on the run so far."""
        statistics, tally = self._pipeline.statistics(), self._tally
        flow = statistics.flows[0]
        return Seen(
            items=tally.done + tally.failed,
            seconds=self.elapsed_s,
            stages=statistics.stages,
            cpus=cpu_budget().threads,
            cpu_s=time.process_time() - self._cpu_s,
            delayed_s=self._pipeline.delayed_s(),
            source_s=flow.source_s,
            output_s=tally.output_s,
            late_s=flow.late_s,
            waits=flow.waits,
            ceilings=self._ready.ceilings,
            apart=frozenset() if all(plan.device == "cpu" for plan in self._ready.memory) else frozenset({"model"}),
            given=self._given,
            window=flow.window,
        )

    def close(self, climbed: list[dict[str, Any]]) -> None:
        """Take stock at the end of the run; `climbed`: the steps of its climb."""
        statistics, tally = self._pipeline.statistics(), self._tally
        tally.seconds, tally.seen = self.elapsed_s, self.seen()
        tally.steps = steps_of(statistics)
        tally.notes.update(statistics.notes)
        tally.plan |= {**self._found(statistics), "climb": climbed, **self._ready.noted()}

    def _found(self, statistics: PipelineStatistics) -> dict[str, Any]:
        peak = memory_use(0).peak
        in_flight = sum(flow.item_nbytes * flow.most_in_flight for flow in statistics.flows)
        return {
            "stages": {stage.name: stage.workers for stage in statistics.stages},
            "window": max([self._tally.window, *(flow.most_in_flight for flow in statistics.flows)]),
            "peak_memory_bytes": peak,
            "memory_exceeded_bytes": exceeded(self._ready.memory, peak, in_flight),
        }
