"""The timeline of a run: of any length it keeps a few hundred readings, and its samples add up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.statistics import FlowStatistics, PipelineStatistics, StageStatistics, StepStatistics
from penstock._telemetry.timeline import (
    MOST_READINGS,
    PERIOD_S,
    Reading,
    Timeline,
    add_recent,
    reading_of,
    sample,
    samples,
)


def run_of(seconds: float, tick_s: float = 0.5) -> Timeline:
    """Return the timeline of a run that commits every `tick_s` and does 10 items a second."""
    timeline = Timeline()
    for tick in range(int(seconds / tick_s) + 1):
        if timeline.is_due(tick * tick_s):
            timeline.add(Reading(tick * tick_s, done=round(tick * tick_s * 10)))
    return timeline


def test_readings_are_half_a_second_apart_at_first() -> None:
    times = [reading.t_s for reading in run_of(3.0, tick_s=0.1).readings]
    assert times == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


@given(st.floats(10, 2e5))
def test_a_run_of_any_length_keeps_few_about_equally_far_apart(seconds: float) -> None:
    timeline = run_of(seconds, tick_s=max(0.5, seconds / 5000))
    readings = timeline.readings
    assert len(readings) <= MOST_READINGS
    assert readings[0].t_s == 0.0
    assert seconds - readings[-1].t_s <= timeline.period_s + seconds / 1000
    gaps = [later.t_s - earlier.t_s for earlier, later in pairwise(readings)]
    assert max(gaps) <= 4 * min(gaps)


def test_two_days_are_thinned_and_still_hundreds() -> None:
    timeline = run_of(172_800, tick_s=10.0)
    assert MOST_READINGS / 4 <= len(timeline.readings) <= MOST_READINGS
    assert timeline.period_s > 100 * PERIOD_S


@given(st.floats(300, 5e4))
def test_the_rates_of_what_is_left_still_add_up_to_all_items(seconds: float) -> None:
    timeline = run_of(seconds)
    taken, before = 0.0, 0.0
    for one in samples(timeline.readings):
        taken += one["rate"] * (one["t_s"] - before)
        before = one["t_s"]
    assert taken == pytest.approx(timeline.readings[-1].done, rel=0.01)


def test_the_last_reading_takes_the_place_of_one_just_before() -> None:
    timeline = run_of(2.0)
    timeline.close(Reading(2.1, done=21))
    assert [reading.t_s for reading in timeline.readings] == [0.0, 0.5, 1.0, 1.5, 2.1]
    timeline.close(Reading(2.6, done=26))
    assert [reading.t_s for reading in timeline.readings] == [0.0, 0.5, 1.0, 1.5, 2.1, 2.6]


def test_a_run_shorter_than_a_period_has_a_sample() -> None:
    timeline = Timeline()
    timeline.add(Reading(0.0))
    timeline.close(Reading(0.02, done=3))
    assert [one["done"] for one in samples(timeline.readings)] == [3]


def test_a_sample_says_what_happened_since_the_one_before() -> None:
    before = Reading(10.0, done=100, failed=0, busy_s={"decode": 2.0, "model": 10.0}, workers={"decode": 2, "model": 2})
    now = Reading(
        12.0,
        150,
        10,
        32,
        64,
        {"all": 7},
        {"decode": 3.0, "model": 14.0},
        {"decode": 2, "model": 2},
        1_000,
        {"cuda:0": 5},
    )
    assert sample(before, now) == {
        "t_s": 12.0,
        "done": 150,
        "failed": 10,
        "rate": 30.0,
        "in_flight": 32,
        "window": 64,
        "queued": {"all": 7},
        "busy": {"decode": 0.25, "model": 1.0},
        "rss_bytes": 1_000,
        "device_bytes": {"cuda:0": 5},
    }


def test_a_reading_sums_steps_of_one_name() -> None:
    def stage(name: str, queued: int, *steps: str) -> StageStatistics:
        return StageStatistics(name, 2, queued, (0, 0), tuple(StepStatistics(step, 1.5, 10, 0) for step in steps))

    flow = FlowStatistics(40, 10, 30, 32, 64, 1000, 0.0)
    statistics = PipelineStatistics((stage("a", 3, "decode", "model"), stage("b", 4, "model")), (flow,))
    reading = reading_of(1.0, statistics, (9, 1))
    assert (reading.done, reading.failed, reading.in_flight, reading.window) == (9, 1, 30, 64)
    assert reading.queued == {"a": 3, "b": 4}
    assert reading.busy_s == {"decode": 1.5, "model": 3.0}
    assert reading.workers == {"decode": 2, "model": 4}


def test_recent_readings_begin_with_the_newest_that_is_old_enough_and_are_few() -> None:
    readings = [Reading(0.0)]
    for tick in range(1, 100):
        add_recent(readings, Reading(tick / 4), 5.0)
        assert readings[0].t_s == max(0.0, tick / 4 - 5.0)
    for tick in range(100, 10_000):
        add_recent(readings, Reading(tick / 4), float("inf"))
    assert len(readings) <= MOST_READINGS
    assert readings[0].t_s == 99 / 4 - 5.0
