"""Rule 10: a stuck thread costs its item, not the run; it is replaced, and what it brings one day is dropped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from penstock._contracts import Failure, Item
from penstock._engine.chunks import listed, one_by_one
from penstock._engine.flow import Flow, Take
from penstock._engine.pipeline import Pipeline
from penstock._engine.relief import LEAST_LIMIT
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock._engine.tickets import Ticket
from penstock.errors import Stalled

WAIT_S, LIMIT_S = 20.0, 0.1


class Gate:
    """Where things get stuck until the end of the test."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.at: list[Any] = []

    def wait_at_the_gate(self, what: Any) -> None:
        self.at.append(what)
        assert self.event.wait(WAIT_S)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.event.set()


@contextmanager
def running(stages: Sequence[Stage], take: Take, *, ordered: bool = True) -> Iterator[tuple[Pipeline, Flow]]:
    pipeline = Pipeline(stages, item_timeout_s=LIMIT_S)
    with pipeline, pipeline.flow(take, Window(), ordered=ordered) as flow:
        yield pipeline, flow


def results(flow: Flow) -> dict[int, Any]:
    """Return the values by position; each position comes once."""
    found: dict[int, Any] = {}
    for parcel in flow:
        for position, value in zip(parcel.positions, parcel.values, strict=True):
            assert position not in found
            found[position] = value
    return found


def stuck_at(gate: Gate, *items: Any, fn: Callable[[Any], Any] = lambda x: x) -> Callable[[Any], Any]:
    """Return a function that gets stuck at `items`, and otherwise gives what `fn` does."""

    def one(x: Any) -> Any:
        if x in items:
            gate.wait_at_the_gate(x)
        return fn(x)

    return one


def noting(seen: list[int]) -> Callable[[int], int]:
    def note(x: int) -> int:
        seen.append(x)
        return x

    return note


def stuck_batch(gate: Gate, *items: Any) -> Callable[[list[Any]], list[Any]]:
    def batch(xs: list[Any]) -> list[Any]:
        if set(items) & set(xs):
            gate.wait_at_the_gate(list(xs))
        return [-x for x in xs]

    return batch


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("at", [0, 57, 99])
def test_a_stuck_item_fails_and_the_others_come_out(gate: Gate, at: int, ordered: bool) -> None:
    seen: list[int] = []

    def note(x: int) -> int:
        seen.append(x)
        return 10 * x

    stages = [Stage("work", (Step.of("read", note), Step.of("decode", stuck_at(gate, 10 * at))), 2)]
    with running(stages, one_by_one(range(100)), ordered=ordered) as (pipeline, flow):
        found = results(flow)
        notes = pipeline.statistics().notes
        steps = pipeline.statistics().stages[0].steps
    failure = found.pop(at)
    assert (failure.stage, failure.type) == ("decode", "Stalled")
    assert f"stage 'decode' has worked on {at} for 0." in failure.message
    assert "longer than the 0.1 s allowed" in failure.message
    assert "item_timeout_s" in failure.message
    assert found == {x: 10 * x for x in range(100) if x != at}
    assert sorted(seen) == list(range(100))  # each item once in each step
    assert notes == {"stuck in stage 'decode' and given up with the thread": 1}
    assert [(step.items, step.failed) for step in steps] == [(100, 0), (100, 1)]


def test_what_a_stuck_worker_has_done_still_counts(gate: Gate) -> None:
    """For the worker in its place: the items of each are shown."""
    stages = [Stage("work", (Step.of("decode", stuck_at(gate, 99)),), 1)]
    with running(stages, one_by_one(range(100))) as (pipeline, flow):
        results(flow)
        assert sum(pipeline.statistics().stages[0].worker_items) == 100


