"""The verdict on a run: how near it came to what the machine could do, what held it back, what would help (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from penstock._engine.statistics import StageStatistics, StepStatistics
from penstock._telemetry.seen import COMPUTES, Seen

BUSY = 0.75
"""The share of the time from which workers count as busy all the time."""
MAIN = 0.6
"""The share of a stage's time that one of its steps must have to be called the bottleneck."""
LOST = 0.25
"""The share of the first stage's time from which what its idle workers waited for is the bottleneck."""
LATE_S = 0.0012
"""How late a thread gets the interpreter on average where others hold on to it.

They let it go after 5 ms: 4 to 15 were measured, and 0.01 to 0.8 where nobody holds on to it, on a machine with other
programs on it, too.
"""
HOLDS = 0.15
"""Threads that had a CPU for a smaller share of their time do not hold on to the interpreter: they wait."""
WAIT_FOR_IT = 0.9
"""Threads that had a CPU, or waited for other programs to give one back, for all of their time never waited for it."""
LITTLE = 0.02
"""A step with no larger share of the time says nothing about the limit."""
LEAST_WORK = 0.05
"""A run whose CPUs worked for a smaller share of the time says nothing about it either."""
OTHERS = 0.1
"""The share of the CPUs from which other programs are mentioned."""
MOST_TIMES = 8
"""No more workers than this many times those there were are called for."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What held a run back.

    `sentence`: the rate, its share of the limit, the slowest stage and what would help. `bottleneck`: None, where
    nothing stands out, or the name of a step; "source" (gives too little), "output" (is written too slowly), "order"
    (finished items wait behind a slow one), "window" (too few items may be in flight), "replicas" (too few workers call
    the model at once) or "interpreter" (Python code of several threads, which share one CPU). `limit_per_s`: items a
    second that this machine could do, or None where that is not known. `arithmetic`: how it was worked out, in lines.
    """

    sentence: str
    bottleneck: str | None
    limit_per_s: float | None
    arithmetic: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {**asdict(self), "arithmetic": list(self.arithmetic)}


def verdict(seen: Seen) -> Verdict:
    """Return what held the run back, as far as the measurements tell."""
    limit = _limit(seen)
    share = "" if limit is None else f" = {seen.rate / limit:.0%} of this machine's limit ({_per_s(limit)})"
    bottleneck, why = _found(seen)
    parts = [_per_s(seen.rate) + share, why, _of_others(seen)]
    return Verdict("; ".join(part for part in parts if part), bottleneck, limit, tuple(_arithmetic(seen, limit)))


# ---- the limit


def _cost_s(seen: Seen, step: StepStatistics) -> float | None:
    """Return the CPU seconds that an item takes of a step, or None where nobody knows what it could do.

    As measured alone; else as the run took, where the step computes.
    """
    if step.name in seen.ceilings:
        return seen.cpus / seen.ceilings[step.name]
    if step.busy_s <= LITTLE * seen.busy_s:
        return step.cost_s
    return step.cpu_s / step.items if seen.computing(step) >= COMPUTES or _shared(seen) else None


def _limit(seen: Seen) -> float | None:
    """Return the items a second that the machine could do: of CPUs by what an item takes of all steps on them.

    Devices beside work at the same time: the smallest counts.
    """
    steps = [step for step in seen.steps if step.items]
    on_cpus = [_cost_s(seen, step) for step in steps if step.name not in seen.apart]
    beside = [seen.ceilings.get(step.name) for step in steps if step.name in seen.apart]
    worked = seen.wanted >= LEAST_WORK * seen.cpus or beside
    if not worked or seen.is_short or None in on_cpus or None in beside:
        return None
    whole_s = sum(cost for cost in on_cpus if cost is not None)
    rates = [rate for rate in beside if rate is not None] + ([seen.cpus / whole_s] if whole_s > 0 else [])
    return min(rates, default=None)


# ---- the bottleneck


def _found(seen: Seen) -> tuple[str | None, str]:
    """Return the bottleneck and what to say of it."""
    if not seen.stages or not seen.busy_s:
        return None, ""
    slowest = max(seen.steps, key=lambda step: step.busy_s)
    if seen.is_short:
        return None, f"slowest stage: {slowest.name}"
    if _shared(seen):
        return "interpreter", _of_interpreter(seen, slowest)
    stage = max(seen.stages, key=seen.busy)
    if max(seen.busy(stage), seen.output_s / seen.seconds) < BUSY:
        return _lost(seen, slowest)
    if seen.busy(stage) < seen.output_s / seen.seconds:
        return "output", _of_output(seen)
    main = max(stage.steps, key=lambda step: step.busy_s)
    if main.busy_s < MAIN * stage.busy_s:
        return None, f"{_busiest(seen, stage, main)}; no stage stands out"
    return _of_stage(seen, stage, main)


