"""Turns: who waits gets a parcel that was put by, and nobody gives way to those who have gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock._engine.chunks import one_by_one
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.post import Post
from penstock._engine.sizing import TURNS, Window
from penstock._engine.step import Stage, Step

if TYPE_CHECKING:
    import pytest

WAIT_S = 10.0


def stage(fn: Callable[..., Any], workers: int = 1) -> Stage:
    return Stage("work", (Step.of("work", fn),), workers)


def gate_of(event: threading.Event) -> None:
    assert event.wait(WAIT_S)


def test_after_some_turns_a_worker_puts_a_parcel_by_for_an_idle_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one thread of a cheap stage would do everything: who is only woken comes too late."""
    pipeline = Pipeline([stage(str, 2)])
    flow, post, worker = pipeline.flow(one_by_one([]), Window()), pipeline.posts[0], pipeline.workers[0]
    post.queue.extend(Parcel(flow, i, (i, 1), [i], [i], [i]) for i in range(TURNS + 2))
    waits: list[int] = []

    def waits_for_the_other(post: Post, _: float, __: Any) -> None:
        waits.append(len(post.queue))
        post.queue.popleft()  # the other one has come, and taken what was promised
        post.promised -= 1
        post.queue.append(Parcel(flow, 0, (0, 1), [0], [0], [0]))

    monkeypatch.setattr(Post, "rest", waits_for_the_other)
    post.idle = 1
    for _ in range(TURNS + 1):
        assert pipeline._exchange(worker, post) is not None
    assert (post.promised, waits) == (1, [])  # there is one more than was put by
    assert pipeline._exchange(worker, post) is not None
    assert waits == [1]  # the last one is the other's
    assert post.promised == 0


def test_a_worker_that_is_alone_gives_way_to_nobody() -> None:
    """Nothing is put by for workers that are all busy."""
    pipeline = Pipeline([stage(str, 2)])
    flow, post, worker = pipeline.flow(one_by_one([]), Window()), pipeline.posts[0], pipeline.workers[0]
    post.queue.extend(Parcel(flow, i, (i, 1), [i], [i], [i]) for i in range(3 * TURNS))
    for _ in range(3 * TURNS):
        assert pipeline._exchange(worker, post) is not None
    assert post.promised == 0


def test_a_worker_gives_way_to_nobody_when_it_is_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those it would wait for have gone."""
    gate, begun = threading.Event(), threading.Event()

    def slow(x: int) -> int:
        begun.set()
        gate_of(gate)
        return x

    pipeline = Pipeline([stage(slow, 2)])
    waits: list[float] = []
    rest = Post.rest

    def noted(self: Post, timeout_s: float, flows: Any) -> None:
        if pipeline._closing:
            waits.append(timeout_s)
        else:
            rest(self, timeout_s, flows)

    monkeypatch.setattr(Post, "rest", noted)
    with pipeline, pipeline.flow(one_by_one(range(100)), Window(32, 32)):
        assert begun.wait(WAIT_S)
        with pipeline.lock:  # as if one worker had done everything, and another were idle
            pipeline.posts[0].idle += 1
            for worker in pipeline.workers:
                worker.turns = TURNS
        pipeline.close(timeout_s=0.0)
        gate.set()
        pipeline.close(timeout_s=WAIT_S)
    assert waits == []
