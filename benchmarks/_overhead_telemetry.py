"""What telemetry costs an item: the run loop over trivial stages as it is, and with all that only telemetry needs out.

Everything happens in one process, variant after variant in an order drawn anew for each round; a result is the
difference of two runs of the same round. The job is one without files, whose noise would be larger than what is looked
for.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

from _measure import Round, table
from _rivals_overhead import BATCH, THREADS, negated, plus_one

from penstock import _drive
from penstock._budget import Budget
from penstock._climbing import Climber
from penstock._engine import work
from penstock._engine.chunks import positional
from penstock._engine.flow import Flow
from penstock._engine.histogram import Histogram
from penstock._engine.lateness import Lateness
from penstock._engine.pipeline import Pipeline
from penstock._engine.post import Post
from penstock._engine.statistics import PipelineStatistics
from penstock._engine.step import Step
from penstock._interrupt import Interrupts
from penstock._job import Job
from penstock._observer import Observer
from penstock._options import Limits
from penstock._plan import Part
from penstock._ready import Ready
from penstock._sinks.ledger import Counts
from penstock._telemetry.progress import Progress
from penstock._telemetry.record import Record

ON, OFF = "as it is", "without telemetry"
GOAL_NS = 20.0
Taken = list[tuple[Any, str, Any]]
"""What is put in the place of what: (owner, name, another)."""


def nothing(*_: Any) -> None:
    """Do nothing."""


@contextmanager
def nobody(*_: Any) -> Iterator[None]:
    """Show nothing to anybody."""
    yield


PARTS: Mapping[str, Taken] = {
    "what idle workers wait for": [(Flow, "account", nothing)],
    "CPU time of steps": [(work, "_cpu_s", lambda *_: 0.0)],
    "latency histograms": [(Histogram, "add", nothing)],
    "lateness of the writing thread": [(Lateness, name, nothing) for name in ("begin", "tell", "woken", "end")],
    "clocks summed by step": [(Post, "count", nothing)],
    "progress, readings, record": [
        (Pipeline, "statistics", lambda _: PipelineStatistics()),
        (_drive, "visible", nobody),
        (_drive.Drive, "_note_state", nothing),
        *((Climber, name, lambda *_: []) for name in ("look", "close")),
        (Observer, "close", nothing),
        *((Record, name, nothing) for name in ("begin", "close")),
        *((Progress, name, nothing) for name in ("update", "say", "__exit__")),
    ],
}
"""What telemetry consists of: nothing of it is needed to size parcels, to keep order, or to notice what is stuck.

The climb goes by it, and is taken out with it.
"""
VARIANTS: dict[str, Taken] = {
    ON: [],
    OFF: [change for part in PARTS.values() for change in part],
    **{f"without {name}": part for name, part in PARTS.items()},
}


class Counting:
    """A job that writes nothing: it counts what it is given. It is its own ledger."""

    sink = None

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out.jsonl"
        self.ledger = self
        self.done = self.uncommitted = 0

    def counts(self, planned: int | None = None) -> Counts:
        """Return that nothing was done before."""
        return Counts(planned or 0, 0, 0, 0)

    def failures(self, _: int) -> list[Any]:
        """Return that nothing has failed."""
        return []

    def absorb(self, _: Sequence[int], __: Sequence[Any], values: Sequence[Any]) -> tuple[int, int]:
        """Take results."""
        self.uncommitted += len(values)
        return len(values), 0

    def commit(self, _: Mapping[Any, int]) -> int:
        """Return how many were taken since the last time."""
        n, self.uncommitted = self.uncommitted, 0
        self.done += n
        return n


def run(n: int, folder: Path) -> dict[str, float]:
    """Run `n` items through the run loop; return ns an item, by the clock and of CPU time."""
    job = Counting(folder)
    orders = _drive.Orders(
        Limits(), Budget.parse(None), order=True, retry=False, progress="json", planned=n, todo=n, limit=None
    )
    parts = [
        Part(Step.of("plus_one", plus_one), THREADS),
        Part(Step.of("negated", negated, block=BATCH), 1),
    ]
    ready = Ready(lambda _: parts, {}, [], None, [], dict, lambda: None)
    drive = _drive.Drive(cast("Job", job), orders, Interrupts())
    begun, cpu = time.perf_counter(), time.process_time()
    drive.run(parts, positional(range(n), ()), ready, THREADS)
    ended, cpu_ended = time.perf_counter(), time.process_time()
    if job.done != n:
        raise SystemExit(f"{job.done:,} of {n:,} items came out.")
    return {"ns": (ended - begun) / n * 1e9, "cpu_ns": (cpu_ended - cpu) / n * 1e9}


def play(n: int, rounds: int, seed: int = 0) -> Round:
    """Return the runs of every variant, round by round."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))
        for number in range(-1, rounds):  # the first one warms
            for name in random.Random(seed * 1000 + number).sample(list(VARIANTS), len(VARIANTS)):
                with changed(VARIANTS[name]):
                    got = run(n, folder)
                if number >= 0:
                    taken[name].append(got)
    return taken


@contextmanager
def changed(changes: Taken) -> Iterator[None]:
    """Have other things in the place of some meanwhile."""
    with ExitStack() as stack:
        for owner, name, another in changes:
            stack.enter_context(mock.patch.object(owner, name, another))
        yield


def difference(over: Sequence[float], under: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return (median, low, high) of the differences round by round, with a 95 % percentile bootstrap interval."""
    pairs = [a - b for a, b in zip(over, under, strict=True)]
    rng = random.Random(seed)
    medians = sorted(statistics.median(rng.choices(pairs, k=len(pairs))) for _ in range(4000))
    return statistics.median(pairs), medians[100], medians[3899]


def costs_table(taken: Round) -> str:
    """Return what all of it costs, and each part, which is the difference that taking it out alone makes."""
    rows = []
    for name in VARIANTS:
        if name != ON:
            by_clock, by_cpu = (_difference(taken, name, key) for key in ("ns", "cpu_ns"))
            what = "all of it" if name == OFF else name.removeprefix("without ")
            rows.append({"telemetry": what, "ns an item (95 %)": by_clock, "CPU ns an item (95 %)": by_cpu})
    return table(rows)


def _difference(taken: Round, name: str, key: str) -> str:
    figures = difference([r[key] for r in taken[ON]], [r[key] for r in taken[name]])
    return f"{figures[0]:.1f} ({figures[1]:.1f} to {figures[2]:.1f})"


def verdict(taken: Round, n: int) -> str:
    """Return what the issue asks."""
    on, off = ([r["ns"] for r in taken[name]] for name in (ON, OFF))
    figures = difference(on, off)
    kept = "reached" if figures[2] <= GOAL_NS else "MISSED" if figures[1] > GOAL_NS else "UNDECIDED"
    return (
        f"{len(on)} pairs of {n:,} items in one process: {statistics.median(off):.0f} ns an item without, "
        f"{statistics.median(on):.0f} with; paired difference {figures[0]:.1f} ns ({figures[1]:.1f} to "
        f"{figures[2]:.1f}); goal {GOAL_NS:.0f} ns {kept}."
    )
