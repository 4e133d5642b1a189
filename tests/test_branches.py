"""Branches: a model works on its own part, and an answer that comes when its item has gone on is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock._branches import Branches, within
from penstock._contracts import Failure
from penstock._engine.step import Step

STUCK = Failure("model", "Stalled", "it is stuck")


def test_an_answer_takes_the_place_of_what_the_model_was_given() -> None:
    given = [1]
    branches = Branches(given, "ab", {})
    branches.settle("a", given, "answer")
    assert branches == {"a": "answer", "b": given}


@pytest.mark.parametrize("now", [STUCK, "the answer of the thread that was asked instead"])
def test_a_late_answer_changes_nothing(now: Any) -> None:
    given = [1]
    branches = Branches(given, "ab", {})
    branches["a"] = now
    branches.settle("a", given, "late")
    assert branches["a"] == now


def test_a_copy_is_worked_on_alone() -> None:
    branches = Branches("x", "ab", {"a": "earlier"})
    twin = branches.copy()
    assert (twin, twin.settled) == (branches, branches.settled)
    twin.settle("b", "x", "answer")
    assert (branches["b"], twin["b"], twin["a"]) == ("x", "answer", "earlier")


def test_an_answer_of_an_earlier_run_stays() -> None:
    branches = Branches("x", "ab", {"a": "earlier"})
    branches.settle("a", "earlier", "other")
    assert branches["a"] == "earlier"


def called(step: Step, branches: Branches) -> None:
    with step.bind() as fn:
        if step.block:
            fn([branches])
        else:
            fn(branches)


@pytest.mark.parametrize("block", [None, 4])
def test_an_item_that_is_given_up_while_a_model_has_it_stays_given_up(block: int | None) -> None:
    branches = Branches([1], "ab", {})

    def model(given: Any) -> Any:
        step.mark(branches, STUCK)  # what the watch does while this call is stuck
        return given

    step = within("a", Step.of("model", model, block=block))
    called(step, branches)
    failure = branches["a"]
    assert (failure.type, failure.model) == ("Stalled", "a")
    assert branches["b"] == [1]


def test_marking_does_not_hide_why_an_item_failed_before() -> None:
    def fails(_: Any) -> Any:
        raise ValueError("broken")

    branches = Branches([1], "ab", {})
    step = within("a", Step.of("model", fails))
    called(step, branches)
    assert step.mark(branches, STUCK) is branches
    assert branches["a"].type == "ValueError"


def test_without_branches_the_failure_takes_the_place() -> None:
    mark: Callable[[Any, Failure], Any] = Step.of("model", len).mark
    assert mark([1], STUCK) is STUCK
