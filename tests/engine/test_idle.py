"""What idle workers wait for: the rule, and a flow that counts by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from penstock._engine import flow as module
from penstock._engine.chunks import one_by_one
from penstock._engine.flow import Flow
from penstock._engine.idle import Waits, cause
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step

WAIT_S = 20.0


def stage(fn: Callable[..., Any] = abs, workers: int = 1) -> Stage:
    return Stage("work", (Step.of("work", fn),), workers)


@pytest.mark.parametrize(
    ("queued", "held", "out", "inside", "expected"),
    [
        (True, 9, 0, 0, "stages"),  # work is there, for others
        (False, 5, 1, 1, "order"),
        (False, 1, 5, 1, "output"),
        (False, 0, 0, 2, "window"),
        (False, 2, 2, 2, "window"),
    ],
)
def test_cause(*, queued: bool, held: int, out: int, inside: int, expected: str) -> None:
    assert cause(queued=queued, held=held, out=out, inside=inside) == expected


def test_waits_add_up() -> None:
    assert Waits(order=1.5, end=2.0).total == 3.5


def passed(flow: Flow, seconds: float, idle: int = 1) -> Waits:
    """Let `seconds` pass, as far as the flow can tell, with `idle` workers that have nothing to do."""
    flow._pipeline.posts[0].idle = idle
    flow._accounted -= seconds
    flow.account()
    flow._pipeline.posts[0].idle = 0
    return flow.statistics().waits


@pytest.fixture
def flow() -> Flow:
    """Return a flow of which nothing runs."""
    return Pipeline([stage(workers=4)]).flow(one_by_one([]), Window(8, 8))


def enter(flow: Flow, start: int, n: int) -> Parcel:
    positions = list(range(start, start + n))
    flow.gate.admit(flow, (positions, positions, list(positions)), 0)
    return flow._pipeline.posts[0].queue.pop()


def test_idle_workers_are_counted_each(flow: Flow) -> None:
    assert passed(flow, 5.0, idle=3).source == pytest.approx(15.0, abs=0.1)
    assert passed(flow, 5.0, idle=0).total == pytest.approx(15.0, abs=0.1)


def test_changes_close_to_each_other_count_as_one(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost of the time between them."""
    now = [flow._accounted]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    flow._pipeline.posts[0].idle = 2
    for _ in range(3):
        now[0] += 0.6 * module.CLOSE_S
        flow.account()
    assert flow.statistics().waits.total == pytest.approx(2 * 1.2 * module.CLOSE_S)
    now[0] += 1.0
    flow.account()
    assert flow.statistics().waits.total == pytest.approx(2 * (1.0 + 1.8 * module.CLOSE_S))


def test_finished_items_behind_one_that_is_not_hold_the_order(flow: Flow) -> None:
    parcels = [enter(flow, start, n) for start, n in ((0, 1), (1, 5))]
    flow._full = True
    assert passed(flow, 1.0).window == pytest.approx(1.0, abs=0.1)  # all are being worked on
    with flow._pipeline.lock:
        flow.arrive(parcels[1])
    assert passed(flow, 2.0).order == pytest.approx(2.0, abs=0.1)
    with flow._pipeline.lock:
        flow.arrive(parcels[0])
    waits = passed(flow, 4.0)
    assert waits.output == pytest.approx(4.0, abs=0.1)  # nobody has released them
    flow.release(6)
    flow._full = False
    assert passed(flow, 8.0).source == pytest.approx(8.0, abs=0.1)
    assert passed(flow, 0.0).total == pytest.approx(15.0, abs=0.2)
    enter(flow, 6, 1)
    flow._full = True
    assert passed(flow, 16.0).window == pytest.approx(17.0, abs=0.2)  # what once waited is not counted any more


def test_the_source_waits_for_room_only_while_there_is_none(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(flow, 0, 8)
    full = list[bool]()

    def make_room(_: float) -> None:
        full.append(flow._full)
        flow.gate.release(8)

    monkeypatch.setattr(flow.gate.room, "wait", make_room)
    assert flow._wait_for_room() is not None
    assert (full, flow._full) == ([True], False)


def test_work_that_waits_for_others_is_no_fault_of_the_window(flow: Flow) -> None:
    flow._full = True
    flow._pipeline.posts[0].queue.append(enter(flow, 0, 1))
    assert passed(flow, 1.0).stages == pytest.approx(1.0, abs=0.1)


def test_at_the_end_nothing_is_missing(flow: Flow) -> None:
    flow._exhausted = True
    assert passed(flow, 1.0).end == pytest.approx(1.0, abs=0.1)


def test_workers_of_a_running_pipeline_count() -> None:
    """They wait for a source that gives nothing until they have been seen to wait."""
    begun = threading.Event()

    def values() -> Any:
        assert begun.wait(WAIT_S)
        yield 1

    with Pipeline([stage(workers=2)]) as pipeline, pipeline.flow(one_by_one(values()), Window(8, 8)) as flow:
        while pipeline.posts[0].idle < 2:
            flow.collect(0.01)
        begun.set()
        assert [value for parcel in flow for value in parcel.values] == [1]
        waits = flow.statistics().waits
    assert waits.source > 0.0
    assert waits.order == waits.output == 0.0


def test_what_is_read_while_it_drains_does_not_enter(flow: Flow) -> None:
    flow._draining = True
    flow._admit(([0], [0], [0]), 0.0)
    assert flow.statistics().admitted == 0
