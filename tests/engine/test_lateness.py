"""How late a thread gets the interpreter: looked at now and then, without what other programs took."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from penstock._engine.chunks import one_by_one
from penstock._engine.lateness import PERIOD_S, Lateness
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step

Wait = Callable[..., None]


class Times:
    """The clock, and how long others had the CPUs."""

    now = delayed = 10.0


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def seen(times: Times) -> Lateness:
    return Lateness(lambda: times.now, lambda: times.delayed)


def wait(seen: Lateness, times: Times, late_s: float, delayed_s: float = 0.0, *, told: bool = True) -> None:
    times.now += 1.0
    seen.begin()
    times.now += 1.0
    if told:
        seen.tell()
        seen.tell()
    times.now += late_s
    times.delayed += delayed_s
    seen.woken()
    seen.end()


def test_the_mean_of_what_was_seen(seen: Lateness, times: Times) -> None:
    assert seen.mean_s == 0.0
    wait(seen, times, 0.25)
    wait(seen, times, 0.75)
    assert (seen.looks, seen.mean_s) == (2, 0.5)


def test_what_other_programs_took_does_not_count(seen: Lateness, times: Times) -> None:
    wait(seen, times, 0.5, delayed_s=0.25)
    assert seen.mean_s == 0.25
    wait(seen, times, 0.5, delayed_s=4.0)
    assert (seen.looks, seen.seconds) == (2, 0.25)


def test_a_wait_that_nobody_ended_says_nothing(seen: Lateness, times: Times) -> None:
    wait(seen, times, 0.5, told=False)
    seen.begin()
    seen.end()  # there was no need to wait
    assert seen.looks == 0


def test_it_looks_now_and_then(seen: Lateness, times: Times) -> None:
    wait(seen, times, 0.5)
    times.now += PERIOD_S / 2
    seen.begin()
    seen.tell()
    seen.woken()
    seen.end()
    assert seen.looks == 1
    wait(seen, times, 0.5)
    assert seen.looks == 2


def test_it_looks_no_oftener_where_there_is_no_need_to_wait(times: Times) -> None:
    """Each look asks the kernel, which takes longer than all else that is done for a parcel."""
    asked: list[float] = []
    seen = Lateness(lambda: times.now, lambda: asked.append(times.now) or 0.0)  # type: ignore[func-returns-value]
    for _ in range(9):
        seen.begin()
        seen.end()
    assert asked == [10.0]
    times.now += PERIOD_S
    seen.begin()
    assert len(asked) == 2


def test_a_flow_looks_at_its_consumer() -> None:
    step = Step.of("work", lambda x: sum(range(10_000)) + x)
    with Pipeline([Stage("work", (step,), 1)]) as p, p.flow(one_by_one(range(2000)), Window(8, 8)) as flow:
        assert sum(map(len, flow)) == 2000
        assert flow._lateness.looks > 0
        assert flow.statistics().late_s == flow._lateness.mean_s
