"""Which workers a feed gets, and why: as asked, or by what the first samples show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from penstock._devices import cpu_budget
from penstock._engine.step import Stage
from penstock._feed.making import Maker, Recipe, Task
from penstock._feed.probing import Probe, kind_of, probed, workers_of
from penstock._feed.randomness import drawing
from penstock._feed.workers import stage_of
from penstock.errors import UsageError


@dataclass(frozen=True, slots=True)
class Crew:
    """The stage that makes batches (None: made in the loop itself), and the plan with the reasons."""

    stage: Stage | None
    plan: dict[str, Any]


def crew_of(recipe: Recipe, first: Task | None, kind: str, workers: int | None) -> Crew:
    """Return the workers for `recipe`, of a `kind` ("auto": to be found) and number (None: to be found).

    `first`: the first batch, of which some samples are looked at; None for an iterable, which is read once only. Raises
    UsageError where samples draw from generators that threads share, and where processes cannot have the recipe.
    """
    known = first is None or (kind == "process" and workers is not None)
    probe = Probe() if known or first is None else _probed(recipe, first)
    found, why = (kind, "asked for") if kind != "auto" else kind_of(probe)
    if workers == 0:
        found, why = "thread", "made in the loop itself"
    if probe.drawn and found == "thread":
        raise UsageError(
            f"Samples draw from {' and '.join(probe.drawn)}, which all threads share: batches would depend on who draws"
            " first. Draw from penstock.sample_rng(), or use kind='process' with 1 worker or more."
        )
    n = workers_of(probe, cpu_budget().threads) if workers is None else workers
    plan = {"kind": found, "workers": n, "why": why, "sample_s": probe.sample_s, "scales": probe.scales}
    if n == 0:
        return Crew(None, plan)
    try:
        return Crew(_stage(recipe, found, n, shared=workers is None), plan)
    except UsageError as error:
        if kind != "auto" or probe.drawn or found == "thread":
            raise
        plan.update(kind="thread", why=f"{why}; but {error}")
        return Crew(_stage(recipe, "thread", n, shared=workers is None), plan)


def _stage(recipe: Recipe, kind: str, workers: int, *, shared: bool) -> Stage:
    return stage_of(replace(recipe, alone=kind == "process"), kind, workers, shared=shared)


def _probed(recipe: Recipe, first: Task) -> Probe:
    with drawing():
        return probed(partial(Maker(recipe).sample, first), len(first.draws.items))
