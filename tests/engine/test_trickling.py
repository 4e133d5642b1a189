"""Trickling sources: items that come one by one share a batch where they can, and nobody waits for what cannot come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock._engine.chunks import one_by_one
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step

WAIT_S = 20.0


def stage(fn: Callable[..., Any], workers: int = 1, block: int | None = None) -> Stage:
    return Stage("work", (Step.of("work", fn, block=block),), workers)


def gate_of(event: threading.Event) -> None:
    assert event.wait(WAIT_S), "the test never opened the gate"


@pytest.mark.parametrize("block", [1, 8])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fused", [True, False])
def test_a_source_may_wait_for_each_result_before_it_gives_the_next(block: int, workers: int, fused: bool) -> None:
    got: list[int] = []
    came = threading.Condition()

    def feedback() -> Iterator[int]:
        for i in range(20):
            with came:
                assert came.wait_for(lambda i=i: len(got) >= i, WAIT_S), "the result never came"  # type: ignore[misc]
            yield i

    steps = Step.of("a", lambda x: x + 1), Step.of("b", lambda xs: [x * 2 for x in xs], block=block)
    stages = [Stage("a+b", steps, workers)] if fused else [Stage(s.name, (s,), workers) for s in steps]
    with Pipeline(stages) as pipeline, pipeline.flow(one_by_one(feedback()), Window(), linger_s=0.0) as flow:
        for parcel in flow:
            with came:
                got.extend(parcel.values)
                came.notify()
    assert got == [(i + 1) * 2 for i in range(20)]


def batches_of(values: Any, *, block: int, linger_s: float, before: Callable[[], None] = lambda: None) -> Any:
    calls: list[list[int]] = []

    def model(batch: list[int]) -> list[int]:
        before()
        calls.append(batch)
        return batch

    with (
        Pipeline([stage(model, block=block)]) as pipeline,
        pipeline.flow(one_by_one(values), Window(), linger_s=linger_s) as flow,
    ):
        assert [v for parcel in flow for v in parcel.values] == list(range(len(values)))
    return calls


def test_items_that_trickle_wait_for_others_to_share_a_batch() -> None:
    """60 s of patience are never used up: a full batch goes at once, and the end of the source ends the waiting."""
    assert batches_of(range(18), block=8, linger_s=60.0) == [[*range(8)], [*range(8, 16)], [16, 17]]


@pytest.mark.parametrize("linger_s", [0.0, 60.0])
def test_batches_of_a_trickling_source_are_never_wider_than_the_block(linger_s: float) -> None:
    calls = batches_of(range(500), block=8, linger_s=linger_s)
    assert [x for call in calls for x in call] == list(range(500))
    assert max(map(len, calls)) <= 8


def test_one_flow_that_waits_for_more_holds_no_other_up() -> None:
    gate, waiting = threading.Event(), threading.Event()

    def trickle() -> Iterator[int]:
        yield 0
        waiting.set()
        gate_of(gate)

    with (
        Pipeline([stage(lambda xs: xs, block=4)]) as pipeline,
        pipeline.flow(one_by_one(trickle()), Window(), linger_s=60.0) as patient,
    ):
        assert waiting.wait(WAIT_S)
        with pipeline.flow(one_by_one(range(40)), Window()) as other:
            assert [v for parcel in other for v in parcel.values] == list(range(40))
        gate.set()
        assert [v for parcel in patient for v in parcel.values] == [0]


def test_the_patience_of_a_source_that_is_told_to_drain_ends() -> None:
    gate, waiting = threading.Event(), threading.Event()

    def trickle() -> Iterator[int]:
        yield 0
        waiting.set()
        gate_of(gate)

    with (
        Pipeline([stage(lambda xs: xs, block=4)]) as pipeline,
        pipeline.flow(one_by_one(trickle()), Window(), linger_s=60.0) as flow,
    ):
        assert waiting.wait(WAIT_S)
        flow.drain()
        assert [v for parcel in flow for v in parcel.values] == [0]
        gate.set()


def test_two_patient_flows_fill_their_own_batches() -> None:
    calls: list[list[int]] = []
    turns = threading.Semaphore(1), threading.Semaphore(0)

    def turn_by_turn(me: int) -> Iterator[int]:
        for i in range(8):
            assert turns[me].acquire(timeout=WAIT_S)
            yield me * 100 + i
            turns[1 - me].release()

    def model(batch: list[int]) -> list[int]:
        calls.append(batch)
        return batch

    with (
        Pipeline([stage(model, block=4)]) as pipeline,
        pipeline.flow(one_by_one(turn_by_turn(0)), Window(), linger_s=60.0) as a,
        pipeline.flow(one_by_one(turn_by_turn(1)), Window(), linger_s=60.0) as b,
    ):
        assert [v for parcel in a for v in parcel.values] == list(range(8))
        assert [v for parcel in b for v in parcel.values] == list(range(100, 108))
    assert sorted(calls) == [[0, 1, 2, 3], [4, 5, 6, 7], [100, 101, 102, 103], [104, 105, 106, 107]]
