"""Stopping (rule 3): one token wakes everything, full or empty, and nothing is left over. No item is begun after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from penstock._engine.chunks import one_by_one
from penstock._engine.flow import SOURCE_STOP_S, Flow
from penstock._engine.pipeline import STOP_S, Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock.errors import Cancelled

WAIT_S = 20.0


def stage(fn: Callable[..., Any], workers: int = 1, block: int | None = None, name: str = "work") -> Stage:
    return Stage(name, (Step.of(name, fn, block=block),), workers)


def gate_of(event: threading.Event) -> None:
    assert event.wait(WAIT_S), "the test never opened the gate"


def deliver(flow: Flow, n: int) -> list[Any]:
    """Collect until `n` items came out, and give no room back."""
    values: list[Any] = []
    while len(values) < n:
        parcels = flow.collect(1.0)
        assert parcels is not None
        values.extend(value for parcel in parcels for value in parcel.values)
    return values


def ends(action: Callable[[], object]) -> None:
    """Run `action` in a thread, which must come to an end."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive()


def penstock_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("penstock"))


# ---- a flow


def test_drain_admits_nothing_more_and_lets_out_what_is_in_flight() -> None:
    gate, begun, read = threading.Event(), threading.Event(), []

    def source() -> Iterator[int]:
        for i in range(1000):
            read.append(i)
            yield i

    def slow(x: int) -> int:
        begun.set()
        gate_of(gate)
        return x

    with (
        Pipeline([stage(slow, 2)]) as pipeline,
        pipeline.flow(one_by_one(source()), Window(32, 32)) as flow,
    ):
        assert begun.wait(WAIT_S)
        flow.drain()
        admitted = flow.statistics().admitted
        gate.set()
        assert [v for parcel in flow for v in parcel.values] == list(range(admitted))
        assert 1 <= admitted <= 32
        flow._thread.join(WAIT_S)
        assert len(read) <= admitted + 32  # and what it was reading when it was told


def test_drain_ends_a_flow_whose_source_is_blocked() -> None:
    gate = threading.Event()

    def trickle() -> Iterator[int]:
        yield 1
        gate_of(gate)
        yield 2

    with (
        Pipeline([stage(lambda x: x)]) as pipeline,
        pipeline.flow(one_by_one(trickle()), Window(), linger_s=60.0) as flow,
    ):
        assert deliver(flow, 1) == [1]
        flow.drain()
        assert flow.collect(1.0) is None
        gate.set()


def test_a_consumer_that_waits_hears_of_a_close() -> None:
    gate, heard = threading.Event(), []

    def blocked() -> Iterator[int]:
        gate_of(gate)
        yield 1

    with Pipeline([stage(lambda x: x)]) as pipeline, pipeline.flow(one_by_one(blocked()), Window()) as flow:

        def consume() -> None:
            try:
                list(flow)
            except Cancelled as error:
                heard.append(str(error))

        consumer = threading.Thread(target=consume)
        consumer.start()
        flow.close(timeout_s=0.0)
        consumer.join(WAIT_S)
        assert heard == ["The flow was closed before all its items were done."]
        gate.set()


def test_a_consumer_may_close_the_flow_it_iterates_over() -> None:
    with Pipeline([stage(lambda x: x)]) as pipeline, pipeline.flow(one_by_one(range(1000)), Window()) as flow:
        iterator = iter(flow)
        next(iterator)
        flow.close()
        with pytest.raises(Cancelled):
            list(iterator)
        flow.close()  # idempotent


def test_closing_a_flow_that_is_through_is_no_cancellation() -> None:
    with Pipeline([stage(lambda x: x)]) as pipeline, pipeline.flow(one_by_one(range(3)), Window()) as flow:
        assert list(flow)
        flow.close()
        assert flow.collect(1.0) is None


def test_a_source_may_close_its_own_flow() -> None:
    flows: list[Flow] = []

    def source() -> Iterator[int]:
        yield 1
        flows[0].close()
        yield 2

    with Pipeline([stage(lambda x: x)]) as pipeline:
        flows.append(pipeline.flow(one_by_one(source()), Window(), linger_s=0.0))
        with flows[0] as flow, pytest.raises(Cancelled):
            list(flow)


# ---- the pipeline


def test_a_stop_is_given_two_seconds() -> None:
    assert STOP_S + SOURCE_STOP_S <= 2.0


STAGES = {
    "fused": lambda: [Stage("a+b", (Step.of("a", abs), Step.of("b", list, block=4)), 3)],
    "apart": lambda: [stage(abs, 3, name="a"), stage(list, 1, block=4, name="b"), stage(abs, 2, name="c")],
}


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize("state", ["never used", "empty", "full", "half read", "through", "draining"])
def test_a_stop_leaves_nothing_over(stages: str, state: str) -> None:
    with Pipeline(STAGES[stages]()) as pipeline, ExitStack() as stack:
        if state != "never used":
            source = [] if state == "empty" else range(10 if state == "through" else 10_000)
            flow = stack.enter_context(pipeline.flow(one_by_one(source), Window(32, 32)))
            if state == "half read":
                deliver(flow, 12)
                flow.release(4)
            if state == "through":
                list(flow)
            if state == "draining":
                deliver(flow, 4)
                flow.drain()
        ends(pipeline.close)
        assert penstock_threads() == []
        assert pipeline.close() == []  # idempotent


