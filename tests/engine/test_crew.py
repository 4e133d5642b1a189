"""A stage whose workers change while it runs: each item once, in order, and the threads are those that are wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.chunks import one_by_one
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step

WAIT_S = 20.0


def stage(fn: Callable[[Any], Any], workers: int) -> Stage:
    return Stage("work", (Step.of("work", fn),), workers)


def living(pipeline: Pipeline) -> int:
    return sum(worker.thread.is_alive() for worker in pipeline.workers)


def until(pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; whatever changes it does so under the pipeline's lock, and tells the stage."""
    ready = pipeline.posts[0].ready
    with pipeline.lock:
        assert ready.wait_for(condition, WAIT_S)


class Meeting:
    """A step in which `n` threads have to be at once with the first `n` items, before any of them may leave."""

    def __init__(self, n: int) -> None:
        self.n, self.barrier = n, threading.Barrier(n)

    def __call__(self, value: int) -> int:
        if value < self.n:
            self.barrier.wait(WAIT_S)
        return value


def test_more_workers_are_at_work_at_once() -> None:
    meeting = Meeting(5)
    with Pipeline([stage(meeting, 2)]) as pipeline:
        pipeline.resize(0, 5)
        with pipeline.flow(one_by_one(range(50)), Window()) as flow:  # two workers alone would wait for ever
            assert [value for parcel in flow for value in parcel.values] == list(range(50))
        assert pipeline.statistics().stages[0].workers == 5
        assert pipeline.settled(0)


def test_fewer_workers_leave_behind_the_parcel_in_hand() -> None:
    inside, leave = threading.Semaphore(0), threading.Event()

    def work(value: int) -> int:
        inside.release()
        assert leave.wait(WAIT_S)
        return value

    with Pipeline([stage(work, 4)]) as pipeline, pipeline.flow(one_by_one(range(100)), Window()) as flow:
        for _ in range(4):
            assert inside.acquire(timeout=WAIT_S)
        pipeline.resize(0, 1)
        assert living(pipeline) == 4  # at work still
        assert not pipeline.settled(0)
        leave.set()
        assert [value for parcel in flow for value in parcel.values] == list(range(100))
        until(pipeline, lambda: pipeline.settled(0))
        assert len(pipeline.workers) == 1
        assert sum(pipeline.statistics().stages[0].worker_items) == 100


def test_idle_workers_leave_too() -> None:
    with Pipeline([stage(abs, 8)]) as pipeline:
        pipeline.resize(0, 2)
        until(pipeline, lambda: len(pipeline.workers) == 2)


@contextmanager
def bound(entered: list[str], name: str, gate: threading.Event | None = None) -> Iterator[Callable[[int], Any]]:
    entered.append(name)
    if gate is not None:
        assert gate.wait(WAIT_S)
    yield lambda value: (name, value)
    entered.append(f"-{name}")


def test_other_steps_take_over_once_they_are_entered() -> None:
    entered: list[str] = []
    gate = threading.Event()
    old = Step("work", lambda: bound(entered, "old"))
    new = Step("work", lambda: bound(entered, "new", gate))
    with Pipeline([Stage("work", (old,), 2)]) as pipeline:

        def names() -> set[str]:
            with pipeline.flow(one_by_one(range(20)), Window()) as flow:
                values = [value for parcel in flow for value in parcel.values]
            assert [value for _, value in values] == list(range(20))
            return {name for name, _ in values}

        pipeline.resize(0, 2, (new,))
        assert names() == {"old"}  # nobody waits for those that are not ready
        assert not pipeline.settled(0)
        gate.set()
        until(pipeline, lambda: pipeline.settled(0))
        assert names() == {"new"}
        pipeline.resize(0, 2, (old,))
        until(pipeline, lambda: pipeline.settled(0))
        assert names() == {"old"}
    assert sorted(entered) == sorted(["old"] * 4 + ["-old"] * 4 + ["new"] * 2 + ["-new"] * 2)


def test_each_that_leaves_has_one_in_its_place() -> None:
    """Of two that are to take over one is ready: one of the old ones stays."""
    gate, gone = threading.Event(), threading.Semaphore(1)

    @contextmanager
    def one_ready() -> Iterator[Callable[[int], int]]:
        if not gone.acquire(blocking=False):
            assert gate.wait(WAIT_S)
        yield abs

    old, new = Step.of("work", abs), Step("work", one_ready)
    with Pipeline([Stage("work", (old,), 2)]) as pipeline:
        pipeline.resize(0, 2, (new,))
        until(pipeline, lambda: any(one.entered and one.steps == (new,) for one in pipeline.workers))
        with pipeline.lock:
            staying = [one.steps[0].name for one in pipeline.workers if not one.leaving and one.steps == (old,)]
        assert staying == ["work"]
        gate.set()
        until(pipeline, lambda: pipeline.settled(0))


