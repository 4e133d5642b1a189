"""What is worked out of the measurements before anything is concluded from them."""

from __future__ import annotations

from penstock._engine.statistics import StageStatistics, StepStatistics
from penstock._telemetry.seen import Seen, others_s

STAGE = StageStatistics("work", 2, 0, (), ())


def test_time_that_others_had_is_none_of_a_stretch() -> None:
    assert Seen(100, 10.0, (STAGE,), cpus=2, cpu_s=10.0, delayed_s=6.0).undisturbed_s == 7.0
    assert Seen(100, 10.0, (STAGE,), cpus=2, cpu_s=0.0, delayed_s=20.0).undisturbed_s == 1.0


def test_a_worker_alone_lost_all_the_time_in_which_it_had_no_cpu() -> None:
    alone = StageStatistics("work", 1, 0, (), ())
    assert Seen(100, 10.0, (alone,), cpus=2, cpu_s=7.0, delayed_s=3.0).undisturbed_s == 7.0


def test_what_the_process_used_itself_nobody_else_had() -> None:
    """More threads than CPUs delay each other, as those of a runtime do the workers that call it."""
    assert others_s(delayed_s=6.0, used_s=20.0, whole_s=20.0) == 0.0
    assert others_s(delayed_s=6.0, used_s=18.0, whole_s=20.0) == 2.0
    assert others_s(delayed_s=6.0, used_s=10.0, whole_s=20.0) == 6.0
    assert others_s(delayed_s=6.0, used_s=20.1, whole_s=20.0) == 0.0  # clocks differ a little
    crowded = Seen(100, 10.0, (STAGE,), cpus=2, cpu_s=20.0, delayed_s=30.0)
    assert (crowded.others_s, crowded.undisturbed_s, crowded.wanted) == (0.0, 10.0, 2.0)


def test_what_processes_waited_for_is_no_reason_to_think_that_nobody_else_was_there() -> None:
    """All their time counts as computing; the process itself used 4 of 20 seconds."""
    step = StepStatistics("fetch", 30.0, 100, 0, 30.0)
    seen = Seen(100, 10.0, (StageStatistics("work", 3, 0, (), (step,)),), cpus=2, cpu_s=4.0, delayed_s=6.0)
    assert (seen.others_s, seen.undisturbed_s) == (6.0, 7.0)
