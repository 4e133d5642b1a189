"""From what is to be done to who does it: steps grouped into stages of workers (pure)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step

MOST_ITEMS = 65_536
"""In flight at most where they cost next to nothing: every worker's parcel is a share of it, and changing hands costs
as much as 500 such items."""


@dataclass(frozen=True, slots=True)
class Part:
    """A step and who does it: `workers` of its own (the user said so), or None: the common threads, fused.

    `branch`: the model, where there are several, that it belongs to. `serial`: a copy of its model bears one thread.
    `own`: where code of the user's runs, which may use any library and sees each item once; None: it is penstock's own.
    `tryable`: it is penstock's own, does nothing but compute, and bears all threads: it may be run to measure it.
    `pinned`: the user has said how many do it, or more of them would be more copies: a run leaves it at that.
    `spare`: common threads beyond the usual number that its model is worth, see `Places`.
    `elsewhere(n)`: returns the step that has the same done by n processes, where it may be; raises UsageError else.
    """

    step: Step
    workers: int | None = None
    branch: str | None = None
    serial: bool = False
    own: Literal["thread", "process"] | None = None
    tryable: bool = False
    pinned: bool = False
    spare: int = 0
    elsewhere: Callable[[int], Step] | None = None


def crews_of(parts: Sequence[Part]) -> list[list[Part]]:
    """Return the parts by stage: neighbours without workers of their own are fused into one.

    Fused, an item stays with one thread and its cache from file to result; on a CPU that is the fastest shape. A step
    with workers of its own is a stage of its own: a model that one thread may call has one, for fused, the other
    threads would wait for it and do nothing else. Several models are fused too where all of them can be; else each has
    stages of its own, beside those of the others.
    """
    apart = any(part.branch is not None and part.workers for part in parts)

    def key(numbered: tuple[int, Part]) -> tuple[str | None, int]:
        i, part = numbered
        return (part.branch if apart else None, i if part.workers else -1)

    return [[part for _, part in group] for _, group in groupby(enumerate(parts), key=key)]


def stages_of(parts: Sequence[Part], threads: int) -> list[Stage]:
    """Return the stages, each with the workers it begins with: those of its own, or `threads`; see `crews_of`."""
    apart = any(part.branch is not None and part.workers for part in parts)
    stages = []
    for members in crews_of(parts):
        branch, workers = members[0].branch if apart else None, members[0].workers or threads + spare_of(members)
        name, serial = "+".join(part.step.name for part in members), any(part.serial for part in members)
        stages.append(Stage(name, tuple(part.step for part in members), workers, branch, serial))
    return stages


def spare_of(members: Sequence[Part]) -> int:
    """Return how many common threads a stage has beyond the usual number: as many as each of its models is worth."""
    if any(part.workers for part in members):
        return 0
    return min((part.spare for part in members if part.step.model is not None), default=0)


def separate(parts: Sequence[Part], threads: int) -> list[Part] | None:
    """Return `parts` with the model in a stage of its own, with as many workers; None where it is not fused now."""
    places = [place for place, part in enumerate(parts) if part.step.model is not None]
    if len(places) != 1 or parts[places[0]].workers or threads < 2:
        return None
    (place,) = places
    return [*parts[:place], replace(parts[place], workers=threads), *parts[place + 1 :]]


def callers_of(parts: Sequence[Part], threads: int) -> int | None:
    """Return how many threads at once call code of the user's that computes; None where there is none.

    That is the model, where it is the user's: what stands before and behind it seldom has products of matrices.
    """
    own = [part for part in parts if part.own == "thread"]
    models = [part for part in own if part.step.model is not None]
    return max((part.workers or threads for part in models or own), default=None)


def window_of(stages: Sequence[Stage], max_bytes: int, most_items: int = MOST_ITEMS) -> Window:
    """Return the bounds of what may be in flight: two batches for every worker (Triton's rule), at least 32 items."""
    block = math.lcm(*(stage.block or 1 for stage in stages))  # what travels together, see `Pipeline.block`
    need = 2 * sum(stage.workers for stage in stages) * block
    return Window(max(32, need), max(most_items, need), max_bytes)
