"""Ceilings: what each step could do alone on all threads of the CPU budget, measured on real items."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from penstock._branches import Branches
from penstock._contracts import Failure
from penstock._devices import delayed_s
from penstock._engine.step import Rows, Step, run_step
from penstock._interrupt import checkpoint
from penstock._models.drill import together
from penstock._plan import Part
from penstock._telemetry.seen import others_s, undisturbed_s

ITEMS = 16
"""Real items to measure on; a step that takes larger batches gets some of them twice."""
ROUNDS = 4
"""Measurements of each step, interleaved: what slows the machine down for a moment slows all of them."""


BUDGET_S = 0.4
"""Time for the measurements of a run: rates then are 1 or 2 % the same from one time to the next."""
WORTH_S = 10.0
"""Runs shorter than this are not worth them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A step and the rows to run it on, as the steps before it gave them; `cost_s`: an item's seconds in one thread."""

    step: Step
    rows: Rows
    cost_s: float


def of_run(parts: Sequence[Part], entries: Sequence[Any], threads: int, todo: int | None) -> dict[str, float]:
    """Return the ceilings of the steps of a run of `todo` items; {} where it is too short for that, or nobody knows.

    Nothing of the user's is called for it: of such steps, and of those behind them, the run itself tells.
    """
    entries = entries[:ITEMS]
    if todo is None or todo < ITEMS * ITEMS or not entries:
        return {}
    tried = trials(parts, entries)
    expected_s = todo * sum(trial.cost_s for trial in tried) / threads
    return ceilings(tried, threads, BUDGET_S) if expected_s >= WORTH_S else {}


def raced(measurements: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the ceilings of models that were timed when they were chosen, by the names of their steps."""
    chosen = [tried for tried in measurements if tried.get("verdict") == "chosen" and tried["items_per_s"]]
    return {f"{tried['model']}: model" if "model" in tried else "model": tried["items_per_s"] for tried in chosen}


def trials(parts: Sequence[Part], entries: Sequence[Any], *, positional: bool = False) -> list[Trial]:
    """Return the first steps as far as they may be run for measuring, with what they get of `entries`.

    A step that is not the user's and does not bear all threads is run once, for what comes behind it. `positional`:
    these are plain values, known by their position. Items that fail on the way are left out: they are met again by the
    run.
    """
    found: list[Trial] = []
    items = range(len(entries)) if positional else entries
    rows = Rows(range(len(entries)), list(items), list(entries), 0)
    with ExitStack() as stack:
        for part in _runnable(parts):
            if not rows.values:
                break
            rows = _filled(rows, part.step.block or 1)
            fn = stack.enter_context(part.step.bind())
            begun, out = time.perf_counter(), list[Any]()
            run_step(part.step, fn, _again(rows), out)
            if part.tryable:
                found.append(Trial(part.step, rows, (time.perf_counter() - begun) / len(rows.values)))
            rows = _living(rows, out)
    return found


def _runnable(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the first parts, up to the last one that can be measured before code of the user's is met."""
    ours = list(takewhile(lambda part: part.own is None, parts))
    return ours[: max((place for place, part in enumerate(ours, 1) if part.tryable), default=0)]


def ceilings(tried: Sequence[Trial], threads: int, budget_s: float) -> dict[str, float]:
    """Return the items a second that each step does alone in `threads` threads, measured in about `budget_s` in all.

    By the mean of the better half of ROUNDS measurements: what disturbs one only ever makes it slower.
    """
    slot_s = budget_s / max(1, ROUNDS * len(tried))
    rates: dict[str, list[float]] = {trial.step.name: [] for trial in tried}
    for _ in range(ROUNDS):
        for trial in tried:
            checkpoint()
            rates[trial.step.name].append(_rate(trial, threads, slot_s))
    better = {name: sorted(found, reverse=True)[: (ROUNDS + 1) // 2] for name, found in rates.items()}
    return {name: statistics.mean(found) for name, found in better.items()}


def limit_of(rates: Mapping[str, float]) -> float:
    """Return the items a second of steps that share the same CPUs: 1 / (sum of what an item takes of each)."""
    return 1 / sum(1 / rate for rate in rates.values())


def _again(rows: Rows) -> Rows:
    """Return `rows` for one more call: steps of several models write into the values they are given."""
    values = [value.copy() if type(value) is Branches else value for value in rows.values]
    return Rows(rows.positions, rows.items, values, 0)


def _filled(rows: Rows, block: int) -> Rows:
    """Return `rows`, some of them twice where they do not fill whole blocks."""
    n = -(-len(rows.values) // block) * block
    places = [place % len(rows.values) for place in range(n)]
    return Rows(range(n), [rows.items[i] for i in places], [rows.values[i] for i in places], 0)


def _living(rows: Rows, out: Sequence[Any]) -> Rows:
    pairs = [(item, value) for item, value in zip(rows.items, out, strict=True) if not _failed(value)]
    return Rows(range(len(pairs)), [item for item, _ in pairs], [value for _, value in pairs], 0)


def _failed(value: Any) -> bool:
    parts = value.values() if type(value) is Branches else (value,)
    return any(type(part) is Failure for part in parts)


def _rate(trial: Trial, threads: int, slot_s: float) -> float:
    """Return the items a second of all threads together over `slot_s`, at least one call each."""
    step, block = trial.step, trial.step.block or 1

    def job(fn: Callable[..., Any], place: int) -> float:
        return _own_rate(step, fn, _turned(trial.rows, place, block), slot_s, threads)

    return sum(together(step.bind, threads, job))


def _own_rate(step: Step, fn: Callable[..., Any], rows: Sequence[Rows], slot_s: float, threads: int) -> float:
    done, begun, delayed, used = 0, time.perf_counter(), delayed_s(), time.process_time()
    while True:
        for part in rows:
            run_step(step, fn, _again(part), [])
            done += len(part.values)
            spent_s = time.perf_counter() - begun
            if spent_s >= slot_s:
                return _per_s(done, spent_s, delayed_s() - delayed, (time.process_time() - used) / threads)


def _per_s(done: int, spent_s: float, delayed_s: float, used_s: float) -> float:
    """Return the rate of one thread, in the time in which other programs let it have a CPU; `used_s`: of that CPU."""
    return done / undisturbed_s(spent_s, others_s(delayed_s, used_s, spent_s), 1)


def _turned(rows: Rows, place: int, block: int) -> list[Rows]:
    """Return the rows in blocks, beginning at another one in each thread: they look at different items at a time."""
    cut = [
        Rows(range(block), rows.items[at : at + block], rows.values[at : at + block], 0)
        for at in range(0, len(rows.values), block)
    ]
    begin = place * len(cut) // 2 % len(cut)
    return [*cut[begin:], *cut[:begin]]
