"""How long calls took, by step: of those that ran, in the engine's own counts."""

from __future__ import annotations

import threading

import pytest

from penstock._engine.chunks import one_by_one
from penstock._engine.latency import latencies
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step


def test_each_step_that_ran_has_its_calls() -> None:
    waiting = threading.Event()

    def slow(value: int) -> int:
        waiting.wait(0.02)
        return value

    steps = (Step.of("quick", lambda value: value), Step.of("slow", slow))
    with Pipeline([Stage("both", steps, 1)]) as pipeline:
        assert latencies(pipeline) == []
        with pipeline.flow(one_by_one(range(20)), Window(32, 32)) as flow:
            while flow.collect(1.0, 1) is not None:
                pass
        quick, late = latencies(pipeline)
    assert (quick["name"], late["name"], late["items_a_call"]) == ("quick", "slow", 1)
    assert 0.02 * 0.98 <= late["p50_s"] <= late["p90_s"] <= late["p99_s"] <= late["p100_s"]
    assert quick["p50_s"] < late["p50_s"]
    assert sum(count for _, _, count in late["histogram"]) == pytest.approx(20, abs=19)
