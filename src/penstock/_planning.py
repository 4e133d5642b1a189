"""`penstock plan`: measure on real items what a run would do, choose its numbers, and keep them for it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from penstock._branches import encoding
from penstock._ceilings import ITEMS, Trial, ceilings, limit_of, trials
from penstock._contracts import Failure, Partial, Sink, Source
from penstock._devices import cpu_budget, delayed_s, memory_budget
from penstock._engine.chunks import listed, positional
from penstock._engine.flow import Flow, Take
from penstock._engine.pipeline import Pipeline
from penstock._engine.step import Stage, Step
from penstock._interrupt import checkpoint
from penstock._plan import Part, stages_of, window_of
from penstock._ready import Ready
from penstock._recipes import AnyRecipe, recipe_of
from penstock._request import Request
from penstock._several import Several
from penstock._sinks.opening import open_sink
from penstock._sources.opening import open_source
from penstock._task import PROBES
from penstock._telemetry.plan import Plan
from penstock.errors import UsageError

CEILINGS_S = 1.6
"""Time for what the steps do alone."""
WARM_S, RUN_S = 0.5, 2.0
"""Of a short run, before its rate counts and while it does."""


def plan(source: Any, request: Request, limit: int | None = None) -> Plan:
    """Return what a run of `request` over `source` would do, measured anew on its first items.

    Nothing of it is written but the choices, for the next run. Raises what `penstock.run` raises before any work.
    """
    begun = time.perf_counter()
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit!r}: give a number of items >= 1, or leave it out.")
    opened = open_source(source, limit=limit)
    recipe = recipe_of(replace(request, recall=False), positional=opened.positional)
    entries = list(islice(iter(opened), PROBES))
    if not entries:
        raise UsageError(f"There is nothing to measure on: {opened!r} has no items. Check the source.")
    checkpoint()
    with closing(recipe.ready(entries, None)) as ready, _sink() as sink:
        encode = encoding(sink.encode) if isinstance(recipe, Several) else sink.encode
        parts = [*ready.parts({}), Part(Step.of("write", encode, takes_item=True), tryable=True)]
        tried = trials(parts, entries[:ITEMS], positional=opened.positional)
        made = _measured(parts, tried, recipe, ready)
        if not any(part.own for part in parts):
            again = cycle(entries)
            take = positional(again, ()) if opened.positional else listed(enumerate(again))
            made = replace(made, expected_per_s=_short_run(stages_of(parts, recipe.threads), take, sink))
    items = opened.count() if opened.positional else _count(opened)
    return replace(made, items=items, looked_at=min(ITEMS, len(entries)), seconds=time.perf_counter() - begun)


def _measured(parts: Sequence[Part], tried: Sequence[Trial], recipe: AnyRecipe, ready: Ready) -> Plan:
    """Return the plan, but for its items and what is expected."""
    cpus = cpu_budget().threads
    rates = ceilings(tried, cpus, CEILINGS_S) if tried else {}
    unmeasured = [part.step.name for part in parts if part.step.name not in rates]
    return Plan(
        items=None,
        looked_at=0,
        cpus=cpus,
        ceilings=rates,
        limit_per_s=None if unmeasured or not rates else limit_of(rates),
        expected_per_s=None,
        stages={stage.name: stage.workers for stage in stages_of(parts, recipe.threads)},
        choices=ready.choices,
        measurements=ready.measurements,
        memory=[str(one) for one in ready.memory],
        agreement=ready.agreement,
        unmeasured=unmeasured,
    )


def _short_run(stages: Sequence[Stage], take: Take, sink: Sink) -> float | None:
    """Return the items a second of a run of RUN_S over what `take` gives; None where nothing is done.

    Time in which other programs had the CPUs does not count.
    """
    with Pipeline(stages) as pipeline, pipeline.flow(take, window_of(stages, memory_budget() // 4)) as flow:
        _absorbed(flow, sink, WARM_S)
        before, begun = _delayed_s(pipeline), time.perf_counter()
        done = _absorbed(flow, sink, RUN_S)
        spent_s = time.perf_counter() - begun
        delayed = (_delayed_s(pipeline) - before) / len(pipeline.workers)
    return done / max(spent_s - delayed, spent_s / 10) if done else None


def _absorbed(flow: Flow, sink: Sink, seconds: float) -> int:
    """Write what comes out of `flow` for `seconds`; return how many results that were."""
    deadline, done = time.perf_counter() + seconds, 0
    while (left_s := deadline - time.perf_counter()) > 0 and (parcels := flow.collect(left_s)) is not None:
        checkpoint()
        for parcel in parcels:
            encoded = [value for value in parcel.values if not isinstance(value, Failure | Partial)]
            sink.append(encoded)
            done += len(encoded)
            flow.release(len(parcel))
    sink.commit()
    return done


def _delayed_s(pipeline: Pipeline) -> float:
    return sum(delayed_s(worker.thread.native_id) for worker in pipeline.workers)


@contextmanager
def _sink() -> Iterator[Sink]:
    """Give an output that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="penstock-plan-") as folder:
        out = Path(folder, "plan.jsonl")
        sink = open_sink(out, Path(folder, "own"))
        try:
            sink.open(None)
            yield sink
        finally:
            sink.close()


def _count(source: Source) -> int:
    known = source.count()
    return sum(1 for _ in source) if known is None else known