def test_one_that_cannot_begin_is_needed_where_the_others_leave() -> None:
    with Pipeline([stage(Meeting(2), 2)]) as pipeline:
        crew = pipeline._crew
        with pipeline.flow(one_by_one(range(10)), Window()) as flow:
            assert len([value for parcel in flow for value in parcel.values]) == 10  # both have entered
        with pipeline.lock:
            late = crew._worker(0)
            late.extra = True
            assert crew.can_spare(late)
            for one in pipeline.workers:
                one.leaving = True
            assert not crew.can_spare(late)
            for one in pipeline.workers:
                one.leaving = False
            crew.forget(late)


def test_workers_that_cannot_begin_are_done_without() -> None:
    def broken() -> Any:
        raise OSError("no process may be had")

    old, new = Step.of("work", abs), Step("work", broken)
    with Pipeline([Stage("work", (old,), 2)]) as pipeline:
        pipeline.resize(0, 2, (new,))
        until(pipeline, lambda: pipeline.posts[0].refusal is not None and len(pipeline.workers) == 2)  # both have left
        assert "no process" in str(pipeline.refusal(0))
        assert pipeline.refusal(0) is None  # told once
        pipeline.resize(0, 2, (old,))
        with pipeline.flow(one_by_one(range(20)), Window()) as flow:
            assert [value for parcel in flow for value in parcel.values] == list(range(20))


def test_no_thread_may_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Pipeline([stage(abs, 2)]) as pipeline:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            pipeline.resize(0, 4)
        assert "can't start" in str(pipeline.refusal(0))
        pipeline.resize(0, 2)
        assert pipeline.settled(0)


def test_seconds_of_workers_are_counted_while_their_number_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("penstock._engine.post.time.perf_counter", lambda: now[0])
    with Pipeline([stage(abs, 2)]) as pipeline:
        now[0] += 10.0
        assert pipeline.statistics().stages[0].staffed_s == 0.0  # all the time as many as now
        pipeline.resize(0, 5)
        now[0] += 2.0
        assert pipeline.statistics().stages[0].staffed_s == 2 * 10.0 + 5 * 2.0


def test_the_window_follows_the_workers_and_its_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    batches, window = Stage("work", (Step.of("work", list, block=4),), 1), Window(min_items=8, max_items=1000)
    with Pipeline([batches]) as pipeline, pipeline.flow(one_by_one(range(0)), window) as flow:

        def allowed() -> int:
            return flow.statistics().window

        with pipeline.lock:
            flow.gate.came_out(1000)
        pipeline.resize(0, 16)
        assert allowed() == 2 * 16 * 4
        pipeline.resize(0, 1)
        assert allowed() == 8
        pipeline.widen(2)
        assert allowed() == 16
        monkeypatch.setattr(pipeline, "rate", lambda: 400.0)  # a window of a quarter of a second
        assert allowed() == 200
        pipeline.widen(1)
        assert allowed() == 100
        with pipeline.lock:
            flow.gate.measured(1 << 20, 1)
        held = (1 << 30) // (1 << 20)
        monkeypatch.setattr(pipeline, "rate", lambda: 1e6)
        assert allowed() == 1000 < held


def test_a_worker_that_cannot_begin_is_no_loss_only_where_others_work() -> None:
    def broken() -> Any:
        raise OSError("no process may be had")

    stuck = Step("work", broken)
    pipeline = Pipeline([stage(abs, 1)])

    def end() -> None:
        with pipeline:
            until(pipeline, lambda: pipeline.workers[0].entered)
            pipeline.resize(0, 1, (stuck,))
            until(pipeline, lambda: pipeline.posts[0].refusal is not None)  # the other one is there still
            with pipeline.lock:
                pipeline.workers[0].entered = False  # as one is that took the place of a stuck one
            pipeline.resize(0, 1, (stuck,))
            until(pipeline, lambda: pipeline._error is not None)

    with pytest.raises(OSError, match="no process"):
        end()


def test_what_those_who_left_waited_for_a_cpu_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._engine.crew.delayed_s", lambda *_: 1.5)
    with Pipeline([stage(abs, 4)]) as pipeline:
        assert pipeline.delayed_s() == 6.0
        pipeline.resize(0, 1)
        until(pipeline, lambda: len(pipeline.workers) == 1)
        assert pipeline.delayed_s() == 6.0


@given(st.lists(st.integers(1, 6), max_size=8), st.integers(1, 3), st.booleans())
def test_whatever_is_changed_each_item_comes_out_once(changes: list[int], workers: int, ordered: bool) -> None:
    steps = [(Step.of("work", lambda value: value + 1),) for _ in range(3)]
    with Pipeline([Stage("work", steps[0], workers)]) as pipeline:
        with pipeline.flow(one_by_one(range(400)), Window(max_items=64), ordered=ordered) as flow:
            values: list[int] = []
            for i, parcel in enumerate(flow):
                values.extend(parcel.values)
                if i < len(changes):
                    pipeline.resize(0, changes[i], steps[changes[i] % 3])
        assert (values if ordered else sorted(values)) == list(range(1, 401))
        until(pipeline, lambda: pipeline.settled(0))
        assert sum(pipeline.statistics().stages[0].worker_items) == 400
    assert living(pipeline) == 0
