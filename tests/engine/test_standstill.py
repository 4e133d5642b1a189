"""What is strange and no failure is said once: an item far slower than others, a pipeline in which nothing moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from penstock._engine.chunks import one_by_one
from penstock._engine.patience import ALARM_S, SLOW_S
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.standstill import versions
from penstock._engine.step import Stage, Step
from penstock._engine.watch import Watch

if TYPE_CHECKING:
    import pytest

WAIT_S = 20.0
MANY = 10_000


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def watched() -> Iterator[tuple[Pipeline, Callable[[float], None]]]:
    """Give a pipeline without an item timeout that is stuck at item 40, and what lets seconds pass for its watch."""
    clock, inside, gate = Clock(), threading.Event(), threading.Event()

    def wait_at_the_gate() -> None:
        inside.set()
        assert gate.wait(WAIT_S)

    stages = [Stage("work", (Step.of("decode", lambda x: wait_at_the_gate() if x == 40 else x),), 1)]
    with Pipeline(stages) as pipeline, ExitStack() as stack:
        flow = stack.enter_context(pipeline.flow(one_by_one(range(60)), Window()))
        stack.callback(gate.set)
        stack.callback(flow.close, 0.0)
        pipeline._relief.watch = Watch(None, clock)
        while not inside.is_set():
            flow.collect(0.01)

        def pass_by(seconds: float) -> None:
            end = clock.now + seconds
            while clock.now < end:
                clock.now += 1.0
                pipeline._look_at = 0.0
                pipeline.watch()

        pass_by(1.0)
        yield pipeline, pass_by


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "penstock"]


def test_an_item_far_slower_than_the_others_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    with watched() as (pipeline, pass_by):
        for calls in pipeline.posts[0].calls:
            for _ in range(MANY):  # so many that one which took long on a busy machine is no percentile
                calls.add(1e-4)
        pass_by(SLOW_S - 2)
        assert said(caplog) == []
        pass_by(15)
        (message,) = said(caplog)
        assert pipeline.statistics().notes == {"slow in stage 'decode'": 1}
        assert pipeline._error is None
    assert "stage 'decode' has worked on 40 for 1" in message
    assert "99 % of" in message
    assert "in wait_at_the_gate" in message


def test_a_pipeline_in_which_nothing_moves_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with watched() as (pipeline, pass_by):
        pass_by(ALARM_S - 2)
        assert said(caplog) == []
        pass_by(4)
        (message,) = said(caplog)
        pass_by(ALARM_S)
        assert len(said(caplog)) == 3  # again, and as slow
        assert pipeline._error is None
    for part in (
        "Nothing has moved for 31 s",
        "stage 'decode' has worked on 40 for",
        "stage 'work': 1 workers, ",
        "in flight",
        "Python 3.",
        "--- MainThread",
        "--- penstock-work-0",
        "in wait_at_the_gate",
    ):
        assert part in message


def test_without_an_item_timeout_nothing_is_ever_given_up() -> None:
    with watched() as (pipeline, pass_by):
        pass_by(1000.0)
        assert pipeline._relief.given_up() == []
        assert pipeline._error is None


def test_versions_are_of_what_is_loaded() -> None:
    import numpy as np

    assert versions().startswith("Python 3.")
    assert f"numpy {np.__version__}" in versions()
