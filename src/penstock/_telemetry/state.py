"""How far a run is and what its steps are at, as every display shows it, and the words for it (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock._engine.statistics import PipelineStatistics
from penstock._printable import printable
from penstock._telemetry.report import steps_of
from penstock._telemetry.timeline import Reading, sample


@dataclass(frozen=True, slots=True)
class StepState:
    """What one step is at.

    `busy`: the share of the time for which its `workers` were busy lately; `cost_s`: seconds an item takes, on average
    over the run; both None before an item came out of it. `queued`: items that wait before its stage; None where it is
    not the first step of one.
    """

    name: str
    workers: int
    busy: float | None
    queued: int | None
    cost_s: float | None


@dataclass(frozen=True, slots=True)
class State:
    """What a run is at: counts of items, items per second, seconds left (None: not known yet), its steps and memory.

    `elapsed_s`: since the first item began. `slowest`: the step whose workers were busy longest. `in_flight`: items
    between source and sink, at most `window`. `rss_bytes`: memory of this process; `device_bytes`: allocated, by
    device. `ended`: it is the last word, in which the rate and the shares are those of the whole run.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    total: int | None = None
    rate_per_s: float | None = None
    eta_s: float | None = None
    elapsed_s: float = 0.0
    slowest: str = ""
    steps: tuple[StepState, ...] = ()
    in_flight: int = 0
    window: int = 0
    rss_bytes: int = 0
    device_bytes: Mapping[str, int] = field(default_factory=dict)
    ended: bool = False

    @property
    def finished(self) -> int:
        """Items that nothing is left to do for."""
        return self.done + self.failed + self.skipped

    @property
    def remaining(self) -> int | None:
        """Items that are still to come; None where nobody knows how many there are."""
        return None if self.total is None else self.total - self.finished


def step_states(statistics: PipelineStatistics, before: Reading, now: Reading) -> tuple[StepState, ...]:
    """Return what the steps are at `now`, busy as they were since `before`; steps of one name are taken together."""
    seen = sample(before, now)
    items: Counter[str] = Counter()
    for step in steps_of(statistics):
        items[step.name] += step.items
    stages_behind: dict[str, set[str]] = {}
    for stage in statistics.stages:
        stages_behind.setdefault(stage.steps[0].name, set()).add(stage.name)
    return tuple(
        StepState(
            name,
            now.workers[name],
            min(1.0, seen["busy"][name]) if n else None,  # what is handed over at once may be the work of longer
            sum(seen["queued"][stage] for stage in stages_behind[name]) if name in stages_behind else None,
            now.busy_s[name] / n if n else None,
        )
        for name, n in items.items()
    )


def duration(seconds: float) -> str:
    """Return `0:35`, `1:02:03` or `2 d 03:04:05`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def rate(per_s: float) -> str:
    """Return `1,234/s`, `7.3/s` or `0.04/s`: never more digits than are known."""
    digits = 0 if per_s >= 10 else 1 if per_s >= 1 else 2
    return f"{per_s:,.{digits}f}/s"


def cost(seconds: float) -> str:
    """Return what an item takes, with two or three digits: `3.1 µs`, `12 ms`, `4.5 s`."""
    unit, scale = ("s", 1.0) if seconds >= 0.95 else ("ms", 1e3) if seconds >= 0.95e-3 else ("µs", 1e6)
    number = seconds * scale
    return f"{number:,.1f} {unit}" if number < 9.95 else f"{number:,.0f} {unit}"


def size(n_bytes: int) -> str:
    """Return `812 MB` or `1.2 GB`."""
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes < 999.5e6 else f"{n_bytes / 1e9:,.1f} GB"


def time_of(state: State) -> str:
    """Return how long it took, how long it will take, or, where nobody knows that, for how long it has run."""
    if state.ended:
        return f"in {duration(state.elapsed_s)}"
    if state.eta_s is not None and state.remaining:
        return f"{duration(state.eta_s)} left"
    return f"for {duration(state.elapsed_s)}"


def count_of(state: State) -> str:
    """Return the items that are done, of how many: `50/1,000`, or `50`."""
    return f"{state.done:,}" + ("" if state.total is None else f"/{state.total:,}")


def numbers(state: State) -> list[str]:
    """Return the parts of a line, the most important first."""
    parts = [count_of(state)]
    parts += [] if state.rate_per_s is None else [rate(state.rate_per_s)]
    parts += [time_of(state)] if state.ended or (state.eta_s is not None and state.remaining) else []
    parts += [f"{state.failed:,} failed"]
    parts += [f"{state.skipped:,} skipped"] if state.skipped else []
    parts += [f"slowest: {printable(state.slowest)}"] if state.slowest else []
    return parts
