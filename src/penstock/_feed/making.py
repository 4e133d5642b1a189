"""What a worker does: the items of one batch read, transformed and put together; what fails costs its item."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from penstock._engine.parcel import value_nbytes
from penstock._engine.room import empty
from penstock._engine.wanted import wanted
from penstock._feed.collate import Rows
from penstock._feed.randomness import COLLATE, SAMPLE, begin, drawing, seed_globals
from penstock._feed.schedule import Draws
from penstock.errors import Cancelled, StageError

SHOWN_FRAMES = 6


@dataclass(frozen=True, slots=True)
class Recipe:
    """How samples and batches are made. It travels to processes."""

    datasets: Sequence[Any]
    transform: Callable[[Any], Any] | None
    collate: Callable[[list[Any]], Any] | None
    seed: int
    alone: bool = False
    """Nothing else draws from the shared generators of this process: they may be seeded for each item."""


@dataclass(frozen=True, slots=True)
class BadItem:
    """An item that gave no sample: its index in the data set (in `which` of several), and why, with the traceback."""

    epoch: int
    item: int
    type: str
    message: str
    traceback: str = ""
    which: int | None = None

    def __str__(self) -> str:
        """Say which and why in a line."""
        of = "" if self.which is None else f" of data set {self.which}"
        return f"item {self.item}{of}: {self.type}: {self.message}"


@dataclass(frozen=True, slots=True)
class Task:
    """One batch to make. `values`: the items themselves, where they come from an iterable."""

    epoch: int
    number: int
    draws: Draws
    values: list[Any] | None = None

    def only(self, rows: Sequence[int]) -> Task:
        """Return the task with some of its items."""
        draws = self.draws
        which = None if draws.which is None else [draws.which[row] for row in rows]
        part = Draws([draws.items[row] for row in rows], [draws.keys[row] for row in rows], which)
        return Task(self.epoch, self.number, part, None if self.values is None else [self.values[row] for row in rows])

    def bad(self, row: int, kind: str, message: str, frames: str = "") -> BadItem:
        """Return one of its items as one that gave no sample."""
        which = None if self.draws.which is None else self.draws.which[row]
        return BadItem(self.epoch, self.draws.items[row], kind, message, frames, which)


@dataclass(frozen=True, slots=True)
class Made:
    """A batch: what the loop gets (None where no item was left), how many samples it has, and who is missing."""

    batch: Any
    count: int
    bad: list[BadItem] = field(default_factory=list)
    torch: bool = False
    sample_s: float = 0.0
    collate_s: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return value_nbytes(self.batch)


class Maker:
    """Makes batches by a recipe. Safe to be called from several threads if the data set is."""

    def __init__(self, recipe: Recipe) -> None:
        """Take it as it is."""
        self._recipe = recipe

    def __call__(self, task: Task) -> Made:
        """Return the batch. Raises StageError where putting it together failed, Cancelled where nobody wants it."""
        recipe, draws, bad = self._recipe, task.draws, list[BadItem]()
        samples: list[Any] = []
        rows = Rows(len(draws.items), empty)
        begun = time.perf_counter()
        with drawing():
            for row in range(len(draws.items)):
                if not wanted():
                    raise Cancelled("The batch is not wanted any more.")
                try:
                    sample = self.sample(task, row)
                    if recipe.collate is None:
                        rows.put(sample)
                    else:
                        samples.append(sample)
                    del sample
                except Exception as error:  # noqa: BLE001 - an item's failure is data, whatever it is
                    bad.append(_bad(task, row, error))
            sampled = time.perf_counter()
            if recipe.collate is None:
                batch, count, torch = rows.done(), rows.count, rows.torch
            else:
                batch, count, torch = self._collated(task, samples), len(samples), False
        return Made(batch, count, bad, torch, sampled - begun, time.perf_counter() - sampled)

    def sample(self, task: Task, row: int) -> Any:
        """Return one sample, its random numbers keyed by the item."""
        known = "torch" in sys.modules
        sample = self._drawn(task, row)
        if self._recipe.alone and not known and "torch" in sys.modules:
            sample = self._drawn(task, row)  # it has imported torch, whose generator was not seeded before that
        return sample

    def _drawn(self, task: Task, row: int) -> Any:
        recipe, draws = self._recipe, task.draws
        key = (recipe.seed, SAMPLE, task.epoch, draws.keys[row])
        begin(key)
        if recipe.alone:
            seed_globals(key)
        if task.values is not None:
            sample = task.values[row]
        else:
            sample = recipe.datasets[0 if draws.which is None else draws.which[row]][draws.items[row]]
        return sample if recipe.transform is None else recipe.transform(sample)

    def _collated(self, task: Task, samples: list[Any]) -> Any:
        recipe = self._recipe
        if not samples:
            return None
        key = (recipe.seed, COLLATE, task.epoch, task.number)
        begin(key)
        if recipe.alone:
            seed_globals(key)
        assert recipe.collate is not None
        try:
            return recipe.collate(samples)
        except Exception as error:
            stop = StageError(
                f"collate failed on batch {task.number} of epoch {task.epoch} (items {task.draws.items[:8]}...): "
                f"{type(error).__name__}: {error}. It gets a list of samples, and no item can be left out for it."
            )
            stop.stops_run = True
            raise stop from error


def _bad(task: Task, row: int, error: Exception) -> BadItem:
    try:
        message = str(error) or repr(error)
    except Exception as caught:  # noqa: BLE001 - an error that cannot be shown costs its item, not the batch
        message = f"(no message: {type(caught).__name__})"
    frames = "".join(traceback.format_tb(error.__traceback__)[1:][-SHOWN_FRAMES:])
    return task.bad(row, type(error).__name__, message, frames)


@contextmanager
def made_by(recipe: Recipe) -> Iterator[Maker]:
    """Give a maker: what a process enters once."""
    yield Maker(recipe)
