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
    known = first is None or (asked.kind == "process" and asked.workers is not None)
    probe = Probe() if known or first is None else _probed(recipe, first)
    kind, why = (asked.kind, "asked for") if asked.kind != "auto" else kind_of(probe, n or 0)
    if asked.workers == 0:
        kind, why = "thread", "made in the loop itself"
    workers = workers_of(probe, cpu_budget().threads) if asked.workers is None else asked.workers
    shared = asked.workers is None
    if kind == "process":
        order, against = _order(recipe, workers, needed=asked.kind == "process" or bool(probe.drawn))
        if order is not None:
            return Crew(processes(order, workers, shared=shared), _plan(probe, kind, workers, why))
        kind, why = "thread", f"{why}; but {against}"
    if probe.drawn:
        raise UsageError(
            f"Samples draw from {' and '.join(probe.drawn)}, which all threads share: batches would depend on who draws"
            " first. Draw from penstock.sample_rng(), or use kind='process' with 1 worker or more."
        )
    stage = threads(recipe, workers, shared=shared) if workers else None
    return Crew(stage, _plan(probe, kind, workers, why))


def _order(recipe: Recipe, workers: int, *, needed: bool) -> tuple[Order | None, str]:
    """Return what processes are given; None, and why, where they cannot or should not have it and need not."""
    try:
        order = order_of(recipe, workers)
    except UsageError as error:
        if needed:
            raise
        return None, str(error)
    if order.needs_main and not needed:  # it may have no guard, and would begin its work over again there
        return None, "samples are made by the main program's own code (kind='process' takes it, behind a guard)"
    return order, ""


def _plan(probe: Probe, kind: str, workers: int, why: str) -> dict[str, Any]:
    return {"kind": kind, "workers": workers, "why": why, "sample_s": probe.sample_s}


def _probed(recipe: Recipe, first: Task) -> Probe:
    with drawing():
        return probed(partial(Maker(recipe).sample, first), len(first.draws.items))
