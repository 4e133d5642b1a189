"""The climb: what is tried after a stretch of a run, and what is kept of it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._climb import AGAIN_S, EXPLORE_S, Bounds, Climb, Numbers, moves, told
from penstock._engine.idle import Waits
from penstock._engine.statistics import StageStatistics, StepStatistics
from penstock._telemetry.seen import Seen

BOUNDS = Bounds(frozenset({0}), 16, frozenset({(0, 0)}), 8)
GIB = 1 << 30
MEMORY = (GIB, 10 * GIB)


def stretch(rate: float = 100.0, workers: int = 2, busy: float = 1.0, computing: float = 1.0, **changes: Any) -> Seen:
    """Return a stretch of 10 s of one stage, on 2 CPUs, whose workers were `busy` and computed for a share of that."""
    step = StepStatistics("fetch", busy * workers * 10.0, int(rate * 10), 0, busy * workers * 10.0 * computing)
    stage = StageStatistics("fetch", workers, 0, (), (step,))
    return replace(Seen(int(rate * 10), 10.0, (stage,), cpus=2, cpu_s=min(20.0, step.cpu_s)), **changes)


WAITS: dict[str, Any] = {"computing": 0.1}


def first(seen: Seen, numbers: Numbers | None = None, bounds: Bounds = BOUNDS) -> str | None:
    numbers = numbers or Numbers(tuple(stage.workers for stage in seen.stages))
    return next((move.words for move in moves(seen, numbers, bounds)), None)


def test_a_stage_that_waits_gets_twice_the_workers() -> None:
    assert first(stretch(**WAITS)) == "workers of fetch: 2 -> 4"
    assert first(stretch(workers=12, **WAITS)) == "workers of fetch: 12 -> 16"
    assert first(stretch(workers=16, **WAITS)) is None


def test_a_stage_that_computes_gets_another_where_a_cpu_is_idle() -> None:
    seen = stretch(workers=1)
    assert first(seen) == "workers of fetch: 1 -> 2"
    assert not next(moves(seen, Numbers((1,)), BOUNDS)).explores
    full = next(moves(stretch(workers=2), Numbers((2,)), BOUNDS))
    assert (full.words, full.explores) == ("workers of fetch: 2 -> 3", True)


def test_idle_workers_are_let_go() -> None:
    assert first(stretch(workers=8, busy=0.2, **WAITS)) == "workers of fetch: 8 -> 3"
    assert first(stretch(workers=2, busy=0.6)) is None


def test_more_threads_than_cpus_that_compute_are_let_go() -> None:
    seen = stretch(workers=16, busy=0.5)
    found = [move.words for move in moves(seen, Numbers((16,)), BOUNDS)]
    assert found == ["workers of fetch: 16 -> 9", "workers of fetch: 16 -> 12"]


def test_those_that_a_runtimes_own_threads_are_worth_stay() -> None:
    waiting = replace(BOUNDS, spare={0: 1})
    assert [move.words for move in moves(stretch(workers=3), Numbers((3,)), BOUNDS)][-1] == "workers of fetch: 3 -> 2"
    (up,) = moves(stretch(workers=3), Numbers((3,)), waiting)
    assert (up.words, up.explores) == ("workers of fetch: 3 -> 4", True)
    assert "workers of fetch: 4 -> 3" in [move.words for move in moves(stretch(workers=4), Numbers((4,)), waiting)]


def test_what_shares_the_interpreter_goes_to_processes() -> None:
    shared: dict[str, Any] = {"computing": 0.5, "cpu_s": 10.0, "late_s": 0.005}
    assert first(stretch(**shared)) == "fetch in processes in the place of threads"
    wide = next(moves(stretch(workers=8, **shared), Numbers((8,)), BOUNDS))
    assert wide.numbers.workers == (2,)  # a process for each CPU
    pinned = next(moves(stretch(workers=8, **shared), Numbers((8,)), replace(BOUNDS, movable=frozenset())))
    assert pinned.numbers.workers == (8,)
    unheard = {**shared, "late_s": 0.0}  # nobody was seen to wait for the interpreter: it is tried all the same
    assert first(stretch(**unheard)) == "fetch in processes in the place of threads"
    assert first(stretch(**unheard, delayed_s=9.0)) != "fetch in processes in the place of threads"
    there = Numbers((2,), frozenset({(0, 0)}))
    assert first(stretch(**shared), there) is None  # and its workers, each with a process, stay as many
    assert first(stretch(**shared), bounds=replace(BOUNDS, sendable=frozenset(), movable=frozenset())) is None


@pytest.mark.parametrize("cause", ["order", "window"])
def test_a_window_that_holds_a_run_up_is_widened(cause: str) -> None:
    waits = replace(Waits(), **{cause: 12.0})
    seen = stretch(busy=0.3, waits=waits)
    assert first(seen) == "window x 2"
    assert first(seen, Numbers((2,), window=4)) == "window x 8"
    assert first(seen, Numbers((2,), window=8)) is None


def test_what_is_pinned_stays() -> None:
    assert first(stretch(**WAITS), bounds=Bounds(frozenset(), 16)) is None
    assert first(stretch(busy=0.3, waits=Waits(order=12.0)), bounds=Bounds(frozenset(), 16, most_window=1)) is None


# ---- what is kept


def after(found: Climb, seen: Seen, t_s: float, left_s: float = math.inf, memory: tuple[int, int] = MEMORY) -> Numbers:
    """Return the numbers after a stretch that nothing disturbed."""
    return found.next(seen, seen.rate, t_s, left_s, memory)


def climb(workers: int = 2) -> Climb:
    return Climb(Numbers((workers,)), BOUNDS)


def test_a_large_gain_is_kept_at_once() -> None:
    found = climb()
    assert after(found, stretch(100, **WAITS), 1.0).workers == (4,)
    assert after(found, stretch(190, 4, busy=0.7, **WAITS), 2.0).workers == (4,)
    (step,) = found.steps
    assert step["kept"]
    assert told(step) == "workers of fetch: 2 -> 4: 100.0/s -> 190.0/s (+90.0%), kept"


def test_a_large_gain_on_a_busy_machine_has_to_show_twice() -> None:
    found = climb()
    after(found, stretch(100, **WAITS), 1.0)
    seen = stretch(110, 4, delayed_s=17.0, **WAITS)
    assert found.next(seen, 190.0, 2.0, math.inf, MEMORY).workers == (2,)  # 190: had others not had the CPUs
    assert after(found, stretch(188, 2, **WAITS), 3.0).workers == (2,)  # it came by itself
    assert not found.steps[0]["kept"]


def test_a_gain_that_is_large_in_spite_of_others_is_kept_at_once() -> None:
    found = climb()
    after(found, stretch(100, **WAITS), 1.0)
    assert found.next(stretch(190, 4, delayed_s=4.0, **WAITS), 210.0, 2.0, math.inf, MEMORY).workers == (4,)
    assert found.steps[0]["kept"]


def test_the_end_of_the_run_is_the_end_of_a_trial() -> None:
    found = climb()
    found.close(0.5)
    assert found.steps == []
    after(found, stretch(100, **WAITS), 1.0)
    found.close(1.5)
    assert told(found.steps[0]) == "workers of fetch: 2 -> 4: not kept: the run ended first"


def test_a_small_gain_counts_where_going_back_loses_it() -> None:
    found = climb()
    after(found, stretch(100, **WAITS), 1.0)
    assert after(found, stretch(110, 4, **WAITS), 2.0).workers == (2,)  # a second look
    assert after(found, stretch(101, 2, **WAITS), 3.0).workers == (4,)
    assert found.steps[0]["kept"]


def test_a_small_gain_that_came_by_itself_does_not() -> None:
    found = climb()
    after(found, stretch(100, **WAITS), 1.0)
    after(found, stretch(110, 4, **WAITS), 2.0)
    assert after(found, stretch(112, 2, **WAITS), 3.0).workers == (2,)
    assert not found.steps[0]["kept"]


def test_what_takes_much_memory_has_to_give_more() -> None:
    found = climb()
    after(found, stretch(100, **WAITS), 1.0, memory=(GIB, 2 * GIB))
    assert after(found, stretch(150, 4, **WAITS), 2.0, memory=(3 * GIB, 2 * GIB)).workers == (2,)
    (step,) = found.steps
    assert told(step) == "workers of fetch: 2 -> 4: 100.0/s -> 150.0/s (+50.0%, +2,048 MiB), not worth it"


def test_a_step_down_is_kept_where_it_costs_nothing() -> None:
    for rate, kept in ((99.0, True), (90.0, False)):
        found = climb(8)
        assert after(found, stretch(100, 8, busy=0.2, **WAITS), 1.0).workers == (3,)
        numbers = after(found, stretch(rate, 3, busy=0.5, **WAITS), 2.0)
        assert (numbers.workers, found.steps[0]["kept"]) == (((3,), True) if kept else ((8,), False))


def test_what_was_not_worth_it_is_left_alone_for_longer_each_time() -> None:
    found, t_s = climb(), 0.0
    tried_at: list[float] = []
    while len(tried_at) < 4:
        t_s += 1.0
        if after(found, stretch(100, **WAITS), t_s).workers != (2,):
            tried_at.append(t_s)
            t_s += 1.0
            after(found, stretch(100, 4, **WAITS), t_s)
    pauses = [later - earlier for earlier, later in pairwise(tried_at)]
    assert pauses == pytest.approx([AGAIN_S + 1, 2 * AGAIN_S + 1, 4 * AGAIN_S + 1], abs=1.0)


def test_there_is_no_way_back_for_a_while() -> None:
    found = climb()
    after(found, stretch(100, **WAITS), 1.0)
    after(found, stretch(200, 4, **WAITS), 2.0)
    idle = stretch(200, 4, busy=0.3, **WAITS)
    assert after(found, idle, 3.0).workers == (4,)
    assert after(found, idle, 3.0 + AGAIN_S).workers == (2,)


def test_nothing_is_tried_at_the_end_and_nothing_without_reason_at_the_start() -> None:
    found = climb()
    assert after(found, stretch(100, **WAITS), 1.0, 2.0).workers == (2,)
    full = stretch(100)
    assert after(found, full, EXPLORE_S - 1).workers == (2,)
    assert after(found, full, EXPLORE_S, 20.0).workers == (2,)
    assert after(found, full, EXPLORE_S).workers == (3,)


def test_what_cannot_be_done_is_not_tried_again() -> None:
    found = climb()
    shared = stretch(computing=0.5, cpu_s=10.0, late_s=0.005)
    assert after(found, shared, 1.0).apart == {(0, 0)}
    assert found.refused("no pickle", 2.0).apart == frozenset()
    assert after(found, shared, 1e6).apart == frozenset()
    assert told(found.steps[0]) == "fetch in processes in the place of threads: not kept: no pickle"


@given(st.lists(st.tuples(st.floats(1.0, 1e4), st.floats(0.0, 1.0), st.floats(0.0, 1.0)), max_size=60))
def test_the_numbers_stay_within_bounds(stretches: list[tuple[float, float, float]]) -> None:
    found = climb()
    numbers = found.numbers
    for t_s, (rate, busy, computing) in enumerate(stretches):
        seen = stretch(rate, numbers.workers[0], busy, computing, waits=Waits(order=10.0 * computing))
        numbers = after(found, seen, float(t_s))
        assert 1 <= numbers.workers[0] <= 16
        assert numbers.window in (1, 2, 4, 8)
        assert numbers.apart <= {(0, 0)}
