"""The report of a run: what became of every item, how fast, and which stage it waited for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from penstock._engine.statistics import PipelineStatistics, StepStatistics
from penstock._printable import printable
from penstock._telemetry.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did. `planned` = `done` + `failed` + `skipped`, checked against the ledger.

    `done` and `failed` count earlier runs of the same job too; `attempted`, `seconds` and `rate` (items/s) are of this
    run. `skipped`: not attempted. `ignored`: no images by suffix. `vanished`: done earlier, no longer in the source;
    `beyond_limit`: done earlier, not among the first `limit` items now.
    `failures`: the first 100, as records with id, stage, model, type, message, attempts; all are in failures.jsonl.
    `notes`: what was unusual but no failure, with its count. `stages`: the steps with their busy seconds. `verdict`:
    what held the run back, where it did anything.
    """

    out: str
    planned: int
    done: int
    failed: int
    skipped: int
    ignored: int = 0
    vanished: int = 0
    beyond_limit: int = 0
    attempted: int = 0
    seconds: float = 0.0
    stages: tuple[StepStatistics, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    failures: tuple[Mapping[str, Any], ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    verdict: Verdict | None = None

    @property
    def rate(self) -> float:
        """Items of this run per second, from its first item to its last commit."""
        return self.attempted / self.seconds if self.seconds > 0 else 0.0

    @property
    def slowest_stage(self) -> str:
        """The stage whose workers were busy longest, or an empty string."""
        return max(self.stages, key=lambda step: step.busy_s).name if self.stages else ""

    @property
    def exit_code(self) -> int:
        """0 when all items are done, 1 when some failed."""
        return 1 if self.failed else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values["stages"] = [asdict(step) for step in self.stages]
        values["verdict"] = None if self.verdict is None else self.verdict.to_dict()
        return {**values, "rate": self.rate, "slowest_stage": self.slowest_stage, "exit_code": self.exit_code}

    def __str__(self) -> str:
        """Return the line that is printed at the end, and more where the precision was lowered or batches refused."""
        parts = [f"{self.done:,} done", f"{self.failed:,} failed"]
        parts += [f"{n:,} {name}" for name, n in self._rare() if n]
        line = f"{self.planned:,} items: " + ", ".join(parts)
        if self.attempted:
            line += f"; {self.attempted:,} in {self.seconds:.1f} s = "
            line += f"{_rate(self.rate)}/s" if self.verdict is None else self.verdict.sentence
        if self.plan.get("precision", "f32") != "f32":
            line += f"\n{self.plan['precision']} against f32 {self.plan.get('agreement')}"
        if self.plan.get("memory_exceeded_bytes"):
            peak, over = self.plan["peak_memory_bytes"], self.plan["memory_exceeded_bytes"]
            line += f"\nmemory: {peak / 1e6:,.0f} MB at most, {over / 1e6:,.0f} MB more than planned (report.plan)"
        return "\n".join([line, *(self.plan[key] for key in ("why_batch", "why_not_padded") if key in self.plan)])

    def _rare(self) -> list[tuple[str, int]]:
        names = ("skipped", "ignored", "vanished", "beyond_limit")
        return [(name.replace("_", " the "), getattr(self, name)) for name in names] + [
            (printable(what), n) for what, n in sorted(self.notes.items())
        ]


def steps_of(statistics: PipelineStatistics) -> tuple[StepStatistics, ...]:
    """Return the steps of all stages in order."""
    return tuple(step for stage in statistics.stages for step in stage.steps)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
