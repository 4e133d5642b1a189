"""What a run looked like while it went on: readings of its counters, thinned, and the samples they give (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from penstock._engine.statistics import PipelineStatistics

PERIOD_S = 0.5
"""Between two readings at first; about twice that whenever there are too many."""
MOST_READINGS = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of a run at one moment, `t_s` after it began. All but those of the queues only grow.

    `queued`: items that wait, by stage. `busy_s`: seconds that all workers spent, by step; `workers`: how many they
    are. `rss_bytes`: memory of this process. `device_bytes`: memory allocated, by device.
    """

    t_s: float
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    window: int = 0
    queued: Mapping[str, int] = field(default_factory=dict)
    busy_s: Mapping[str, float] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)
    rss_bytes: int = 0
    device_bytes: Mapping[str, int] = field(default_factory=dict)


def reading_of(t_s: float, statistics: PipelineStatistics, counts: tuple[int, int]) -> Reading:
    """Return the reading of a pipeline's `statistics` and of (done, failed); memory is not the pipeline's to know."""
    busy_s: dict[str, float] = {}
    workers: dict[str, int] = {}
    queued: dict[str, int] = {}
    for stage in statistics.stages:
        queued[stage.name] = queued.get(stage.name, 0) + stage.queued
        for step in stage.steps:
            busy_s[step.name] = busy_s.get(step.name, 0.0) + step.busy_s
            workers[step.name] = workers.get(step.name, 0) + stage.workers
    in_flight = sum(flow.in_flight for flow in statistics.flows)
    window = sum(flow.window for flow in statistics.flows)
    return Reading(t_s, *counts, in_flight, window, queued, busy_s, workers)


@dataclass(slots=True)
class Timeline:
    """The readings of a run of any length: never more than MOST_READINGS, about equally far apart."""

    period_s: float = PERIOD_S
    readings: list[Reading] = field(default_factory=list)

    def is_due(self, t_s: float) -> bool:
        """Tell whether another reading is wanted at `t_s`."""
        return not self.readings or t_s - self.readings[-1].t_s >= self.period_s

    def add(self, reading: Reading) -> None:
        """Keep a reading. Where there are too many, every other one is dropped, and fewer are wanted from then on."""
        self.readings.append(reading)
        if len(self.readings) > MOST_READINGS:
            del self.readings[1:-1:2]
            self.period_s = (reading.t_s - self.readings[0].t_s) / (len(self.readings) - 1)

    def close(self, reading: Reading) -> None:
        """Keep the last reading of a run, in the place of one that is hardly older."""
        if len(self.readings) > 1 and reading.t_s - self.readings[-1].t_s < self.period_s / 2:
            self.readings.pop()
        self.add(reading)


def add_recent(readings: list[Reading], reading: Reading, window_s: float) -> None:
    """Add a reading and forget old ones: the first is then the newest that is `window_s` older, if there is one."""
    readings.append(reading)
    while len(readings) > 2 and reading.t_s - readings[1].t_s >= window_s:
        del readings[0]
    if len(readings) > MOST_READINGS:
        del readings[1:-1:2]


def samples(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return a sample (JSON values) for each reading but the first, with what happened since the one before."""
    return [sample(before, now) for before, now in pairwise(readings)]


def sample(before: Reading, now: Reading) -> dict[str, Any]:
    """Return what was so at `now`, and what happened since `before`: items/s, and the share of time workers were busy.

    A worker reports what it did when it hands over a parcel, so that a share may be above 1 for one sample.
    """
    seconds = max(now.t_s - before.t_s, 1e-9)
    finished = now.done + now.failed - before.done - before.failed
    busy = {
        name: round((now.busy_s[name] - before.busy_s.get(name, 0.0)) / (seconds * max(1, now.workers[name])), 3)
        for name in now.busy_s
    }
    return {
        "t_s": round(now.t_s, 3),
        "done": now.done,
        "failed": now.failed,
        "rate": round(finished / seconds, 3),
        "in_flight": now.in_flight,
        "window": now.window,
        "queued": dict(now.queued),
        "busy": busy,
        "rss_bytes": now.rss_bytes,
        "device_bytes": dict(now.device_bytes),
    }
