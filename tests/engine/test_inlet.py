"""Inlets: items put in by any thread, each heard of exactly once, never more inside than the window."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._contracts import Failure
from penstock._engine.chunks import one_by_one
from penstock._engine.inlet import Inlet
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock.errors import Closed, Overloaded

WAIT_S = 20.0


def stage(fn: Callable[..., Any], workers: int = 1, block: int | None = None, name: str = "work") -> Stage:
    return Stage(name, (Step.of(name, fn, block=block),), workers)


class Heard:
    """A ticket that keeps what it hears."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted, self.begun = wanted, 0
        self.ends: list[Any] = []
        self.over = threading.Event()

    def begin(self) -> bool:
        self.begun += 1
        return self.wanted

    def finish(self, item: int, value: Any) -> None:
        self.ends.append((item, value))
        self.over.set()

    def drop(self, item: int, error: BaseException | None) -> None:
        self.ends.append((item, "dropped", error))
        self.over.set()


def put_all(inlet: Inlet, values: Any) -> list[Heard]:
    tickets = []
    for value in values:
        tickets.append(ticket := Heard())
        inlet.put(value, ticket, WAIT_S)
    return tickets


def ends(tickets: list[Heard]) -> list[list[Any]]:
    for ticket in tickets:
        assert ticket.over.wait(WAIT_S), "a ticket never heard an end"
    return [ticket.ends for ticket in tickets]


@settings(max_examples=30)
@given(
    n=st.integers(0, 120),
    block=st.integers(1, 20),
    window=st.integers(1, 70),
    workers=st.integers(1, 3),
    fused=st.booleans(),
)
def test_each_item_is_heard_of_once_with_its_value(n: int, block: int, window: int, workers: int, fused: bool) -> None:
    steps = Step.of("a", lambda x: x + 1), Step.of("b", lambda xs: [2 * x for x in xs], block=block)
    stages = [Stage("a+b", steps, workers)] if fused else [Stage(s.name, (s,), workers) for s in steps]
    with Pipeline(stages) as pipeline, pipeline.inlet(Window(window, window), 0.0) as inlet:
        tickets = put_all(inlet, range(n))
        assert ends(tickets) == [[(x, 2 * (x + 1))] for x in range(n)]
        assert all(ticket.begun == 1 for ticket in tickets)
        assert inlet.statistics().most_in_flight <= window


def test_failures_are_heard_of_and_the_rest_goes_on() -> None:
    with Pipeline([stage(lambda x: 1 / x, 2)]) as pipeline, pipeline.inlet(Window(), 0.0) as inlet:
        heard = ends(put_all(inlet, [1, 0, 2]))
    assert (heard[0], heard[2]) == ([(0, 1.0)], [(2, 0.5)])
    assert [type(value) for _, value in heard[1]] == [Failure]


def test_an_item_that_is_not_wanted_is_seen_by_no_step() -> None:
    seen: list[int] = []

    def model(batch: list[int]) -> list[int]:
        seen.extend(batch)
        return batch

    steps = [stage(lambda x: x, name="load"), stage(model, block=4, name="model")]
    with Pipeline(steps) as pipeline, pipeline.inlet(Window(), 60.0) as inlet:
        tickets = [Heard(wanted=x % 2 == 0) for x in range(4)]
        for x, ticket in enumerate(tickets):
            inlet.put(x, ticket)
        assert ends(tickets[::2]) == [[(0, 0)], [(2, 2)]]
    assert seen == [0, 2]
    assert [ticket.ends for ticket in tickets[1::2]] == [[], []]


def test_unwanted_items_do_not_make_the_stage_look_cheap() -> None:
    """Or the window, which holds a quarter of a second of work, would grow without bound."""
    with Pipeline([stage(lambda x: x)]) as pipeline, pipeline.inlet(Window(8, 1 << 20), 0.0) as inlet:
        ends(put_all(inlet, range(5)))
        pipeline.posts[0].cost_s = 1.0
        for _ in range(20):
            inlet.put(0, Heard(wanted=False), WAIT_S)
        inlet.drain(WAIT_S)
        assert pipeline.posts[0].cost_s == 1.0


def test_a_full_window_is_overloaded_and_says_so() -> None:
    gate = threading.Event()
    with Pipeline([stage(lambda x: gate.wait(WAIT_S), 2)]) as pipeline, pipeline.inlet(Window(2, 2), 0.0) as inlet:
        tickets = put_all(inlet, range(2))
        with pytest.raises(Overloaded, match=r"after \S+ s: 2 are in flight, the limit is 2"):
            inlet.put(2, Heard(), 0.0)
        gate.set()
        tickets += put_all(inlet, [2])
        assert ends(tickets) == [[(x, True)] for x in range(3)]


