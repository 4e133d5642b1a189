"""Two flows at once through one pipeline (a session, two callers): neither sees or waits for the other's items."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock._engine import work as work_module
from penstock._engine.chunks import one_by_one
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step

if TYPE_CHECKING:
    import pytest

WAIT_S = 20.0
Named = tuple[str, int]


def stage(fn: Callable[..., Any], workers: int = 1, block: int | None = None, name: str = "work") -> Stage:
    return Stage(name, (Step.of(name, fn, block=block),), workers)


def test_two_flows_at_once_go_their_own_ways() -> None:
    calls = []

    def model(batch: list[Named]) -> list[Named]:
        calls.append(batch)
        return batch

    with Pipeline([stage(lambda x: x, 2, name="load"), stage(model, 2, block=4)]) as pipeline:
        sources = [[(name, i) for i in range(200)] for name in "ab"]
        with (
            pipeline.flow(one_by_one(sources[0]), Window(16, 16)) as a,
            pipeline.flow(one_by_one(sources[1]), Window(16, 16)) as b,
        ):
            iterators = [iter(a), iter(b)]
            got: list[list[Any]] = [[], []]
            while min(map(len, got)) < 200:
                for k, iterator in enumerate(iterators):
                    got[k].extend(next(iterator).values if len(got[k]) < 200 else [])
            assert got == sources
    assert all(len({name for name, _ in call}) == 1 for call in calls)


class Slow:
    """A clock that says that everything takes a second: parcels are shared out item by item."""

    def __init__(self) -> None:
        self._now = itertools.count()

    def perf_counter(self) -> float:
        return next(self._now)

    def thread_time(self) -> float:
        return 0.0


def test_pieces_of_two_flows_are_not_gathered_into_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first batch of one waits for its first item; that of the other has the same numbers, and is complete."""
    monkeypatch.setattr(work_module, "time", Slow())
    gate, loaded = threading.Event(), threading.Semaphore(0)

    def load(x: Named) -> Named:
        if x == ("a", 0):
            assert gate.wait(WAIT_S)
        loaded.release()
        return x

    calls: list[list[Named]] = []

    def model(batch: list[Named]) -> list[Named]:
        calls.append(batch)
        return batch

    sources = [[(name, i) for i in range(4)] for name in "ab"]
    with (
        Pipeline([stage(load, 2, name="load"), stage(model, 1, block=4)]) as pipeline,
        pipeline.flow(one_by_one(sources[0]), Window()) as a,
    ):
        for _ in range(3):
            assert loaded.acquire(timeout=WAIT_S)
        with pipeline.flow(one_by_one(sources[1]), Window()) as b:
            assert [v for parcel in b for v in parcel.values] == sources[1]
        gate.set()
        assert [v for parcel in a for v in parcel.values] == sources[0]
    assert calls == [sources[1], sources[0]]


def test_a_consumer_that_holds_back_does_not_hold_the_other_up() -> None:
    with (
        Pipeline([stage(abs, 2)]) as pipeline,
        pipeline.flow(one_by_one(range(1000)), Window(8, 8)) as slow,
        pipeline.flow(one_by_one(range(1000)), Window(8, 8)) as fast,
    ):
        assert [v for parcel in fast for v in parcel.values] == list(range(1000))
        assert [v for parcel in slow for v in parcel.values] == list(range(1000))


def test_closing_one_flow_leaves_the_other_alone() -> None:
    with (
        Pipeline([stage(abs, 2), stage(list, 1, block=4)]) as pipeline,
        pipeline.flow(one_by_one(range(1000)), Window(32, 32)) as kept,
    ):
        with pipeline.flow(one_by_one(range(1000)), Window(32, 32)) as dropped:
            assert dropped.collect(WAIT_S) is not None
        assert [v for parcel in kept for v in parcel.values] == list(range(1000))