def one_at_a_time(seen: Seen) -> bool:
    """Tell whether several busy threads got one CPU together at most, which nobody else had: as of one interpreter."""
    alone = seen.cpu_s <= 1.25 * seen.seconds and seen.busy_s >= 1.4 * seen.seconds
    own_s = sum(step.cpu_s for step in seen.steps)
    between = HOLDS * seen.busy_s <= own_s and own_s + seen.delayed_s <= WAIT_FOR_IT * seen.busy_s
    return seen.cpus > 1 and alone and between


def _shared(seen: Seen) -> bool:
    """Tell whether threads run one at a time, and let others wait for the interpreter: it is that, and no lock."""
    return one_at_a_time(seen) and seen.late_s >= LATE_S


def _lost(seen: Seen, slowest: StepStatistics) -> tuple[str | None, str]:
    """Return what the first stage's idle workers waited for most, where that was much of the time."""
    whole_s = seen.staffed_s(seen.stages[0])
    causes = ("source", "order", "output", "window")
    cause = max(causes, key=lambda name: float(getattr(seen.waits, name)))
    share = getattr(seen.waits, cause) / whole_s
    if share < LOST:
        return None, f"slowest stage: {slowest.name}; no stage stands out"
    return cause, {"source": _of_source, "order": _of_order, "output": _of_output, "window": _of_window}[cause](seen)


def _of_source(seen: Seen) -> str:
    alone = seen.items / seen.source_s if seen.source_s else 0.0
    return (
        f"{_idle(seen, seen.waits.source)} for the source, which gives {_per_s(alone)}: only a faster one would help, "
        "more threads would give nothing"
    )


def _of_order(seen: Seen) -> str:
    return (
        f"{_idle(seen, seen.waits.order)} for room, taken by finished items behind one that was not: order=False "
        "(--no-order) would help, or what makes that one slow"
    )


def _of_output(seen: Seen) -> str:
    return (
        f"results were written for {seen.output_s / seen.seconds:.0%} of the time, by the one thread that does it: a "
        "faster disk or another format would help, more threads would give nothing"
    )


def _of_window(seen: Seen) -> str:
    return (
        f"{_idle(seen, seen.waits.window)} for room, as only {seen.window:,} items fit: a larger Limits(max_bytes=) "
        "would help"
    )


def _of_interpreter(seen: Seen, slowest: StepStatistics) -> str:
    if _is_model(slowest):
        way = "processes would: concurrency = 'process' in it"
    elif slowest.name in seen.given:
        way = f"processes would: Workers({slowest.name}, kind='process')"
    else:
        way = "less of it would"
    return (
        f"slowest stage: {slowest.name}, in threads that share one CPU, as Python runs one at a time; more of them "
        f"would give nothing, {way}"
    )


def _of_stage(seen: Seen, stage: StageStatistics, main: StepStatistics) -> tuple[str | None, str]:
    said, is_model = _busiest(seen, stage, main), _is_model(main)
    idle_cpus = not seen.is_full and stage.workers < seen.cpus
    if not seen.waiting(main) and not idle_cpus:
        smaller = "a GPU or a smaller model" if is_model else f"more CPUs or a cheaper {main.name}"
        nothing, would = ("more threads would give nothing; ", "would") if seen.is_full else ("", "would help")
        return main.name, f"{said}; {nothing}{smaller} {would}"
    n, times = _more(seen, stage, main)
    waits = f", but computing for only {seen.computing(main):.0%} of that" if seen.waiting(main) else ""
    return (
        "replicas" if is_model else main.name,
        f"{said}{waits}; {_how(seen, stage, main, n)} would give up to {times:.1f} times the rate",
    )


def _is_model(step: StepStatistics) -> bool:
    return step.name.rpartition(": ")[2] == "model"


def _how(seen: Seen, stage: StageStatistics, main: StepStatistics, n: int) -> str:
    """Return how a step gets `n` workers: with those it shares its threads with, as a model, or by itself."""
    if len(stage.steps) == 1 and _is_model(main):
        return f"replicas={n}"
    return f"Workers({main.name}, {n})" if main.name in seen.given and not _is_model(main) else f"threads={n}"


