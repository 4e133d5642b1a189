"""Flows: the window (rules 6 and 7), stopping and draining (rule 3), trickling sources, what the consumer hears."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from penstock._engine.chunks import one_by_one
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock.errors import Cancelled

WAIT_S = 20.0


def stage(fn: Callable[..., Any], workers: int = 1, block: int | None = None) -> Stage:
    return Stage("work", (Step.of("work", fn, block=block),), workers)


def gate_of(event: threading.Event) -> None:
    assert event.wait(WAIT_S), "the test never opened the gate"


class Source:
    """Counts how far it was read."""

    def __init__(self, values: Any) -> None:
        self.values, self.read = values, 0

    def __iter__(self) -> Iterator[Any]:
        for value in self.values:
            self.read += 1
            yield value


def deliver(flow: Flow, n: int) -> list[Any]:
    """Collect until `n` items came out, and give no room back."""
    values: list[Any] = []
    while len(values) < n:
        parcels = flow.collect(1.0)
        assert parcels is not None
        values.extend(value for parcel in parcels for value in parcel.values)
    return values


class Room(threading.Condition):
    """Says when the source has looked for room in vain."""

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.full = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.full.set()
        return super().wait(timeout)


def settle(flow: Flow) -> None:
    """Let the source look for room once more, and wait until it has found none."""
    room = flow.gate.room
    assert isinstance(room, Room)
    with flow._pipeline.lock:
        room.full.clear()
        room.notify()
    assert room.full.wait(WAIT_S), "the source has read on"


def settled(flow: Flow) -> int:
    """Return how many items were admitted when the source found no more room."""
    settle(flow)
    return flow.statistics().admitted


def fill(flow: Flow) -> int:
    """Deliver everything and give no room back, until the source reads no further; return how far it has read."""
    while True:
        statistics = flow.statistics()
        deliver(flow, statistics.admitted - statistics.delivered)
        if settled(flow) == statistics.admitted:
            return statistics.admitted


def spied(flow: Flow) -> Flow:
    flow.gate.room = Room(flow._pipeline.lock)
    return flow


# ---- the window


@pytest.mark.parametrize(("block", "workers"), [(None, 1), (None, 4), (4, 2)])
def test_the_source_is_read_no_further_than_the_window(block: int | None, workers: int) -> None:
    source = Source(range(10_000))
    with (
        Pipeline([stage(lambda x: x, workers, block)]) as pipeline,
        spied(pipeline.flow(one_by_one(source), Window(32, 32))) as flow,
    ):
        read = fill(flow)
        assert 16 < read <= 32  # a parcel of half the window, at most, found no room any more
        assert source.read == read
        flow.release(read)
        more = fill(flow)
        assert read + 16 < more <= read + 32
        assert source.read == more
        statistics = flow.statistics()
        assert (statistics.admitted, statistics.delivered, statistics.in_flight) == (more, more, more - read)
        assert statistics.most_in_flight <= statistics.window == 32


@pytest.mark.parametrize("linger_s", [None, 0.0])
def test_bytes_in_flight_are_bounded(linger_s: float | None) -> None:
    source = Source(np.zeros(1000, np.uint8) for _ in range(1000))
    window = Window(64, 64, 10_000)
    with (
        Pipeline([stage(lambda x: x, 2)]) as pipeline,
        spied(pipeline.flow(one_by_one(source), window, linger_s=linger_s)) as flow,
    ):
        assert 5 < fill(flow) <= 10
        assert source.read <= 10
        assert (flow.statistics().window, flow.statistics().item_nbytes) == (10, 1000)


def test_bytes_that_a_stage_makes_are_bounded_from_the_first_item_on() -> None:
    """A path becomes a photo of 36 MB: a window full of paths must not be let in before that is known."""
    source = Source(range(1000))
    with (
        Pipeline([stage(lambda x: np.zeros(1000, np.uint8), 2)]) as pipeline,
        spied(pipeline.flow(one_by_one(source), Window(64, 64, 5_000))) as flow,
    ):
        assert 2 < fill(flow) <= 5
        assert source.read <= 5


def test_cheap_small_parcels_do_not_grow_beyond_the_bytes() -> None:
    """Cost alone would put 2,048 items into a parcel, and one parcel may always enter an empty pipeline."""
    source = Source(np.zeros(1000, np.uint8) for _ in range(5000))
    with (
        Pipeline([stage(lambda x: None)]) as pipeline,
        pipeline.flow(one_by_one(source), Window(64, 16_384, 20_000)) as flow,
    ):
        assert sum(len(parcel) for parcel in flow) == 5000
        assert flow.statistics().most_in_flight <= 20


def test_an_item_larger_than_the_bytes_allowed_still_passes() -> None:
    values = [np.zeros(1000, np.uint8) for _ in range(5)]
    with (
        Pipeline([stage(lambda x: x.nbytes, 4)]) as pipeline,
        pipeline.flow(one_by_one(values), Window(64, 64, 10)) as flow,
    ):
        assert [v for parcel in flow for v in parcel.values] == [1000] * 5
        assert flow.statistics().most_in_flight <= 4  # one for each worker, until the first is known


def test_a_slow_head_holds_the_others_back_no_further_than_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    source, gate, seen = Source(range(1000)), threading.Event(), threading.Semaphore(0)
    arrive = Flow.arrive

    def counted(flow: Flow, parcel: Parcel) -> None:
        arrive(flow, parcel)
        seen.release(len(parcel))

    def slow(x: int) -> int:
        if x == 0:
            gate_of(gate)
        return x

    monkeypatch.setattr(Flow, "arrive", counted)
    with Pipeline([stage(slow, 3)]) as pipeline, spied(pipeline.flow(one_by_one(source), Window(32, 32))) as flow:
        done = 0
        while (admitted := settled(flow)) > done + 1:  # all but the head
            for _ in range(admitted - 1 - done):
                assert seen.acquire(timeout=WAIT_S)
            done = admitted - 1
        assert 16 < source.read <= 32
        assert flow.statistics().delivered == 0
        gate.set()
        assert [v for parcel in flow for v in parcel.values] == list(range(1000))


def test_unordered_items_come_out_past_a_slow_head() -> None:
    gate = threading.Event()

    def slow(x: int) -> int:
        if x == 0:
            gate_of(gate)
        return x

    with (
        Pipeline([stage(slow, 3)]) as pipeline,
        pipeline.flow(one_by_one(range(20)), Window(32, 32), ordered=False) as flow,
    ):
        assert sorted(deliver(flow, 19)) == list(range(1, 20))
        gate.set()
        assert deliver(flow, 1) == [0]
        assert flow.collect(1.0) is None


def test_the_consumer_holds_nothing_that_it_is_done_with() -> None:
    """Rule 4: its room is given back, so that its bytes are no longer counted."""

    class Big:
        pass

    gc.disable()
    try:
        with Pipeline([stage(lambda x: Big())]) as pipeline, pipeline.flow(one_by_one(range(200)), Window()) as flow:
            last: weakref.ref[Any] | None = None
            for parcel in flow:
                assert last is None or last() is None
                last = weakref.ref(parcel.values[0])
                del parcel
    finally:
        gc.enable()


# ---- what the consumer hears


def test_collect_gives_nothing_while_there_is_nothing_and_none_at_the_end() -> None:
    gate = threading.Event()
    with (
        Pipeline([stage(lambda x: gate_of(gate))]) as pipeline,
        pipeline.flow(one_by_one([1]), Window()) as flow,
    ):
        assert flow.collect(0.0) == []
        gate.set()
        assert deliver(flow, 1) == [None]
        assert flow.collect(1.0) is None
        assert flow.collect(1.0) is None


def test_a_flow_closed_before_all_came_out_says_so() -> None:
    """Also where the source has come to its end."""
    with Pipeline([stage(abs)]) as pipeline, pipeline.flow(one_by_one(range(8)), Window()) as flow:
        flow._thread.join(WAIT_S)
        flow.close()
        with pytest.raises(Cancelled):
            flow.collect(WAIT_S)


def test_an_empty_source_ends_at_once() -> None:
    with Pipeline([stage(lambda x: x)]) as pipeline, pipeline.flow(one_by_one([]), Window()) as flow:
        assert list(flow) == []


def test_what_came_before_an_error_of_the_source_comes_out_before_it() -> None:
    def broken() -> Iterator[int]:
        yield from range(10)
        raise OSError("the disk is gone")

    with Pipeline([stage(lambda x: x, 2)]) as pipeline, pipeline.flow(one_by_one(broken()), Window()) as flow:
        seen = deliver(flow, 10)
        assert seen == list(range(10))
        with pytest.raises(OSError, match="the disk is gone"):
            list(flow)


def test_repr_shows_state_counts_and_limits() -> None:
    with Pipeline([stage(lambda x: x)]) as pipeline:
        with spied(pipeline.flow(one_by_one(range(100)), Window(32, 32))) as flow:
            n = fill(flow)
            assert repr(flow) == f"<Flow open: {n} admitted, {n} delivered, {n} of 32 in flight>"
            flow.drain()
            assert repr(flow).startswith("<Flow draining: ")
        assert repr(flow).startswith("<Flow closed: ")
