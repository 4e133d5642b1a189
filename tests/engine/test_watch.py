"""The watch (rules 1, 2 and 10): a stuck item is named with its stack, a worker that is gone is noticed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from penstock._contracts import Item
from penstock._engine.chunks import listed, one_by_one
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock._engine.watch import Watch
from penstock._engine.work import Lease, Worker
from penstock.errors import PenstockError, Stalled

WAIT_S = 20.0


@contextmanager
def gate() -> Iterator[Callable[[], None]]:
    """Give a function that blocks until the end of the test."""
    event = threading.Event()

    def wait_at_the_gate() -> None:
        assert event.wait(WAIT_S)

    try:
        yield wait_at_the_gate
    finally:
        event.set()


def stalled(take: Any, step: Step, *, ordered: bool = True) -> str:
    with (
        Pipeline([Stage("work", (step,), 2)], item_timeout_s=0.05) as pipeline,
        pipeline.flow(take, Window(), ordered=ordered) as flow,
        pytest.raises(Stalled) as caught,
    ):
        list(flow)
    return str(caught.value)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stuck_item_ends_the_flow_with_stage_item_and_stack(ordered: bool) -> None:
    items = [Item(f"photos/{i}.jpg") for i in range(100)]
    with gate() as block:
        message = stalled(
            listed(enumerate(items)),
            Step.of("decode", lambda item: block() if item.id == "photos/57.jpg" else item),
            ordered=ordered,
        )
    assert "stage 'decode' has worked on photos/57.jpg for 0." in message
    assert "(limit 0.05 s)" in message
    assert "item_timeout_s" in message
    assert "--- penstock-work-" in message
    assert "in wait_at_the_gate" in message


def test_of_a_stuck_batch_all_items_are_named() -> None:
    with gate() as block:
        step = Step.of("model", lambda xs: block() if 13 in xs else xs, block=5)
        message = stalled(one_by_one(range(100)), step)
    assert "stage 'model' has worked on 10, 11, 12 and 2 more for" in message


def test_others_that_come_out_do_not_hide_a_stuck_one() -> None:
    """The consumer never waits in vain here, and must look all the same."""
    fed = threading.Semaphore(0)

    def endless() -> Iterator[int]:
        i = 0
        while True:
            assert fed.acquire(timeout=WAIT_S)
            yield i
            i += 1

    def consume(flow: Flow) -> None:
        for parcel in flow:
            fed.release(len(parcel))

    with gate() as block:
        step = Step.of("decode", lambda x: block() if x == 0 else x)
        with (
            Pipeline([Stage("work", (step,), 2)], item_timeout_s=0.05) as pipeline,
            pipeline.flow(one_by_one(endless()), Window(), ordered=False, linger_s=0.0) as flow,
        ):
            fed.release(2)
            with pytest.raises(Stalled):
                consume(flow)
            fed.release(2)


def test_without_a_limit_nothing_is_stalled() -> None:
    with gate() as block:
        step = Step.of("decode", lambda x: block())
        with Pipeline([Stage("work", (step,), 1)]) as pipeline, pipeline.flow(one_by_one([1]), Window()) as flow:
            for _ in range(5):
                pipeline._look_at = 0.0
                assert flow.collect(0.0) == []
            assert pipeline._error is None
            flow.close()


def test_a_worker_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "_run", lambda self: None)
    with (
        Pipeline([Stage("work", (Step.of("work", len),), 2)]) as pipeline,
        pipeline.flow(one_by_one([1]), Window()) as flow,
        pytest.raises(PenstockError, match="penstock-work-0, penstock-work-1 ended without a word"),
    ):
        list(flow)


def test_workers_that_end_because_they_shall_are_not_missed() -> None:
    with Pipeline([Stage("work", (Step.of("work", len),), 2)]) as pipeline:
        pass
    pipeline._look_at = 0.0
    pipeline.watch()
    assert pipeline._error is None


# ---- the watch alone


def worker_at(begun_s_ago: float, done: int = 0, positions: range = range(10)) -> Worker:
    flow = cast("Flow", SimpleNamespace(closed=False, tickets=None))
    parcel = Parcel(flow, 0, (0, len(positions)), positions, positions, list(positions))
    step = Step.of("decode", len)
    lease = Lease(parcel, step, parcel.values, list(range(done)), time.perf_counter() - begun_s_ago)
    return Worker(0, 0, threading.current_thread(), lease=lease)


def later(watch: Watch, seconds: float) -> None:
    """Let the watch have seen everything that much longer ago."""
    watch._seen = {key: (begun, done, since - seconds) for key, (begun, done, since) in watch._seen.items()}


def test_an_item_is_timed_from_its_own_beginning() -> None:
    """A slice of 10 items may take longer than one item may."""
    watch, worker = Watch(100.0), worker_at(300.0, done=4)
    assert watch.look([worker]) is None
    later(watch, 300.0)
    assert isinstance(watch.look([worker]), Stalled)
    assert worker.lease is not None
    worker.lease.out.append(4)
    assert watch.look([worker]) is None


def test_the_first_item_is_timed_from_the_beginning_of_its_slice() -> None:
    problem = Watch(100.0).look([worker_at(300.0)])
    assert isinstance(problem, Stalled)
    assert "has worked on 0 for 300." in str(problem)


def test_a_new_lease_at_the_address_of_an_old_one_is_new() -> None:
    """Leases come and go by the thousand, and Python gives their addresses out again."""
    watch, worker = Watch(100.0), worker_at(99.0)
    assert watch.look([worker]) is None
    object.__setattr__(worker.lease, "begun", time.perf_counter())
    later(watch, 300.0)
    assert watch.look([worker]) is None


def test_a_worker_without_a_lease_is_idle() -> None:
    watch, worker = Watch(100.0), worker_at(300.0)
    worker.lease = None
    assert watch.look([worker]) is None


@pytest.mark.parametrize(("limit", "period"), [(None, 1.0), (0.1, 0.025), (60.0, 1.0), (1e-9, 0.01)])
def test_it_looks_often_enough_to_see_in_time(limit: float | None, period: float) -> None:
    assert Watch(limit).period_s == period