def _more(seen: Seen, stage: StageStatistics, main: StepStatistics) -> tuple[int, float]:
    """Return how many workers the step needs to keep up with the others, and how many times the rate that would be."""
    others_per_s = min((_without(other, main) for other in seen.stages), default=math.inf)
    most = MOST_TIMES * stage.workers if seen.waiting(main) else seen.cpus
    n = max(stage.workers + 1, math.ceil(min(most, others_per_s * main.cost_s)))
    return n, min(n / stage.workers, max(1.0, others_per_s / seen.rate))


def _without(stage: StageStatistics, main: StepStatistics) -> float:
    """Return the items a second that the workers of a stage could do if `main` took no time."""
    cost_s = sum(step.cost_s for step in stage.steps if step is not main)
    return stage.workers / cost_s if cost_s > 0 else math.inf


# ---- in words


def _busiest(seen: Seen, stage: StageStatistics, main: StepStatistics) -> str:
    busy = main.busy_s / seen.staffed_s(stage)
    workers = "" if stage.workers > 1 else " in its one worker"
    return f"slowest stage: {main.name} {min(1.0, busy):.0%} busy{workers}"


def _idle(seen: Seen, seconds: float) -> str:
    return f"the workers waited {seconds / seen.staffed_s(seen.stages[0]):.0%} of the time"


def _of_others(seen: Seen) -> str:
    """Return what other programs took, where they took CPUs that this one would have used."""
    whole_s = seen.cpu_s + seen.others_s
    share = seen.others_s / whole_s if whole_s > 0 and seen.is_full and not seen.is_short else 0.0
    return f"other programs had the CPUs for {share:.0%} of the time" if share >= OTHERS else ""


def _arithmetic(seen: Seen, limit: float | None) -> Iterator[str]:
    """Yield the numbers that the sentence rests on."""
    yield f"{seen.items:,} items in {seen.seconds:.2f} s = {_per_s(seen.rate)}"
    for stage in seen.stages:
        for step in stage.steps:
            yield _of_step(seen, stage, step)
    if limit is not None:
        yield _of_limit(seen, limit)
    yield f"CPUs: {seen.cpu_s:.2f} s used, {seen.others_s:.2f} s had by others, of {seen.cpus} x {seen.seconds:.2f} s"
    yield f"one thread: source {seen.source_s:.2f} s, output {seen.output_s:.2f} s of {seen.seconds:.2f} s"
    if seen.stages:
        waits = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in asdict(seen.waits).items() if seconds >= 0.005)
        yield f"idle workers of {seen.stages[0].name} waited for: {waits or 'nothing'}"
    yield f"the writing thread got the interpreter {_ms(seen.late_s)} after it was woken, on average"


def _of_limit(seen: Seen, limit: float) -> str:
    steps = [step for step in seen.steps if step.items]
    terms = [f"{step.name} {_ms(_cost_s(seen, step))}" for step in steps if step.name not in seen.apart]
    beside = [f"{step.name} alone {_per_s(seen.ceilings[step.name])}" for step in steps if step.name in seen.apart]
    on_cpus = [f"{seen.cpus} CPUs / ({' + '.join(terms)})"] if terms else []
    least = "the least of " if on_cpus and beside else ""
    return f"limit: {least}{', '.join(on_cpus + beside)} = {_per_s(limit)}"


def _of_step(seen: Seen, stage: StageStatistics, step: StepStatistics) -> str:
    share = step.busy_s / seen.staffed_s(stage) if seen.seconds > 0 else 0.0
    alone = f"; alone {_per_s(seen.ceilings[step.name])}" if step.name in seen.ceilings else ""
    workers = "1 worker" if stage.workers == 1 else f"{stage.workers} workers"
    there = f"{stage.staffed_s:.2f} s of workers" if stage.staffed_s else f"{workers} x {seen.seconds:.2f} s"
    return (
        f"{step.name}: {step.busy_s:.2f} s of {there} = {share:.0%} busy; "
        f"{_ms(step.cost_s)} an item, {seen.computing(step):.0%} of it computing{alone}"
    )


def _per_s(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


def _ms(seconds: float | None) -> str:
    return f"{(seconds or 0.0) * 1000:.3g} ms"
