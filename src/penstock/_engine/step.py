"""What a worker does with a parcel: steps in a row, each item's failure kept as data in the item's own place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from penstock._contracts import Failure
from penstock._engine.notes import Notes
from penstock._engine.parcel import block_cuts, count_failures
from penstock.errors import ItemError

SHOWN_CHARACTERS = 200
"""Of the reason for which a batch was asked again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One function of a pipeline, with how it is called.

    `bind` is entered once by each worker thread and gives the function (it may set up what is thread-local).
    `block` None: called as fn(value), or fn(item, value) where `takes_item`. `block` n: called as fn(values) with the
    live values of all items whose position // n is the same; must give as many rows. `model` is named in failures.
    `by_parcel`: called as fn(values) with all live values there are, or with (item, value) pairs where `takes_item`;
    gives a value or a `Failure` for each, and raises only what ends the run.
    """

    name: str
    bind: Callable[[], AbstractContextManager[Callable[..., Any]]]
    block: int | None = None
    takes_item: bool = False
    model: str | None = None
    by_parcel: bool = False
    notes: Notes = field(default_factory=Notes, compare=False)
    """What was unusual about its calls; shared by all its workers."""
    mark: Callable[[Any, Failure], Any] = lambda _, failure: failure
    """mark(value, failure): what becomes of a value on which the step was given up."""

    @classmethod
    def of(cls, name: str, fn: Callable[..., Any], *, block: int | None = None, takes_item: bool = False) -> Step:
        """Return a step for a plain function that needs nothing of its thread."""
        return cls(name, lambda: nullcontext(fn), block, takes_item)


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps that one worker runs in a row on a parcel, and how many workers there are: several steps = fused."""

    name: str
    steps: tuple[Step, ...]
    workers: int
    branch: str | None = None
    """Which branch it belongs to.

    Neighbouring stages of different branches run side by side: each branch gets every parcel, the next stage waits
    for all of them. Their steps change the values in place, each its own part; what they return is not looked at.
    """
    serial: bool = False
    """What a worker is in, no other may enter: it cannot be replaced while it is stuck."""

    @property
    def block(self) -> int | None:
        """The block that its steps' blocks all divide, or None: parcels of the stage are never cut inside one."""
        blocks = [step.block for step in self.steps if step.block]
        return math.lcm(*blocks) if blocks else None


def routes(stages: Sequence[Stage]) -> list[tuple[int, ...]]:
    """Return for each stage which ones follow it: () for the last; behind a stage before branches, the head of each.

    Stages of branches lie between two without: the one that hands out, and the one that waits for all.
    """
    found: list[tuple[int, ...]] = []
    for s, stage in enumerate(stages):
        later = range(s + 1, len(stages))
        if stage.branch is None:
            heads: dict[str | None, int] = {}
            for t in later:
                heads.setdefault(stages[t].branch, t)
                if stages[t].branch is None:
                    break
            forked = tuple(t for branch, t in heads.items() if branch is not None)
            found.append(forked or tuple(heads.values()))
        else:
            found.append(next((t,) for t in later if stages[t].branch in (stage.branch, None)))
    return found


def run_step(step: Step, fn: Callable[..., Any], rows: Rows, out: list[Any]) -> int:
    """Apply `step` to `rows`, appending one value or `Failure` per item to `out`; return the number of failures.

    Each item is seen once, except in a failed batch, which is halved until its culprit is alone.
    """
    if step.block is not None:
        return _run_blocks(step, fn, rows, out)
    if step.by_parcel:
        return _run_parcel(step, fn, rows, out)
    if rows.failed:
        return _map_each(step, fn, rows, out)
    return _map_all(step, fn, rows, out)


@dataclass(slots=True)
class Rows:
    """The part of a parcel a step works on."""

    positions: Sequence[int]
    items: Sequence[Any]
    values: list[Any]
    failed: int


def failure_of(step: Step, error: Exception) -> Failure:
    """Return what `error` means for its item; raises it again where no item is to blame (the disk is full)."""
    if getattr(error, "stops_run", False):
        raise error
    if isinstance(error, StopIteration):  # `map` swallows it, so its message is never known
        error = RuntimeError(f"{step.name} raised StopIteration")
    try:
        return Failure.of(step.name, error, step.model)
    except Exception as caught:  # noqa: BLE001 - an error that cannot be shown costs its item, not the run
        return Failure(step.name, type(error).__name__, f"(no message: {type(caught).__name__})", step.model)


