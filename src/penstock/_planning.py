"""`penstock plan`: measure on real items what a run would do, choose its numbers, and keep them for it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from penstock._branches import encoding
from penstock._ceilings import ITEMS, Trial, ceilings, limit_of, raced, trials
from penstock._contracts import Failure, Partial, Sink, Source
from penstock._devices import cpu_budget, memory_budget
from penstock._engine.chunks import listed, positional
from penstock._engine.flow import Flow, Take
from penstock._engine.pipeline import Pipeline
from penstock._engine.step import Stage, Step
from penstock._interrupt import checkpoint
from penstock._plan import Part, separate, stages_of, window_of
from penstock._ready import Ready
from penstock._recipes import AnyRecipe, recipe_of
from penstock._request import Request
from penstock._several import Several
from penstock._sinks.opening import open_sink
from penstock._sources.opening import open_source
from penstock._task import PROBES
from penstock._telemetry.plan import Plan
from penstock._telemetry.seen import others_s, undisturbed_s
from penstock.errors import UsageError

CEILINGS_S = 1.6
"""Time for what the steps do alone."""
WARM_S, RUN_S, MOST_S = 0.5, 2.0, 6.0
"""Of a short run, before its rate counts and while it does; longer where less than FEW items come out."""
FEW = 16
LONGEST_S = 19.0
"""Into a plan, until which short runs of another shape may go on: on a slow machine it does without."""
SURELY = 1.05
"""How many times as fast another shape has to be, twice, to be chosen."""
SPREAD = 32
"""Items from all over the source that the short run goes over: the first ones may be smaller, or of one kind."""
MOST_LISTED = 100_000
"""Of a source that knows its length, items that are looked through for these."""


def plan(source: Any, request: Request, limit: int | None = None) -> Plan:
    """Return what a run of `request` over `source` would do, measured anew on some of its items.

    The model is chosen on the first ones, as the run does; rates are measured on items from all over the source, where
    it can be gone through twice. Nothing of it is written but the choices, for the next run. Raises what
    `penstock.run` raises before any work.
    """
    begun = time.perf_counter()
    if limit is not None and limit < 1:
        raise UsageError(f"limit={limit!r}: give a number of items >= 1, or leave it out.")
    opened = open_source(source, limit=limit)
    recipe = recipe_of(replace(request, recall=False), positional=opened.positional)
    entries = list(islice(iter(opened), PROBES))
    if not entries:
        raise UsageError(f"There is nothing to measure on: {opened!r} has no items. Check the source.")
    sample, items = _looked_over(opened, entries)
    checkpoint()
    with closing(recipe.ready(entries, None)) as ready, _sink() as sink:
        encode = encoding(sink.encode) if isinstance(recipe, Several) else sink.encode
        parts = [*ready.parts({}), Part(Step.of("write", encode, takes_item=True), tryable=True)]
        some = sample[:: max(1, len(sample) // ITEMS)][:ITEMS]
        tried = trials(parts, some, positional=opened.positional)
        made = _measured(parts, tried, recipe, ready)
        if not any(part.own for part in parts):
            again = cycle(sample)
            take = positional(again, ()) if opened.positional else listed(enumerate(again))
            until = begun + LONGEST_S
            made = _tried(made, parts, recipe.threads, ready, until, lambda stages: _short_run(stages, take, sink))
    return replace(made, items=items, looked_at=len(some), seconds=time.perf_counter() - begun)


def _tried(
    made: Plan,
    parts: Sequence[Part],
    threads: int,
    ready: Ready,
    until: float,
    run: Callable[[Sequence[Stage]], float | None],
) -> Plan:
    """Return `made` with what short runs did: of the fused shape, and of a model in threads of its own.

    That one is chosen, and kept for the next run, where it is faster by more than such runs may be wrong by. No run of
    it is begun that would go on after `until` (`time.perf_counter`).
    """
    fused = run(stages_of(parts, threads))
    made = replace(made, expected_per_s=fused)
    apart, keep = separate(parts, threads) if _fits(1, until) else None, ready.keep
    if apart is None or keep is None or not fused or not (rate := run(stages_of(apart, threads))):
        return made
    made = replace(made, shapes={"fused": fused, "separate": rate})
    if rate < fused * SURELY or not _fits(2, until):
        return made
    fused = max(fused, run(stages_of(parts, threads)) or 0.0)  # the first look may have been a bad one
    rate = min(rate, run(stages_of(apart, threads)) or 0.0)
    if rate < fused * SURELY:
        return made
    choices = {**ready.choices, "shape": "separate"}
    keep(choices)
    stages = {stage.name: stage.workers for stage in stages_of(apart, threads)}
    return replace(made, expected_per_s=rate, choices=choices, stages=stages)


def _fits(runs: int, until: float) -> bool:
    """Tell whether so many short runs would have ended by then."""
    return time.perf_counter() + runs * (WARM_S + RUN_S) <= until


def _looked_over(source: Source, first: list[Any]) -> tuple[list[Any], int | None]:
    """Return items from all over `source`, and how many it has; the `first` ones where values might be used up."""
    n = source.count()
    if source.positional:
        return first, n
    sample, counted = spread(source if n is None else islice(iter(source), MOST_LISTED), SPREAD)
    return sample, counted if n is None else n


def spread(entries: Iterable[Any], n: int) -> tuple[list[Any], int]:
    """Return `n` to 2 `n` - 1 of `entries`, equally far apart (all where there are fewer), and how many there are."""
    kept: list[Any] = []
    stride, count = 1, 0
    for entry in entries:
        if count % stride == 0:
            kept.append(entry)
        if len(kept) == 2 * n:
            del kept[1::2]
            stride *= 2
        count += 1
    return kept, count


def _measured(parts: Sequence[Part], tried: Sequence[Trial], recipe: AnyRecipe, ready: Ready) -> Plan:
    """Return the plan, but for its items and what is expected."""
    cpus = cpu_budget().threads
    names = [part.step.name for part in parts]
    measured = ceilings(tried, cpus, CEILINGS_S) if tried else {}
    known = {**_timed(ready, recipe, cpus), **measured}
    rates = {name: known[name] for name in names if name in known}
    unmeasured = [name for name in names if name not in rates]
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
        kept=ready.kept,
        timed=[name for name in rates if name not in measured],
    )


def _timed(ready: Ready, recipe: AnyRecipe, cpus: int) -> dict[str, float]:
    """Return what models did when they were chosen, of those that have all of this machine's CPUs and nothing else."""
    alike = recipe.threads == cpus and all(plan.device == "cpu" for plan in ready.memory)
    return raced(ready.measurements) if alike else {}


