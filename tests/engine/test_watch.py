"""The watch: how long each worker has been at the item in hand, whatever happens to the clock; who is gone."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import cast

import pytest

from penstock._contracts import Item
from penstock._engine.chunks import one_by_one
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock._engine.watch import Watch, death, in_hand, line_of, names_of, stacks_of
from penstock._engine.work import Lease, Worker
from penstock.errors import PenstockError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def worker_at(clock: Clock, done: int = 0, block: int | None = None, n: int = 10) -> Worker:
    flow = cast("Flow", SimpleNamespace(closed=False, tickets=None))
    parcel = Parcel(flow, 0, (0, n), range(n), range(n), list(range(n)))
    lease = Lease(parcel, Step.of("decode", len, block=block), parcel.values, list(range(done)), clock.now)
    return Worker(0, 0, threading.current_thread(), lease=lease)


def waited_s(watch: Watch, worker: Worker, clock: Clock, seconds: float) -> float:
    """Look again and again for so long; return how long the worker has been at its item by then."""
    held = watch.look([worker])
    end = clock.now + seconds
    while clock.now < end - 1e-9:
        clock.now += watch.period_s
        held = watch.look([worker])
    return held[0].waited_s


def test_an_item_is_timed_from_its_own_beginning(clock: Clock) -> None:
    """A slice of 10 items may take longer than one item may."""
    watch, worker = Watch(100.0, clock), worker_at(clock, done=4)
    assert waited_s(watch, worker, clock, 99.0) == pytest.approx(99.0)
    assert worker.lease is not None
    worker.lease.out.append(4)
    assert waited_s(watch, worker, clock, 50.0) == pytest.approx(50.0)


def test_the_first_item_is_timed_from_the_beginning_of_its_slice(clock: Clock) -> None:
    watch, worker = Watch(2.0, clock), worker_at(clock)
    clock.now += 0.4
    assert watch.look([worker])[0].waited_s == pytest.approx(0.4)


def test_stuck_is_who_takes_longer_than_the_limit(clock: Clock) -> None:
    watch, worker = Watch(2.0, clock), worker_at(clock)
    waited_s(watch, worker, clock, 2.0)
    assert watch.stuck(watch.look([worker])) == []
    clock.now += 0.5
    assert [held.worker for held in watch.stuck(watch.look([worker]))] == [worker]
    assert Watch(None, clock).stuck(watch.look([worker])) == []


def test_no_item_is_blamed_for_a_halt_of_the_process_or_a_jump_of_the_clock(clock: Clock) -> None:
    """SIGSTOP and SIGCONT, a laptop that slept, a virtual machine that was moved."""
    watch, worker = Watch(100.0, clock), worker_at(clock)
    watch.look([worker])
    clock.now += 86_400.0
    assert watch.stuck(watch.look([worker])) == []
    assert waited_s(watch, worker, clock, 99.0) > 100.0  # and is still found when it is really stuck


def test_a_new_lease_at_the_address_of_an_old_one_is_new(clock: Clock) -> None:
    """Leases come and go by the thousand, and Python gives their addresses out again."""
    watch, worker = Watch(100.0, clock), worker_at(clock)
    assert waited_s(watch, worker, clock, 90.0) == pytest.approx(90.0)
    object.__setattr__(worker.lease, "begun", clock.now)
    assert watch.look([worker])[0].waited_s == 0.0


def test_a_worker_without_a_lease_is_idle(clock: Clock) -> None:
    watch, worker = Watch(100.0, clock), worker_at(clock)
    worker.lease = None
    assert watch.look([worker]) == []


@pytest.mark.parametrize(("limit", "period"), [(None, 1.0), (0.1, 0.025), (60.0, 1.0), (1e-9, 0.01)])
def test_it_looks_often_enough_to_see_in_time(limit: float | None, period: float) -> None:
    assert Watch(limit).period_s == period


# ---- what it says


@pytest.mark.parametrize(
    ("block", "done", "n"), [(None, 0, 1), (None, 3, 1), (4, 0, 4), (4, 5, 3), (4, 8, 2), (4, 10, 1)]
)
def test_in_hand_is_an_item_or_what_is_left_of_a_batch(clock: Clock, block: int | None, done: int, n: int) -> None:
    lease = worker_at(clock, done, block).lease
    assert lease is not None
    assert in_hand(lease, done) == n


def test_a_line_names_stage_items_and_seconds(clock: Clock) -> None:
    watch, worker = Watch(100.0, clock), worker_at(clock, 5, 5)
    watch.look([worker])
    clock.now += 1.5
    assert line_of(watch.look([worker])[0]) == "stage 'decode' has worked on 5, 6, 7 and 2 more for 1.5 s"


def test_names_are_shown_and_not_obeyed() -> None:
    assert names_of([Item("a\x1b[31m.jpg"), Item("b\nc"), Item("d\u202e")]) == "a\\x1b[31m.jpg, b\\nc, d\\u202e"


def test_stacks_are_of_the_threads_that_live() -> None:
    event, inside = threading.Event(), threading.Event()

    def wait_at_the_gate() -> None:
        inside.set()
        assert event.wait(20)

    thread = threading.Thread(target=wait_at_the_gate, name="here")
    thread.start()
    assert inside.wait(20)
    text = stacks_of([thread, threading.Thread(name="never started")])
    event.set()
    thread.join(20)
    assert "--- here" in text
    assert "in wait_at_the_gate" in text
    assert "never started" not in text
    assert stacks_of([thread]) == ""


# ---- who is gone


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
    assert isinstance(death(pipeline.workers), PenstockError)