def test_it_is_logged_with_the_stack(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    items = [Item(f"photos/{i}.jpg") for i in range(20)]
    step = Step.of("decode", lambda item: gate.wait_at_the_gate(item) if item.id == "photos/7.jpg" else item)
    with running([Stage("work", (step,), 2)], listed(enumerate(items))) as (_, flow):
        results(flow)
    (record,) = [record for record in caplog.records if record.name == "penstock"]
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert "stage 'decode' has worked on photos/7.jpg for 0." in message
    assert "(limit 0.1 s). It is failed, and its thread is given up." in message
    assert "--- penstock-work-" in message
    assert "in wait_at_the_gate" in message


def test_a_stuck_batch_is_asked_again_one_by_one(gate: Gate) -> None:
    """Its culprit cannot be known; the others of the batch are not lost with it."""
    stages = [Stage("model", (Step.of("model", stuck_batch(gate, 13), block=5),), 2)]
    with running(stages, one_by_one(range(50))) as (pipeline, flow):
        found = results(flow)
        notes = pipeline.statistics().notes
    assert gate.at == [[10, 11, 12, 13, 14], [13]]
    assert found.pop(13).type == "Stalled"
    assert found == {x: -x for x in range(50) if x != 13}
    assert notes == {
        "stuck in stage 'model' and given up with the thread": 1,
        "asked again alone, as their batch was stuck in stage 'model'": 5,
    }


def test_fused_steps_before_a_stuck_batch_are_not_done_again(gate: Gate) -> None:
    seen: list[int] = []
    steps = (
        Step.of("read", noting(seen)),
        Step.of("model", stuck_batch(gate, 13), block=5),
        Step.of("write", noting(seen)),
    )
    with running([Stage("all", steps, 2)], one_by_one(range(50))) as (_, flow):
        found = results(flow)
    assert type(found.pop(13)) is Failure
    assert found == {x: -x for x in range(50) if x != 13}
    assert sorted(seen) == sorted([*range(50), *(-x for x in range(50) if x != 13)])


def test_stages_behind_a_stuck_one_get_whole_batches_of_the_rest(gate: Gate) -> None:
    stages = [
        Stage("read", (Step.of("read", stuck_at(gate, 21)),), 2),
        Stage("model", (Step.of("model", lambda xs: [-x for x in xs], block=8),), 1),
    ]
    with running(stages, one_by_one(range(64))) as (_, flow):
        found = results(flow)
    assert type(found.pop(21)) is Failure
    assert found == {x: -x for x in range(64) if x != 21}


def test_a_late_answer_is_dropped(gate: Gate) -> None:
    """The thread comes back when its item has failed long ago, and neither gives an answer nor begins another."""
    seen: list[int] = []

    def late(x: int) -> int:
        seen.append(x)
        if x == 3:
            gate.wait_at_the_gate(x)
        return x

    after: list[int] = []
    steps = (Step.of("late", late), Step.of("write", noting(after)))
    with running([Stage("work", steps, 1)], one_by_one(range(30))) as (pipeline, flow):
        (old,) = pipeline.workers
        found = results(flow)
        assert pipeline._relief.given_up() == [old.thread]
        assert pipeline.workers[0].thread.name == "penstock-work-0+"
        gate.event.set()
        old.thread.join(WAIT_S)
        assert not old.thread.is_alive()
        assert pipeline._relief.given_up() == []
    assert type(found[3]) is Failure
    assert sorted(seen) == list(range(30))
    assert sorted(after) == [x for x in range(30) if x != 3]


def test_what_a_late_thread_has_left_is_not_given_back_twice(gate: Gate) -> None:
    """It comes back while the flow is on, from the first of several slices of its parcel; it takes no other."""
    second = Gate()

    def late(x: int) -> int:
        if x == 3:
            gate.wait_at_the_gate(x)
        if x == 60:
            second.wait_at_the_gate(x)
        return x

    threads: list[str] = []

    def note(x: int) -> int:
        threads.append(threading.current_thread().name)
        return x

    steps = (Step.of("late", late), Step.of("note", note))
    stages = [Stage("a", steps, 1), Stage("b", (Step.of("b", list, block=64),), 1), Stage("c", (Step.of("c", abs),), 1)]
    with running(stages, one_by_one(range(128))) as (pipeline, flow):
        old = pipeline.workers[0]
        while not second.at:
            flow.collect(0.01)
        gate.event.set()
        old.thread.join(WAIT_S)
        threads.clear()
        second.event.set()
        found = results(flow)
    assert type(found.pop(3)) is Failure
    assert found == {x: x for x in range(128) if x != 3}
    assert old.thread.name not in threads


def test_an_error_of_a_thread_that_was_given_up_harms_nobody(gate: Gate) -> None:
    class FullError(Exception):
        stops_run = True

    def fails_late(x: int) -> int:
        if x == 3 and not gate.at:
            gate.wait_at_the_gate(x)
            raise FullError
        return x

    with running([Stage("work", (Step.of("write", fails_late),), 2)], one_by_one(range(30))) as (pipeline, flow):
        old = list(pipeline.workers)
        assert len(results(flow)) == 30
        gate.event.set()
        for worker in old:
            if worker not in pipeline.workers:
                worker.thread.join(WAIT_S)
        with pipeline.flow(one_by_one(range(5)), Window()) as other:
            assert results(other) == {x: x for x in range(5)}


def test_a_replacement_binds_anew(gate: Gate) -> None:
    bound: list[str] = []

    @contextmanager
    def bind() -> Iterator[Callable[[int], int]]:
        bound.append(threading.current_thread().name)
        yield stuck_at(gate, 5)

    with running([Stage("work", (Step("model", bind),), 1)], one_by_one(range(20))) as (_, flow):
        results(flow)
    assert bound == ["penstock-work-0", "penstock-work-0+"]


def test_a_serial_stage_cannot_be_relieved(gate: Gate) -> None:
    """Its lock is held by the thread that is stuck: the run stops, and says which items are to be left out."""
    stages = [Stage("model", (Step.of("model", stuck_batch(gate, 13), block=5),), 1, serial=True)]
    with running(stages, one_by_one(range(50))) as (_, flow), pytest.raises(Stalled) as caught:
        results(flow)
    assert "Stage 'model' may be entered by one thread at a time" in str(caught.value)
    assert "stage 'model' has worked on 10, 11, 12 and 2 more for" in str(caught.value)
    assert "in wait_at_the_gate" in str(caught.value)
    assert [(position, item) for position, item, _ in caught.value.lost] == [(x, x) for x in range(10, 15)]
    assert {failure.type for _, _, failure in caught.value.lost} == {"Stalled"}


def test_there_is_a_limit_to_the_threads_that_are_left_behind(gate: Gate) -> None:
    stages = [Stage("work", (Step.of("work", stuck_at(gate, *range(10, 90))),), 2)]
    with running(stages, one_by_one(range(100))) as (pipeline, flow), pytest.raises(Stalled) as caught:
        results(flow)
    assert f"{LEAST_LIMIT} threads are stuck already, and no more than {LEAST_LIMIT} may be" in str(caught.value)
    assert len(pipeline._relief.given_up()) >= LEAST_LIMIT
    lost = {position for position, _, _ in caught.value.lost}
    assert len(lost) > LEAST_LIMIT
    assert lost <= set(gate.at)


def test_threads_that_came_back_do_not_count() -> None:
    """Items that are slow and not stuck for ever may be any number: each comes back when it was given up."""
    slow = {x: threading.Event() for x in range(0, 30, 3)}

    def one(x: int) -> int:
        assert x not in slow or slow[x].wait(WAIT_S)
        return x

    found: dict[int, Any] = {}
    with running([Stage("work", (Step.of("work", one),), 2)], one_by_one(range(30))) as (pipeline, flow):
        while (parcels := flow.collect(LIMIT_S / 4)) is not None:
            for parcel in parcels:
                found.update(zip(parcel.positions, parcel.values, strict=True))
            left = pipeline._relief.given_up()
            for position, _, _ in pipeline._relief._lost:
                slow[position].set()
            for thread in left:
                thread.join(WAIT_S)
    assert [x for x in range(30) if type(found[x]) is Failure] == list(slow)


def test_others_that_come_out_do_not_hide_a_stuck_one(gate: Gate) -> None:
    """The consumer never waits in vain here, and must look all the same."""
    fed = threading.Semaphore(0)

    def endless() -> Iterator[int]:
        i = 0
        while True:
            assert fed.acquire(timeout=WAIT_S)
            yield i
            i += 1

    with (
        Pipeline([Stage("work", (Step.of("decode", stuck_at(gate, 0)),), 2)], item_timeout_s=LIMIT_S) as pipeline,
        pipeline.flow(one_by_one(endless()), Window(), ordered=False, linger_s=0.0) as flow,
    ):
        fed.release(2)
        for parcel in flow:
            fed.release(len(parcel))
            if 0 in parcel.positions:
                break
        flow.close(timeout_s=0.0)
        fed.release(2)


def test_an_item_of_a_closed_flow_holds_no_worker(gate: Gate) -> None:
    stages = [Stage("work", (Step.of("work", stuck_at(gate, 1)),), 1)]
    with Pipeline(stages, item_timeout_s=LIMIT_S) as pipeline:
        with pipeline.flow(one_by_one([1, 1]), Window()) as flow:
            while not gate.at:
                flow.collect(0.01)
        with pipeline.flow(one_by_one(range(2, 10)), Window()) as flow:
            assert results(flow) == {x - 2: x for x in range(2, 10)}
    assert gate.at == [1]


def test_where_no_more_threads_may_be_had_the_flow_ends(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [Stage("work", (Step.of("work", stuck_at(gate, 5)),), 1)]
    with running(stages, one_by_one(range(20))) as (_, flow):

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Stalled, match="Another thread cannot be had in the place of penstock-work-0"):
            results(flow)


# ---- items put in one by one


class Told(Ticket):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.heard = threading.Event()

    def begin(self) -> bool:
        return True

    def finish(self, item: int, value: Any) -> None:
        self.values.append(value)
        self.heard.set()

    def drop(self, item: int, error: BaseException | None) -> None:
        self.values.append(error)
        self.heard.set()


def test_tickets_hear_of_a_stuck_item_once(gate: Gate) -> None:
    stages = [Stage("work", (Step.of("work", stuck_at(gate, 2)),), 1)]
    tickets = [Told() for _ in range(5)]
    with Pipeline(stages, item_timeout_s=LIMIT_S) as pipeline, pipeline.inlet(Window(), 0.0) as inlet:
        (old,) = pipeline.workers
        for value, ticket in enumerate(tickets):
            inlet.put(value, ticket)
        while not tickets[-1].heard.wait(LIMIT_S / 4):
            pipeline.watch()
        gate.event.set()
        old.thread.join(WAIT_S)
    assert [len(ticket.values) for ticket in tickets] == [1] * 5
    assert [type(ticket.values[0]) is Failure for ticket in tickets] == [x == 2 for x in range(5)]
