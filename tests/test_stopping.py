"""How long a run that is to stop waits for what is in flight."""

from __future__ import annotations

from penstock._stopping import STOP_GRACE_S, TIMES, Grace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_waits_as_long_as_something_comes_out() -> None:
    clock = Clock()
    grace = Grace(clock)
    for _ in range(100):
        clock.now += STOP_GRACE_S
        assert not grace.over(came=True, usual_s=0.0)


def test_it_waits_for_a_while_where_nothing_comes_out() -> None:
    clock = Clock()
    grace = Grace(clock)
    assert not grace.over(came=False, usual_s=0.0)  # from here on
    clock.now += STOP_GRACE_S
    assert not grace.over(came=False, usual_s=0.0)
    clock.now += 0.1
    assert grace.over(came=False, usual_s=0.0)


def test_it_waits_longer_where_calls_take_long() -> None:
    clock = Clock()
    grace = Grace(clock)
    grace.over(came=False, usual_s=60.0)
    clock.now += TIMES * 60.0
    assert not grace.over(came=False, usual_s=60.0)
    clock.now += 0.1
    assert grace.over(came=False, usual_s=60.0)


def test_a_terminated_run_is_gone_before_it_would_be_killed() -> None:
    """docker stop waits 10 s, and the close takes up to 2."""
    assert STOP_GRACE_S + 2.0 <= 10.0