def _map_all(step: Step, fn: Callable[..., Any], rows: Rows, out: list[Any]) -> int:
    """Call `fn` on every value at the speed of `map`; the iterator goes on behind an item that raised."""
    failed, n = 0, len(rows.values)
    arguments: tuple[Iterator[Any], ...] = (iter(rows.values),)
    if step.takes_item:
        arguments = (iter(rows.items), *arguments)
    while True:
        try:
            out.extend(map(fn, *arguments))
            if len(out) == n or not rows.values:  # no values any more: cut short, see `Worker.cut`
                return failed
            # Else `map` ends early only if fn raised StopIteration, which list.extend takes for the end of its input.
            out.append(failure_of(step, StopIteration()))
        except Exception as error:  # noqa: BLE001 - an item's failure is data, whatever it is
            out.append(failure_of(step, error))
        failed += 1


def _map_each(step: Step, fn: Callable[..., Any], rows: Rows, out: list[Any]) -> int:
    """Call `fn` on the values that have not failed yet; the others pass unchanged."""
    failed = 0
    for item, value in zip(rows.items, rows.values, strict=False):  # values may be cut short, see `Worker.cut`
        if type(value) is not Failure:
            try:
                out.append(fn(item, value) if step.takes_item else fn(value))
                continue
            except Exception as error:  # noqa: BLE001 - an item's failure is data, whatever it is
                value = failure_of(step, error)
        failed += 1
        out.append(value)
    return failed


def _run_parcel(step: Step, fn: Callable[..., Any], rows: Rows, out: list[Any]) -> int:
    """Call `fn` once with all that has not failed yet."""
    values = list(rows.values)  # they may be cut short meanwhile, see `Worker.cut`
    live = [place for place, value in enumerate(values) if type(value) is not Failure]
    pairs = step.takes_item
    if live:
        answers = fn([(rows.items[place], values[place]) if pairs else values[place] for place in live])
        for place, answer in zip(live, answers, strict=True):
            values[place] = answer
    out.extend(values)
    return count_failures(values)


def _run_blocks(step: Step, fn: Callable[..., Any], rows: Rows, out: list[Any]) -> int:
    """Call `fn` once per block with the live values of the block, in order."""
    failed = begin = 0
    for end in block_cuts(rows.positions, step.block or 1):
        values = rows.values[begin:end]
        begin = end
        if not rows.failed:
            failed += _solve(step, fn, rows, values, out)
            continue
        answers: list[Any] = []
        live = [value for value in values if type(value) is not Failure]
        failed += len(values) - len(live) + _solve(step, fn, rows, live, answers)
        following = iter(answers)
        out.extend(value if type(value) is Failure else next(following) for value in values)
    return failed


def _solve(
    step: Step, fn: Callable[..., Any], rows: Rows, batch: list[Any], out: list[Any], *, half: bool = False
) -> int:
    """Append a row per value and return how many failed: a batch that fails is halved until its culprit is alone."""
    if not batch or not rows.values:  # no values any more: cut short, see `Worker.cut`
        out.extend(batch)
        return 0
    answer = _answer(step, fn, batch)
    if isinstance(answer, list):
        out.extend(answer)
        return 0
    if len(batch) == 1:
        out.append(answer)
        return 1
    if not half:
        why = f"first: {answer.type}: {answer.message[:SHOWN_CHARACTERS]}"
        step.notes.add(f"asked again in smaller batches, as stage {step.name!r} failed on theirs", len(batch), why)
    middle = len(batch) // 2
    halves = (batch[:middle], batch[middle:])
    return sum(_solve(step, fn, rows, part, out, half=True) for part in halves)


def _answer(step: Step, fn: Callable[..., Any], batch: list[Any]) -> list[Any] | Failure:
    """Return the rows of one call, or why there are none: no exception, whose traceback would hold the batch."""
    try:
        rows = fn(batch)
        if len(rows) == len(batch):
            return rows if type(rows) is list else list(rows)
        raise ItemError(f"{step.name} returned {len(rows)} rows for {len(batch)} items.")
    except Exception as error:  # noqa: BLE001 - an item's failure is data, whatever it is
        return failure_of(step, error)