@dataclass(slots=True)
class _Pace:
    """How far a short run has come: results so far, when the last ones came, and what it had of the CPUs by then.

    delayed_s, used_s: of its workers together, and of the process; see `Seen`. Counted from arrival to arrival: what is
    on its way at the beginning and at the end does not distort it.
    """

    done: int = 0
    at_s: float = 0.0
    delayed_s: float = 0.0
    used_s: float = 0.0

    def since(self, before: _Pace, workers: int, cpus: int) -> float:
        """Return the items a second since `before`, 0.0 where none came; time that others had does not count."""
        spent_s = self.at_s - before.at_s
        had_s = others_s(self.delayed_s - before.delayed_s, self.used_s - before.used_s, cpus * spent_s)
        own_s = undisturbed_s(spent_s, had_s, min(workers, cpus))
        return (self.done - before.done) / own_s if own_s > 0 else 0.0


def _short_run(stages: Sequence[Stage], take: Take, sink: Sink) -> float | None:
    """Return the items a second of a run of RUN_S over what `take` gives; None where nothing is done.

    Time in which other programs had the CPUs does not count.
    """
    with Pipeline(stages) as pipeline, pipeline.flow(take, window_of(stages, memory_budget() // 4)) as flow:
        begun = time.perf_counter()
        pace = _Pace(0, begun, pipeline.delayed_s(), time.process_time())
        _absorb_until(begun + WARM_S, pipeline, flow, sink, pace)
        warm = replace(pace)
        _absorb_until(begun + WARM_S + RUN_S, pipeline, flow, sink, pace)
        while pace.done - warm.done < FEW and time.perf_counter() < begun + MOST_S:
            _absorb_until(min(begun + MOST_S, time.perf_counter() + WARM_S), pipeline, flow, sink, pace)
        workers = len(pipeline.workers)
    return pace.since(warm, workers, cpu_budget().threads) or None


def _absorb_until(deadline: float, pipeline: Pipeline, flow: Flow, sink: Sink, pace: _Pace) -> None:
    """Write what comes out of `flow` until `deadline`, and count it."""
    while (left_s := deadline - time.perf_counter()) > 0 and (parcels := flow.collect(left_s)) is not None:
        checkpoint()
        for parcel in parcels:
            encoded = [value for value in parcel.values if not isinstance(value, Failure | Partial)]
            sink.append(encoded)
            pace.done += len(encoded)
            flow.release(len(parcel))
        if parcels:
            pace.at_s, pace.delayed_s, pace.used_s = time.perf_counter(), pipeline.delayed_s(), time.process_time()
    sink.commit()


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
