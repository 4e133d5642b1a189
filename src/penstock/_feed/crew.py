"""Which workers a feed gets, and why: as asked, or by what the first samples show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock._devices import cpu_budget
from penstock._engine.processes import Order
from penstock._engine.step import Stage
from penstock._feed.making import Maker, Recipe, Task
from penstock._feed.probing import Probe, kind_of, probed, workers_of
from penstock._feed.randomness import drawing
from penstock._feed.workers import order_of, processes, threads
from penstock.errors import UsageError


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said: a kind ("auto": to be found) and a number of workers (None: to be found)."""

    kind: str
    workers: int | None


@dataclass(frozen=True, slots=True)
class Crew:
    """The stage that makes batches (None: made in the loop itself), and the plan with the reasons."""

    stage: Stage | None
    plan: dict[str, Any]


def crew_of(recipe: Recipe, first: Task | None, n: int | None, asked: Asked) -> Crew:
    """Return the workers for `recipe`, with `n` items in an epoch (None: not known).

    `first`: the first batch, of which some samples are looked at; None for an iterable, which is read once only. Raises
    UsageError where samples draw from generators that threads share, and where processes cannot have the recipe.
    """
    cpus = cpu_budget().threads
    maybe = asked.kind != "thread" and asked.workers != 0
    # Pickled before its first sample: what it opens then (a file, a database) cannot be sent any more.
    order, against = _order(recipe, asked.workers or cpus, needed=asked.kind == "process") if maybe else (None, "")
    probe = Probe() if first is None or (asked.kind == "process" and asked.workers) else _probed(recipe, first)
    kind, why = _kind(asked, first, probe, n)
    workers = workers_of(probe, cpus) if asked.workers is None else asked.workers
    plan = {"kind": kind, "workers": workers, "why": why, "sample_s": probe.sample_s}
    shared = asked.workers is None
    if kind == "process":
        if order is not None and (asked.kind == "process" or probe.drawn or not order.needs_main):
            return Crew(processes(order, workers, shared=shared), plan)
        against = against or "samples are made by the main program's own code (kind='process' takes it, behind a guard)"
        plan.update(kind="thread", why=f"{why}; but {against}")
    if probe.drawn:
        raise UsageError(
            f"Samples draw from {' and '.join(probe.drawn)}, which all threads share: batches would depend on who draws"
            f" first. Draw from penstock.sample_rng(), or use kind='process' with 1 worker or more. {against}".rstrip()
        )
    return Crew(threads(recipe, workers, shared=shared) if workers else None, plan)


def _kind(asked: Asked, first: Task | None, probe: Probe, n: int | None) -> tuple[str, str]:
    if asked.workers == 0:
        return "thread", "made in the loop itself"
    if asked.kind != "auto":
        return asked.kind, "asked for"
    return kind_of(probe, n) if first is not None else ("thread", "samples not looked at: they can be read once only")


def _order(recipe: Recipe, workers: int, *, needed: bool) -> tuple[Order | None, str]:
    """Return what processes are given; None, and why, where they cannot have it and need not."""
    try:
        return order_of(recipe, workers), ""
    except UsageError as error:
        if needed:
            raise
        return None, str(error)


def _probed(recipe: Recipe, first: Task) -> Probe:
    with drawing():
        return probed(partial(Maker(recipe).sample, first), len(first.draws.items))
