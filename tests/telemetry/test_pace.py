"""The ETA is right within 20 % from 20 % on, whatever the start-up, the batches and the jitter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._telemetry.pace import MAX_MARKS, Mark, add_mark, burst_s, eta_s, item_cost_s

BATCHES = 200


def finish_times(batch: int, cost_s: float, start_up_s: float, seed: int) -> list[Mark]:
    """Return when each batch of a run finishes, every batch 0.5 to 1.5 times as slow as the mean."""
    jitter = random.Random(seed)
    moment, times = start_up_s, []
    for number in range(1, BATCHES + 1):
        moment += batch * cost_s * jitter.uniform(0.5, 1.5)
        times.append((moment, number * batch))
    return times


@given(
    batch=st.integers(1, 64),
    cost_s=st.floats(1e-4, 10),
    start_up_s=st.floats(0, 1e4),
    seed=st.integers(0, 2**32),
    poll=st.floats(0.01, 1),
)
def test_eta_is_within_a_fifth_from_a_fifth_on(
    batch: int, cost_s: float, start_up_s: float, seed: int, poll: float
) -> None:
    """The loop looks on at times of its own, `poll` of a batch apart."""
    times = finish_times(batch, cost_s, start_up_s, seed)
    (end_s, total), step_s = times[-1], poll * batch * cost_s
    marks: list[Mark] = []
    now_s, finished = start_up_s, 0
    while now_s < end_s - 5 * batch * cost_s:
        now_s += step_s
        while times and times[0][0] <= now_s:
            finished = times.pop(0)[1]
        add_mark(marks, now_s, finished)
        if finished >= 0.2 * total:
            left_s = eta_s(marks, total - finished, now_s)
            assert left_s is not None
            assert abs(left_s - (end_s - now_s)) <= 0.2 * (end_s - now_s) + 2 * batch * cost_s


def test_start_up_is_no_part_of_the_rate() -> None:
    marks: list[Mark] = []
    for second in range(11):
        add_mark(marks, 1000.0 + second, 1 + second * 5)
    assert item_cost_s(marks, 1010.0) == pytest.approx(0.2)
    assert eta_s(marks, 100, 1010.0) == pytest.approx(20.0)


def test_one_mark_says_nothing() -> None:
    marks: list[Mark] = []
    add_mark(marks, 3.0, 0)
    assert marks == []
    add_mark(marks, 4.0, 8)
    add_mark(marks, 5.0, 8)
    assert marks == [(4.0, 8)]
    assert item_cost_s(marks, 9.0) is None
    assert eta_s(marks, 10, 9.0) is None


def test_the_window_follows_a_change_of_speed() -> None:
    marks: list[Mark] = []
    for second in range(100):
        add_mark(marks, float(second), 1 + second * 10)
    for second in range(100, 200):
        add_mark(marks, float(second), 1000 + (second - 99))
    cost_s = item_cost_s(marks, 199.0)
    overall_s = 199 / 1099
    assert cost_s == pytest.approx((1 + overall_s) / 2, rel=0.02)


def test_time_since_the_last_batch_counts_down_and_a_hang_counts_up() -> None:
    marks: list[Mark] = [(float(second), 10 * second) for second in range(10)]
    assert eta_s(marks, 100, 9.0) == pytest.approx(10.0)
    assert eta_s(marks, 100, 9.5) == pytest.approx(9.5)
    hanging = [eta_s(marks, 100, 9.0 + wait_s) or 0 for wait_s in (5.0, 20.0, 100.0)]
    assert hanging == sorted(hanging)
    assert hanging[0] > 10


def test_marks_stay_few_and_keep_the_first_and_the_last() -> None:
    marks: list[Mark] = []
    for second in range(1, 10_001):
        add_mark(marks, float(second), 3 * second)
    assert len(marks) <= MAX_MARKS
    assert (marks[0], marks[-1]) == ((1.0, 3), (10_000.0, 30_000))
    assert marks == sorted(set(marks))
    assert item_cost_s(marks, 10_000.0) == pytest.approx(1 / 3)


def test_a_burst_is_the_longest_of_the_last_waits() -> None:
    marks: list[Mark] = [(0.0, 1), (50.0, 2), *((50.0 + i, 2 + i) for i in range(1, 8)), (60.0, 10)]
    assert burst_s(marks) == 3.0
