"""The gate: how many may enter, what they join, and what room is given back. Flows and inlets test it at work."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from penstock._engine.flow import Flow
from penstock._engine.gate import RAMP, Gate
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import HORIZON_S, Window

FLOW = cast("Flow", None)


@dataclass
class Fake:
    """A pipeline that keeps what is pushed."""

    block: int = 4
    worker_count: int = 2
    cost: float = 0.0
    lock: Any = field(default_factory=threading.RLock)
    pushed: list[Parcel] = field(default_factory=list)
    woken: int = 0

    def rate(self) -> float:
        return self.worker_count / self.cost if self.cost else 0.0

    def cost_s(self) -> float:
        return self.cost

    def enter(self, parcel: Parcel) -> None:
        self.pushed.append(parcel)

    def wake_first(self) -> None:
        self.woken += 1


def gate_of(fake: Fake, window: Window, linger_s: float | None = None) -> Gate:
    return Gate(cast("Pipeline", fake), window, linger_s)


def admit(gate: Gate, n: int, nbytes: int = 0) -> None:
    at = range(gate.admitted, gate.admitted + n)
    with gate.room:
        gate.admit(FLOW, (at, at, list(at)), nbytes)


def test_a_slow_start_until_items_have_come_out() -> None:
    gate = gate_of(Fake(), Window(64, 64))
    with gate.room:
        assert gate.allowed() == 8
        gate.came_out(1)
        assert gate.allowed() == 8 + RAMP
        gate.came_out(100)
        assert gate.allowed() == 64


def test_the_window_holds_a_quarter_of_a_second_of_work() -> None:
    fake = Fake(cost=0.001)
    gate = gate_of(fake, Window(8, 10_000))
    with gate.room:
        gate.came_out(1000)
        assert gate.allowed() == int(2000 * HORIZON_S)


def test_bytes_bound_the_window() -> None:
    gate = gate_of(Fake(), Window(64, 64, max_bytes=1000))
    with gate.room:
        gate.came_out(100)
        gate.measured(1000, 10)
        assert gate.allowed() == 10


def test_a_wider_window_holds_twice_the_bytes_at_most() -> None:
    gate = gate_of(Fake(), Window(64, 640, max_bytes=1000))
    with gate.room:
        gate.came_out(1000)
        gate.measured(1000, 10)
        gate.hold(times=8.0)
        assert gate.allowed() == 20
        gate.hold(times=1.0)
        assert gate.allowed() == 10


def test_what_comes_out_in_a_slow_start_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, told = gate_of(Fake(), Window(64, 64)), list[int]()
    monkeypatch.setattr(gate.room, "notify", lambda n=1: told.append(n))
    with gate.room:
        gate.allowed()
        gate.came_out(1)
        assert told == [1]
        gate.came_out(99)
        gate.allowed()  # the start is over: only what is released makes room
        gate.came_out(1)
        assert told == [1, 1]


def test_no_offer_without_room_and_one_again_when_it_is_given_back() -> None:
    gate = gate_of(Fake(), Window(8, 8))
    admit(gate, 8)
    with gate.room:
        assert gate.offer() is None
        gate.release(4)
        assert (gate.offer(), gate.in_flight) == (4, 4)


def test_an_empty_pipeline_takes_a_parcel_of_any_size() -> None:
    with (gate := gate_of(Fake(block=100, worker_count=1), Window(8, 8))).room:
        assert gate.offer() == 100


def test_trickling_items_join_the_open_parcel_until_a_worker_takes_it() -> None:
    fake = Fake()
    gate = gate_of(fake, Window(), linger_s=60.0)
    for _ in range(3):
        with gate.room:
            assert gate.offer() == 1
        admit(gate, 1)
    (parcel,) = fake.pushed
    assert (parcel.values, parcel.items, parcel.positions, parcel.origin) == ([0, 1, 2], [0, 1, 2], [0, 1, 2], (0, 3))
    assert fake.woken == 0
    admit(gate, 1)
    assert fake.woken == 1  # a batch is full
    with gate.room:
        gate.seal()
    assert parcel.open_until is None
    admit(gate, 1)
    assert [p.values for p in fake.pushed] == [[0, 1, 2, 3], [4]]
    assert fake.pushed[1].positions[0] % fake.block == 0  # its batch begins with it


def test_no_more_trickling_items_than_a_batch_join_a_parcel() -> None:
    gate = gate_of(fake := Fake(), Window(), linger_s=60.0)
    for _ in range(9):
        admit(gate, 1)
    assert [parcel.values for parcel in fake.pushed] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


@pytest.mark.parametrize(("block", "linger_s"), [(1, 60.0), (4, 0.0)])
def test_nothing_waits_that_cannot_share_a_batch(monkeypatch: pytest.MonkeyPatch, block: int, linger_s: float) -> None:
    monkeypatch.setattr("penstock._engine.gate.time.monotonic", lambda: 5.0)
    fake = Fake(block=block)
    admit(gate_of(fake, Window(), linger_s), 1)
    assert fake.pushed[0].open_until == 5.0
