"""What was measured of a run, or of a part of one: what the verdict is worked out from, and what a climb goes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from penstock._engine.idle import Waits
from penstock._engine.statistics import StageStatistics, StepStatistics

SHORT_S, FEW = 0.5, 32
"""Of shorter runs, and of those of fewer items, nothing is claimed: the start and the end are most of them."""
COMPUTES, WAITS = 0.7, 0.4
"""A step computes where its threads have a CPU for this share of its time, or more; below the other it waits."""
HARDLY = 0.1
"""A step whose threads had a CPU for a smaller share of its time waits, whatever other programs did."""
FULL = 0.85
"""The share of the CPUs from which more threads would give nothing."""
MOST_DISTURBED = 10
"""Time that other programs had makes a rate no more than so many times what was seen."""


def others_s(delayed_s: float, used_s: float, whole_s: float) -> float:
    """Return the CPU seconds, of `whole_s` there were, that other programs had and threads of ours wanted.

    Ours were delayed for `delayed_s`, but also by each other: what the process used itself, nobody else had.
    """
    return min(delayed_s, max(0.0, whole_s - used_s))


def undisturbed_s(seconds: float, others_s: float, at_work: int) -> float:
    """Return `seconds` without those in which other programs had the CPUs that `at_work` threads wanted."""
    return max(seconds - others_s / max(1, at_work), seconds / MOST_DISTURBED)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of a run of `items` in `seconds`.

    cpus: the CPU budget. cpu_s: used by the whole process. delayed_s: in which its workers could have run, summed, and
    had no CPU. source_s: in the source. output_s: of the one thread that writes results. late_s: see
    `FlowStatistics`. waits: what idle workers of the first stage waited for. ceilings: items a second that steps could
    do alone on all CPUs, as far as they were measured. apart: steps on devices of their own. given: steps that
    call a function of the user's. window: items that may be in flight.
    """

    items: int
    seconds: float
    stages: tuple[StageStatistics, ...]
    cpus: int
    cpu_s: float
    delayed_s: float = 0.0
    source_s: float = 0.0
    output_s: float = 0.0
    late_s: float = 0.0
    waits: Waits = field(default_factory=Waits)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()
    window: int = 0

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds if self.seconds > 0 else 0.0

    @property
    def steps(self) -> tuple[StepStatistics, ...]:
        """The steps of all stages."""
        return tuple(step for stage in self.stages for step in stage.steps)

    @property
    def busy_s(self) -> float:
        """Seconds of all workers in their steps."""
        return sum(stage.busy_s for stage in self.stages)

    @property
    def others_s(self) -> float:
        """CPU seconds that its workers wanted and other programs had; processes that work for it count as others."""
        return others_s(self.delayed_s, self.cpu_s, self.cpus * self.seconds)

    @property
    def undisturbed_s(self) -> float:
        """The seconds without those in which other programs had the CPUs its workers wanted."""
        return undisturbed_s(self.seconds, self.others_s, min(self.cpus, sum(stage.workers for stage in self.stages)))

    @property
    def wanted(self) -> float:
        """How many CPUs the process, with those that work for it, would have used, had nobody else had them."""
        used_s = max(self.cpu_s, sum(step.cpu_s for step in self.steps))
        return (used_s + self.others_s) / self.seconds if self.seconds > 0 else 0.0

    @property
    def is_short(self) -> bool:
        """Whether nothing can be said of it."""
        return self.seconds < SHORT_S or self.items < FEW

    @property
    def is_full(self) -> bool:
        """Whether the CPUs had all they can do."""
        return self.wanted >= FULL * self.cpus

    def staffed_s(self, stage: StageStatistics) -> float:
        """Return for how long the workers of `stage` were there, summed."""
        return stage.staffed_s or stage.workers * self.seconds

    def busy(self, stage: StageStatistics) -> float:
        """Return the share of the time that the workers of `stage` were busy."""
        return stage.busy_s / self.staffed_s(stage) if self.seconds > 0 else 0.0

    def at_work(self, stage: StageStatistics) -> float:
        """Return how many workers of `stage` were busy, on average."""
        return stage.busy_s / self.seconds if self.seconds > 0 else 0.0

    def computing(self, step: StepStatistics) -> float:
        """Return the share of its time that a step's threads computed; time in which they had to wait for a CPU counts.

        Not for threads that hardly ever had one: a thread that waits is late each time it wakes up.
        """
        own = step.cpu_s / step.busy_s if step.busy_s else 1.0
        delayed = self.delayed_s / self.busy_s if self.busy_s and own >= HARDLY else 0.0
        return min(1.0, own + delayed)

    @property
    def elsewhere(self) -> float:
        """CPUs in use beyond the steps' own threads: a runtime with threads of its own."""
        return (self.cpu_s - sum(step.cpu_s for step in self.steps)) / self.seconds if self.seconds > 0 else 0.0

    def waiting(self, step: StepStatistics) -> bool:
        """Tell whether a step waits for something that is no CPU, as a disk, a network or another process.

        A model that is none of the user's does not: its runtime may compute in threads of its own.
        """
        if step.name.rpartition(": ")[2] == "model" and step.name not in self.given:
            return False
        return self.computing(step) < WAITS and not self.is_full and self.elsewhere * self.seconds < step.busy_s / 2

    def since(self, before: Seen) -> Seen:
        """Return what was measured since `before`, an earlier look at the same run; `late_s` is that of all of it."""
        waits = {
            field.name: getattr(self.waits, field.name) - getattr(before.waits, field.name) for field in fields(Waits)
        }
        return replace(
            self,
            items=self.items - before.items,
            seconds=self.seconds - before.seconds,
            stages=tuple(map(_stage_since, self.stages, before.stages)),
            cpu_s=self.cpu_s - before.cpu_s,
            delayed_s=max(0.0, self.delayed_s - before.delayed_s),
            source_s=self.source_s - before.source_s,
            output_s=self.output_s - before.output_s,
            waits=Waits(**waits),
        )


def _stage_since(now: StageStatistics, before: StageStatistics) -> StageStatistics:
    steps = tuple(map(_step_since, now.steps, before.steps))
    return replace(now, steps=steps, staffed_s=now.staffed_s - before.staffed_s)


def _step_since(now: StepStatistics, before: StepStatistics) -> StepStatistics:
    return StepStatistics(
        now.name,
        now.busy_s - before.busy_s,
        now.items - before.items,
        now.failed - before.failed,
        now.cpu_s - before.cpu_s,
    )