def test_a_stop_does_not_wait_for_a_source_that_is_blocked() -> None:
    gate, reading = threading.Event(), threading.Event()

    def blocked() -> Iterator[int]:
        yield 1
        reading.set()
        gate_of(gate)
        yield 2

    with Pipeline([stage(abs)]) as pipeline, pipeline.flow(one_by_one(blocked()), Window()):
        assert reading.wait(WAIT_S)
        ends(pipeline.close)
        assert penstock_threads() == ["penstock-source"]
        gate.set()


def test_a_stop_names_the_workers_it_has_left_behind() -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def stuck(x: int) -> int:
        begun.release()
        gate_of(gate)
        return x

    with Pipeline([stage(stuck, 2)]) as pipeline, pipeline.flow(one_by_one(range(100)), Window()):
        for _ in range(2):
            assert begun.acquire(timeout=WAIT_S)
        assert pipeline.close(timeout_s=0.1) == ["penstock-work-0", "penstock-work-1"]
        gate.set()
        assert pipeline.close(timeout_s=WAIT_S) == []
        assert not begun.acquire(blocking=False)  # neither has begun another item


@pytest.mark.parametrize("whole", [True, False])
def test_a_stop_begins_no_other_item_of_the_slice_in_hand(whole: bool) -> None:
    """Of the whole pipeline, or of one flow; parcels are of 64 items, as the second stage wants them."""
    gate, begun, seen = threading.Event(), threading.Event(), []

    def slow(x: int) -> int:
        seen.append(x)
        if x == 600:
            begun.set()
            gate_of(gate)
        return x

    with Pipeline([stage(slow, name="a"), stage(list, block=64, name="b")]) as pipeline:
        with pipeline.flow(one_by_one(range(10_000)), Window(1000)) as flow:
            assert begun.wait(WAIT_S)
            if whole:
                pipeline.close(timeout_s=0.1)
            else:
                flow.close()
            gate.set()
        if not whole:
            with pipeline.flow(one_by_one([-1]), Window()) as other:
                assert [v for parcel in other for v in parcel.values] == [-1]
    assert seen == [*range(601)] + ([] if whole else [-1])


def test_a_worker_may_close_its_pipeline() -> None:
    pipelines: list[Pipeline] = []
    left: list[list[str]] = []

    def close(x: int) -> None:
        left.append(pipelines[0].close())

    pipelines.append(Pipeline([stage(close)]))
    with pipelines[0] as pipeline, pipeline.flow(one_by_one([1]), Window()) as flow, pytest.raises(Cancelled):
        list(flow)
    assert left == [[]]  # of a thread that is to end when it returns


def test_a_forgotten_flow_may_be_closed_by_a_thread_that_holds_the_lock() -> None:
    """The cycle collector runs in any thread at any time, and ends generators that iterate over a flow."""
    with Pipeline([stage(abs)]) as pipeline, pipeline.flow(one_by_one(range(10_000)), Window(32, 32)) as flow:
        deliver(flow, 8)

        def collector() -> None:
            with pipeline.lock:
                flow.close(timeout_s=0.0)

        ends(collector)


def test_what_is_left_of_a_closed_flow_is_dropped() -> None:
    gate, begun, seen = threading.Event(), threading.Event(), []

    def slow(x: int) -> int:
        begun.set()
        gate_of(gate)
        seen.append(x)
        return x

    with Pipeline([stage(slow), stage(list, 1, block=4)]) as pipeline:
        with pipeline.flow(one_by_one(range(100)), Window(32, 32)):
            assert begun.wait(WAIT_S)
        gate.set()
        with pipeline.flow(one_by_one([-1]), Window()) as flow:
            assert [v for parcel in flow for v in parcel.values] == [-1]
        assert seen == [0, -1]
        assert [s.queued for s in pipeline.statistics().stages] == [0, 0]
        assert all(post.pieces == {} for post in pipeline.posts)


def dead_consumer(flow: Flow) -> None:
    """Read two parcels in a thread that ends in an error, and neither closes the flow nor reads on."""

    def consume() -> None:
        parcels = iter(flow)
        next(parcels)
        next(parcels)

    ends(consume)


def source_of(state: str, gate: threading.Event) -> Iterator[int]:
    yield from range(0 if state == "empty" else 10 if state == "producer dead" else 10_000)
    if state == "producer dead":
        raise ConnectionError("gone")
    if state in ("empty", "producer stuck"):
        gate_of(gate)


@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(
    "state", ["full", "empty", "producer dead", "producer stuck", "consumer dead", "workers stuck", "a worker given up"]
)
def test_a_close_takes_less_than_two_seconds(stages: str, state: str) -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def stuck(x: int) -> int:
        begun.release()
        gate_of(gate)
        return x

    made = STAGES[stages]() if "worker" not in state else [stage(stuck, 2), *STAGES[stages]()]
    limit_s = 0.05 if state == "a worker given up" else None
    with Pipeline(made, item_timeout_s=limit_s) as pipeline:
        flow = pipeline.flow(one_by_one(source_of(state, gate)), Window(32, 32))
        with flow:
            if "worker" in state:
                assert begun.acquire(timeout=WAIT_S)
            if state == "a worker given up":
                while not pipeline._relief.given_up():
                    flow.collect(0.01)
            elif state == "consumer dead":
                dead_consumer(flow)
            elif state in ("full", "producer dead"):
                deliver(flow, 8)
            begun_s = time.monotonic()
            pipeline.close()
            took_s = time.monotonic() - begun_s
            gate.set()
        assert took_s < 2.0
