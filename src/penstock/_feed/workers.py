"""Who makes the batches: a stage of threads of this process, or of processes, of which a death costs its item alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from penstock._contracts import Failure
from penstock._engine.child import Duty
from penstock._engine.processes import Apart, Order, bound
from penstock._engine.step import Stage, Step
from penstock._feed.making import Made, Maker, Recipe, Task, made_by
from penstock._feed.sharing import SHARING

NAME = "sample"


def threads(recipe: Recipe, workers: int, *, shared: bool) -> Stage:
    """Return a stage of threads. `shared`: with other feeds, one at a time for each of the workers."""
    step = Step(NAME, partial(_threaded, Maker(recipe), _in_turn if shared else _at_once))
    return Stage(NAME, (step,), workers)


def order_of(recipe: Recipe, workers: int) -> Order:
    """Return what processes are given. Raises UsageError where they cannot have the recipe."""
    shown = (*(type(dataset).__name__ for dataset in recipe.datasets), recipe.transform, recipe.collate)
    return Order.of(Duty(NAME, partial(made_by, replace(recipe, alone=True))), shown, workers)


def processes(order: Order, workers: int, *, shared: bool) -> Stage:
    """Return a stage of processes. `shared`: see `threads`."""
    step = Step(NAME, partial(_apart, order, _in_turn if shared else _at_once), by_parcel=True)
    return Stage(NAME, (step,), workers)


Turns = Callable[[Callable[[Any], Any], Any], Any]


def _in_turn(fn: Callable[[Any], Any], value: Any) -> Any:
    with SHARING.turn():
        return fn(value)


def _at_once(fn: Callable[[Any], Any], value: Any) -> Any:
    return fn(value)


def _threaded(maker: Maker, turns: Turns) -> nullcontext[Callable[[Task], Made]]:
    return nullcontext(partial(turns, maker))


@contextmanager
def _apart(order: Order, turns: Turns) -> Iterator[Callable[[Sequence[Task]], list[Any]]]:
    with bound(order, _all_made) as made:
        yield partial(turns, made)


def _all_made(apart: Apart, tasks: Sequence[Task]) -> list[Any]:
    return [made(apart, task) for task in tasks]


def made(apart: Apart, task: Task) -> Any:
    """Return the batch of `task`, a `Failure`, or None where it is not wanted any more.

    Where the process dies, whose fault it was is found by asking for each item alone; the batch is made without those.
    """
    (answer,) = apart.each([task], attempts=1)
    if not _died(answer):
        return answer
    rows = range(len(task.draws.items))
    alone = apart.each([task.only([row]) for row in rows])
    dead = [row for row in rows if _died(alone[row])]
    (answer,) = apart.each([task.only([row for row in rows if row not in dead])])
    if not isinstance(answer, Made):
        return answer
    named = [task.bad(row, alone[row].type, alone[row].message) for row in dead]
    return replace(answer, bad=[*answer.bad, *named])


def _died(answer: Any) -> bool:
    return type(answer) is Failure and answer.type == "WorkerDied"