def test_who_comes_later_waits_behind_those_who_wait() -> None:
    gate, waiting = threading.Event(), threading.Event()

    class Room(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            waiting.set()
            return super().wait(timeout)

    with Pipeline([stage(lambda x: gate.wait(WAIT_S))]) as pipeline, pipeline.inlet(Window(1, 1), 0.0) as inlet:
        inlet.gate.room = Room(pipeline.lock)
        tickets = put_all(inlet, [0])
        caller = threading.Thread(target=lambda: tickets.extend(put_all(inlet, [1])))
        caller.start()
        assert waiting.wait(WAIT_S)
        with pipeline.lock:
            inlet.gate.release(1)  # there is room, and who waits has been told, but could not take it yet
            with pytest.raises(Overloaded):
                inlet.put(2, Heard(), 0.0)
            inlet.gate.released -= 1
        gate.set()
        caller.join(WAIT_S)
        assert ends(tickets) == [[(0, True)], [(1, True)]]


def test_a_worker_never_waits_for_room() -> None:
    class Again(Heard):
        def finish(self, item: int, value: Any) -> None:
            with pytest.raises(Overloaded):
                inlet.put(1, Heard(), None)
            super().finish(item, value)

    with Pipeline([stage(abs)]) as pipeline, pipeline.inlet(Window(1, 1), 0.0) as inlet:
        inlet.put(0, ticket := Again(), WAIT_S)
        assert ends([ticket]) == [[(0, 0)]]


def test_items_of_many_callers_share_batches() -> None:
    calls: list[list[int]] = []

    def model(batch: list[int]) -> list[int]:
        calls.append(batch)
        return batch

    with Pipeline([stage(model, block=4)]) as pipeline, pipeline.inlet(Window(), 60.0) as inlet:
        tickets = put_all(inlet, range(4))
        assert ends(tickets) == [[(x, x)] for x in range(4)]
    assert calls == [[0, 1, 2, 3]]


def test_an_inlet_and_a_flow_share_one_pipeline() -> None:
    with (
        Pipeline([stage(abs, 2), stage(list, block=4)]) as pipeline,
        pipeline.inlet(Window(), 0.0) as inlet,
        pipeline.flow(one_by_one(range(300)), Window()) as flow,
    ):
        tickets = put_all(inlet, range(0, -300, -1))
        assert [v for parcel in flow for v in parcel.values] == list(range(300))
        assert ends(tickets) == [[(x, x)] for x in range(300)]


def test_an_inlet_begins_where_the_last_flow_has_come_to() -> None:
    """Or the first callers of an application that has warmed up would be turned away."""
    with Pipeline([stage(lambda x: np.zeros(1000, np.uint8))]) as pipeline:
        with pipeline.flow(one_by_one(range(4)), Window()) as flow:
            assert sum(map(len, flow)) == 4
        with pipeline.inlet(Window(100, 100, 40_000), 0.0) as inlet:
            assert (inlet.statistics().window, inlet.statistics().item_nbytes) == (40, 1000)


# ---- the end


def test_leaving_lets_out_what_is_inside() -> None:
    with Pipeline([stage(lambda xs: xs, block=8)]) as pipeline:
        with pipeline.inlet(Window(), 60.0) as inlet:
            tickets = put_all(inlet, range(3))
        assert [ticket.ends for ticket in tickets] == [[(x, x)] for x in range(3)]
        with pytest.raises(Closed, match="no more items can enter"):
            inlet.put(3, Heard())


def test_closing_drops_what_is_inside_and_each_ticket_hears_one_end() -> None:
    gate, inside = threading.Event(), threading.Event()

    def stuck(x: int) -> int:
        inside.set()
        assert gate.wait(WAIT_S)
        return x

    with Pipeline([stage(stuck)]) as pipeline, pipeline.inlet(Window(), 0.0) as inlet:
        tickets = put_all(inlet, range(1))
        assert inside.wait(WAIT_S)
        inlet.close()
        assert ends(tickets) == [[(0, "dropped", None)]]
        gate.set()
    assert ends(tickets) == [[(0, "dropped", None)]]


def test_closing_the_pipeline_drops_what_is_inside() -> None:
    gate = threading.Event()
    with Pipeline([stage(lambda x: gate.wait(WAIT_S), 3)]) as pipeline, pipeline.inlet(Window(), 0.0) as inlet:
        tickets = put_all(inlet, range(3))
        pipeline.close(timeout_s=0.0)
        assert ends(tickets) == [[(x, "dropped", None)] for x in range(3)]
        gate.set()


def test_who_waits_for_room_hears_of_the_close() -> None:
    gate = threading.Event()
    raised: list[BaseException] = []

    def wait_for_room() -> None:
        try:
            inlet.put(1, Heard())
        except Closed as error:
            raised.append(error)

    with Pipeline([stage(lambda x: gate.wait(WAIT_S))]) as pipeline, pipeline.inlet(Window(1, 1), 0.0) as inlet:
        put_all(inlet, [0])
        caller = threading.Thread(target=wait_for_room)
        caller.start()
        inlet.close()
        caller.join(WAIT_S)
        gate.set()
    assert len(raised) == 1


def test_an_error_that_ends_the_pipeline_is_heard_by_all() -> None:
    class DiskFull(Exception):
        stops_run = True

    def write(x: int) -> int:
        raise DiskFull

    with Pipeline([stage(write)]) as pipeline, pipeline.inlet(Window(), 0.0) as inlet:
        inlet.put(0, ticket := Heard())
        ((_, said, error),) = ends([ticket])[0]
        assert said == "dropped"
        assert type(error) is DiskFull
        with pytest.raises(DiskFull):
            inlet.put(1, Heard())


def test_repr_shows_state_counts_and_limits() -> None:
    with Pipeline([stage(abs)]) as pipeline:
        with pipeline.inlet(Window(32, 32), 0.0) as inlet:
            assert repr(inlet) == "<Inlet open: 0 admitted, 0 delivered, 0 of 1 in flight>"
            inlet.drain(0.0)
            assert repr(inlet).startswith("<Inlet draining: ")
        assert repr(inlet).startswith("<Inlet closed: ")
