"""What the engine tells about itself: frozen snapshots that telemetry reads; the engine never calls out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock._engine.idle import Waits


@dataclass(frozen=True, slots=True)
class StepStatistics:
    """One step: `busy_s` seconds spent in it by all workers, items that entered, items that failed in it.

    `cpu_s`: for how long of that its threads had a CPU; what processes do counts as all of it.
    """

    name: str
    busy_s: float
    items: int
    failed: int
    cpu_s: float = 0.0

    @property
    def cost_s(self) -> float:
        """Seconds an item took in this step, on average."""
        return self.busy_s / self.items if self.items else 0.0


@dataclass(frozen=True, slots=True)
class StageStatistics:
    """One stage: its steps, its workers, items waiting before it, and the items each worker did.

    `staffed_s`: for how long its workers were there, summed; 0.0 where their number never changed.
    """

    name: str
    workers: int
    queued: int
    worker_items: tuple[int, ...]
    steps: tuple[StepStatistics, ...]
    staffed_s: float = 0.0

    @property
    def busy_s(self) -> float:
        """Seconds all workers of the stage spent in its steps."""
        return sum(step.busy_s for step in self.steps)


@dataclass(frozen=True, slots=True)
class FlowStatistics:
    """One flow: items admitted, delivered, in flight (now, at most); the window in force; bytes an item holds.

    `source_s`: seconds in the source. `waits`: what idle workers waited for. `late_s`: how long the consumer takes, on
    average, to get the interpreter once enough has come out.
    """

    admitted: int
    delivered: int
    in_flight: int
    most_in_flight: int
    window: int
    item_nbytes: int
    source_s: float
    waits: Waits = field(default_factory=Waits)
    late_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PipelineStatistics:
    """A whole pipeline at one instant."""

    stages: tuple[StageStatistics, ...] = ()
    flows: tuple[FlowStatistics, ...] = field(default=())
    running: bool = True
    notes: Mapping[str, int] = field(default_factory=dict)
    """What was unusual and no failure, with how many items it happened to."""
