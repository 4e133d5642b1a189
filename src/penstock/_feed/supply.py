"""The batches of one epoch on their way: made ahead by the workers of a pipeline, or here, when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from penstock._contracts import Failure
from penstock._engine.gate import Chunk
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._feed.making import Made, Maker
from penstock._feed.reading import Numbered, Place
from penstock.errors import StageError

Supplied = tuple[Place, Made]
AHEAD = 2
"""Batches that wait for the loop, for each worker, and as many more."""


@contextmanager
def inline(maker: Maker, tasks: Iterable[Numbered]) -> Iterator[Iterator[Supplied]]:
    """Make each batch here when it is asked for."""
    yield ((place, maker(task)) for place, task in tasks)


@contextmanager
def ahead(
    pipeline: Pipeline, tasks: Iterable[Numbered], *, order: bool, max_bytes: int
) -> Iterator[Iterator[Supplied]]:
    """Have batches made ahead by the workers of `pipeline`, no more of them than fit into `max_bytes`."""
    most = AHEAD * (pipeline.worker_count + 1)
    flow = pipeline.flow(_Chunks(tasks).take, Window(most, most, max_bytes), ordered=order)
    with flow:
        yield (
            _checked(place, value) for parcel in flow for place, value in zip(parcel.items, parcel.values, strict=True)
        )


class _Chunks:
    """Tasks as a flow takes them; their items are their places."""

    def __init__(self, tasks: Iterable[Numbered]) -> None:
        self._tasks = iter(tasks)
        self._taken = 0

    def take(self, n: int, block: int) -> Chunk | None:  # noqa: ARG002 - a batch is whole already
        pairs = list(islice(self._tasks, n))
        if not pairs:
            return None
        begin, self._taken = self._taken, self._taken + len(pairs)
        return range(begin, self._taken), [place for place, _ in pairs], [task for _, task in pairs]


def _checked(place: Place, value: Made | Failure) -> Supplied:
    if isinstance(value, Failure):
        position, own = place
        raise StageError(f"Batch {own} of epoch {position.epoch} could not be made: {value.type}: {value.message}")
    return place, value
