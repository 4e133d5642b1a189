"""The runs of this process, for who wants to look at them: the run loop says that it runs, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from penstock._engine.statistics import PipelineStatistics


@dataclass(frozen=True, slots=True)
class RunSeen:
    """A run at one instant: `todo` items of it (None: not known), those `done` and `failed`, and its pipeline."""

    out: str
    todo: int | None
    done: int
    failed: int
    pipeline: PipelineStatistics


_looks: dict[object, Callable[[], RunSeen]] = {}


@contextmanager
def visible(look: Callable[[], RunSeen]) -> Iterator[None]:
    """Have `runs` give what `look` returns meanwhile. Any thread may call `look`."""
    key = object()
    _looks[key] = look
    try:
        yield
    finally:
        del _looks[key]


def runs() -> list[RunSeen]:
    """Return what the runs of this process are at, in the order in which they began."""
    return [look() for look in list(_looks.values())]
