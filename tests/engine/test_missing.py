"""Rule 2: what went into the pipeline and is nowhere any more is missed while the run is on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from penstock._engine.chunks import one_by_one
from penstock._engine.flow import Flow, Take
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step
from penstock.errors import AuditError


@contextmanager
def running(stages: Sequence[Stage], take: Take, *, ordered: bool = True) -> Iterator[Flow]:
    """Give a flow that is looked at often."""
    with Pipeline(stages, item_timeout_s=0.1) as pipeline, pipeline.flow(take, Window(), ordered=ordered) as flow:
        yield flow


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_that_is_lost_inside_is_missed(monkeypatch: pytest.MonkeyPatch, ordered: bool) -> None:
    """Without this an ordered flow would wait for it for good."""
    pass_on = Pipeline._pass_on

    def losing(self: Pipeline, s: int, parcel: Any) -> None:
        if 17 not in parcel.positions:
            pass_on(self, s, parcel)

    monkeypatch.setattr(Pipeline, "_pass_on", losing)
    stages = [Stage("work", (Step.of("work", abs),), 2)]
    with running(stages, one_by_one(range(60)), ordered=ordered) as flow, pytest.raises(AuditError) as caught:
        list(flow)
    assert "items entered the pipeline and did not come out" in str(caught.value)


def test_a_piece_that_is_lost_before_a_batch_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    push = Pipeline._push

    def losing(self: Pipeline, s: int, parcel: Any, origin: int) -> None:
        if not (s == 1 and 17 in parcel.positions):
            push(self, s, parcel, origin)

    monkeypatch.setattr(Pipeline, "_push", losing)
    stages = [Stage("a", (Step.of("a", abs),), 2), Stage("b", (Step.of("b", list, block=16),), 1)]
    with running(stages, one_by_one(range(64))) as flow, pytest.raises(AuditError):
        list(flow)
