"""How long is too long, learnt from how long things take."""

from __future__ import annotations

import pytest

from penstock._engine.histogram import Histogram
from penstock._engine.patience import ALARM_S, FIRST_S, LEARNT, SLOW_S, TIMES, Silence, alarm_s, slow_s, slowest


def calls(seconds: float, n: int = LEARNT) -> Histogram:
    histogram = Histogram()
    for _ in range(n):
        histogram.add(seconds)
    return histogram


def test_before_anything_is_known_a_call_may_take_a_minute() -> None:
    assert slow_s(Histogram()) == FIRST_S
    assert slow_s(calls(0.001, LEARNT - 1)) == FIRST_S


def test_slow_is_many_times_what_nearly_all_take() -> None:
    assert slow_s(calls(0.001)) == SLOW_S
    assert slow_s(calls(2.0)) == pytest.approx(TIMES * 2.0, rel=0.03)


def test_one_slow_call_in_a_thousand_teaches_nothing() -> None:
    histogram = calls(0.001, 999)
    histogram.add(1000.0)
    assert slow_s(histogram) == SLOW_S


def test_the_alarm_waits_longer_where_calls_take_long() -> None:
    assert alarm_s(Histogram()) == ALARM_S
    assert alarm_s(calls(0.1)) == ALARM_S
    assert alarm_s(calls(60.0)) == pytest.approx(TIMES * 60.0, rel=0.03)


def test_slowest_is_the_one_with_the_longest_calls() -> None:
    long = calls(3.0)
    assert slowest([calls(1.0), long, Histogram()]) is long
    assert len(slowest([])) == 0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_silence_is_said_once_and_then_after_twice_as_long_each_time() -> None:
    clock = Clock()
    silence = Silence(clock)
    said = []
    for _ in range(400):
        clock.now += 1.0
        if silence.look("same", 30.0) is not None:
            said.append(clock.now - 101.0)
    assert said == [31.0, 61.0, 121.0, 241.0]


def test_any_sign_of_life_ends_it() -> None:
    clock = Clock()
    silence = Silence(clock)
    for beat in range(100):
        clock.now += 30.0
        assert silence.look(beat, 30.0) is None
    clock.now += 30.5
    assert silence.look(99, 30.0) == pytest.approx(30.5)
    assert silence.look(100, 30.0) is None
    clock.now += 30.5
    assert silence.look(100, 30.0) == pytest.approx(30.5)
