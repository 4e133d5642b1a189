"""Branches: stages of different branches work side by side on every parcel; the next stage waits for all of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._contracts import Failure
from penstock._engine.chunks import one_by_one
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.step import Stage, Step, routes

WAIT_S = 20.0


def stage(name: str, fn: Any, workers: int = 1, *, block: int | None = None, branch: str | None = None) -> Stage:
    return Stage(name, (Step.of(name, fn, block=block),), workers, branch)


def test_routes() -> None:
    stages = [stage(name, len, branch=branch) for name, branch in (("in", None), ("a", "a"), ("out", None))]
    assert routes(stages) == [(1,), (2,), ()]
    names = [("in", None), ("a1", "a"), ("a2", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c"), ("join", None), ("x", None)]
    assert routes([stage(name, len, branch=branch) for name, branch in names]) == [
        (1, 3, 4),
        (2,),
        (6,),
        (6,),
        (5,),
        (6,),
        (7,),
        (),
    ]


shapes = st.tuples(st.integers(1, 3), st.sampled_from([None, 1, 3, 4]))


@given(
    st.integers(0, 60),
    st.dictionaries(st.sampled_from("abc"), st.lists(shapes, min_size=1, max_size=2), min_size=1),
    st.sets(st.integers(0, 59)),
    st.booleans(),
    st.integers(1, 70),
)
def test_every_branch_sees_every_item_once(
    n: int, branches: dict[str, list[tuple[int, int | None]]], culprits: set[int], ordered: bool, room: int
) -> None:
    def begin(x: int) -> dict[str, int]:
        if x in culprits:
            raise ValueError(f"no {x}")
        return {"item": x} | dict.fromkeys(branches, 0)

    def adding(name: str) -> Any:
        def add(value: dict[str, int]) -> dict[str, int]:
            value[name] += 1
            return value

        return add

    stages = [stage("in", begin, 2)]
    for name, chain in branches.items():
        for i, (workers, block) in enumerate(chain):
            add = adding(name)
            fn = add if block is None else lambda batch, add=add: [add(value) for value in batch]
            stages.append(stage(f"{name}{i}", fn, workers, block=block, branch=name))
    stages.append(stage("join", dict, 2))
    with (
        Pipeline(stages) as pipeline,
        pipeline.flow(one_by_one(range(n)), Window(room, room), ordered=ordered) as flow,
    ):
        pairs = [pair for parcel in flow for pair in zip(parcel.items, parcel.values, strict=True)]
        assert all(post.pieces == {} for post in pipeline.posts)
    if not ordered:
        pairs.sort()
    assert [i for i, _ in pairs] == list(range(n))
    for i, value in pairs:
        if i in culprits:
            assert type(value) is Failure
            assert value.stage == "in"
        else:
            assert value == {"item": i} | {name: len(chain) for name, chain in branches.items()}


def test_a_branch_runs_ahead_of_another_no_further_than_the_window() -> None:
    gate, seen = threading.Event(), []
    enough = threading.Event()

    def slow(value: dict[str, int]) -> dict[str, int]:
        assert gate.wait(WAIT_S)
        return value

    def fast(value: dict[str, int]) -> dict[str, int]:
        seen.append(value["x"])
        if len(seen) == 4:  # the window is narrow until the first items have come out
            enough.set()
        return value

    stages = [
        stage("in", lambda x: {"x": x}),
        stage("slow", slow, branch="slow"),
        stage("fast", fast, branch="fast"),
        stage("join", dict),
    ]
    with Pipeline(stages) as pipeline, pipeline.flow(one_by_one(range(50)), Window(8, 8)) as flow:
        assert enough.wait(WAIT_S)
        assert len(seen) <= 8
        gate.set()
        assert [value["x"] for parcel in flow for value in parcel.values] == list(range(50))


@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_leaves_nothing_between_branches(begun: bool) -> None:
    gate, reached = threading.Event(), threading.Event()

    def held(value: dict[str, int]) -> dict[str, int]:
        reached.set()
        assert gate.wait(WAIT_S)
        return value

    stages = [stage("in", lambda x: {"x": x}), stage("a", held, branch="a"), stage("b", dict, branch="b")]
    with Pipeline([*stages, stage("join", dict)]) as pipeline:
        with pipeline.flow(one_by_one(range(20)), Window(8, 8)):
            assert reached.wait(WAIT_S) or not begun
        gate.set()
        with pipeline.flow(one_by_one([7]), Window()) as flow:
            assert [value for parcel in flow for value in parcel.values] == [{"x": 7}]
        assert all(post.pieces == {} for post in pipeline.posts)
