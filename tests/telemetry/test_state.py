"""What is known of a run, in one form for every display, and the words for it."""

from __future__ import annotations

import pytest

from penstock._engine.statistics import FlowStatistics, PipelineStatistics, StageStatistics, StepStatistics
from penstock._telemetry.state import State, StepState, cost, duration, numbers, rate, size, step_states, time_of
from penstock._telemetry.timeline import Reading, reading_of


def stage(name: str, queued: int, *steps: StepStatistics, workers: int = 2) -> StageStatistics:
    return StageStatistics(name, workers, queued, (0,) * workers, steps)


def pipeline(*stages: StageStatistics) -> PipelineStatistics:
    return PipelineStatistics(stages, (FlowStatistics(40, 10, 30, 32, 64, 1000, 0.0),))


def test_steps_say_what_they_did_since_a_reading() -> None:
    before = Reading(10.0, busy_s={"decode": 2.0, "model": 10.0}, workers={"decode": 2, "model": 2})
    fused = stage("decode+model", 7, StepStatistics("decode", 3.0, 100, 0), StepStatistics("model", 12.0, 60, 0))
    statistics = pipeline(fused, stage("write", 5, StepStatistics("write", 0.0, 0, 0), workers=1))
    assert step_states(statistics, before, reading_of(12.0, statistics, (60, 0))) == (
        StepState("decode", 2, 0.25, 7, 0.03),
        StepState("model", 2, 0.5, None, 0.2),
        StepState("write", 1, None, 5, None),
    )


def test_steps_of_one_name_are_taken_together() -> None:
    one, two = StepStatistics("load", 1.0, 10, 0), StepStatistics("load", 2.0, 5, 0)
    statistics = pipeline(stage("a", 3, one), stage("b", 4, two, workers=1))
    (step,) = step_states(statistics, Reading(0.0), reading_of(2.0, statistics, (5, 0)))
    assert step == StepState("load", 3, 0.5, 7, 0.2)


def test_work_that_is_handed_over_at_once_makes_nobody_busier_than_always() -> None:
    statistics = pipeline(stage("model", 0, StepStatistics("model", 50.0, 2, 0), workers=1))
    (step,) = step_states(statistics, Reading(9.0), reading_of(10.0, statistics, (2, 0)))
    assert (step.busy, step.cost_s) == (1.0, 25.0)


def test_the_time_is_what_is_left_what_it_took_or_how_long_it_has_run() -> None:
    assert time_of(State(5, total=10, eta_s=61.0, elapsed_s=60.0)) == "1:01 left"
    assert time_of(State(5, total=10, elapsed_s=60.0)) == "for 1:00"
    assert time_of(State(10, total=10, eta_s=0.0, elapsed_s=60.0)) == "for 1:00"
    assert time_of(State(10, total=10, elapsed_s=60.0, ended=True)) == "in 1:00"


def test_a_line_has_what_is_known_the_most_important_first() -> None:
    assert numbers(State(7)) == ["7", "0 failed"]
    state = State(1500, 2, 3, 2000, 12.3, 40.0, 100.0, "model")
    assert numbers(state) == ["1,500/2,000", "12/s", "0:40 left", "2 failed", "3 skipped", "slowest: model"]
    ended = State(1995, 2, 3, 2000, 12.3, None, 130.0, "model", ended=True)
    assert numbers(ended)[:3] == ["1,995/2,000", "12/s", "in 2:10"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (34.6, "0:35"), (3599.6, "1:00:00"), (3723, "1:02:03"), (183_845, "2 d 03:04:05")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("per_s", "text"), [(1234.4, "1,234/s"), (7.31, "7.3/s"), (0.04, "0.04/s")])
def test_rates(per_s: float, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 µs"),
        (3.14e-6, "3.1 µs"),
        (0.00096, "1.0 ms"),
        (0.0123, "12 ms"),
        (0.96, "1.0 s"),
        (4.5, "4.5 s"),
        (1234, "1,234 s"),
    ],
)
def test_costs(seconds: float, text: str) -> None:
    assert cost(seconds) == text


@pytest.mark.parametrize(("n_bytes", "text"), [(0, "0 MB"), (812_000_000, "812 MB"), (999_600_000, "1.0 GB")])
def test_sizes(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text
