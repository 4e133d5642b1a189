"""Steps: an item's failure is data in its own place (rule 8), a failed batch is bisected, the rest is kept."""

from __future__ import annotations

import gc
import math
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._contracts import Failure
from penstock._engine.step import Rows, Stage, Step, run_step
from penstock.errors import SinkError

EARLIER = Failure("earlier", "ValueError", "no")
ERRORS = (ValueError("bad"), StopIteration("bad"), KeyError("bad"), MemoryError())


def rows_of(values: list[Any], positions: list[int] | None = None) -> Rows:
    failed = sum(type(value) is Failure for value in values)
    places = positions if positions is not None else list(range(len(values)))
    return Rows(places, [f"item {place}" for place in places], values, failed)


def failing(culprits: set[int], error: Exception) -> Any:
    def fn(x: int) -> int:
        if x in culprits:
            raise error
        return x * 2

    return fn


def run(step: Step, fn: Any, rows: Rows) -> tuple[list[Any], int]:
    out: list[Any] = []
    return out, run_step(step, fn, rows, out)


@given(st.lists(st.integers(0, 9), max_size=30), st.sets(st.integers(0, 9)), st.sampled_from(ERRORS))
def test_each_value_has_its_answer_or_its_failure(values: list[int], culprits: set[int], error: Exception) -> None:
    fn = failing(culprits, error)
    out, failed = run(Step.of("double", fn), fn, rows_of(values))
    assert failed == sum(value in culprits for value in values)
    for value, answer in zip(values, out, strict=True):
        assert type(answer) is Failure if value in culprits else answer == value * 2


@given(st.lists(st.sampled_from([1, 2, 3, EARLIER]), max_size=20), st.sampled_from(ERRORS))
def test_earlier_failures_pass_unchanged(values: list[Any], error: Exception) -> None:
    fn = failing({2}, error)
    out, failed = run(Step.of("double", fn), fn, rows_of(values))
    assert failed == sum(value in (2, EARLIER) for value in values)
    for value, answer in zip(values, out, strict=True):
        assert answer is EARLIER if value is EARLIER else type(answer) is Failure if value == 2 else answer == value * 2


@given(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=9), st.booleans())
def test_a_failure_says_the_same_whatever_failed_before_it(values: list[int], after_failure: bool) -> None:
    """StopIteration is swallowed by `map` and not by a plain call; the record of the failure must not depend on it."""
    fn = failing({2}, StopIteration("secret"))
    out, _ = run(Step.of("double", fn), fn, rows_of([EARLIER, *values] if after_failure else [*values]))
    messages = {(answer.type, answer.message) for answer in out if type(answer) is Failure and answer is not EARLIER}
    assert messages <= {("RuntimeError", "double raised StopIteration")}


def test_items_are_given_to_a_step_that_takes_them() -> None:
    step = Step.of("post", lambda item, value: (item, value), takes_item=True)
    fn = lambda item, value: (item, value)
    assert run(step, fn, rows_of([5, 6]))[0] == [("item 0", 5), ("item 1", 6)]
    assert run(step, fn, rows_of([EARLIER, 6]))[0] == [EARLIER, ("item 1", 6)]


@given(
    st.sets(st.integers(0, 40), min_size=1),
    st.integers(1, 9),
    st.sets(st.integers(0, 40), max_size=3),
    st.sets(st.integers(0, 40), max_size=5),
)
def test_batches_are_the_blocks_and_a_failed_one_is_bisected(
    places: set[int], block: int, culprits: set[int], dead: set[int]
) -> None:
    positions = sorted(places)
    calls: list[list[int]] = []

    def model(batch: list[int]) -> list[int]:
        calls.append(batch)
        if culprits & set(batch):
            raise ValueError("bad")
        return [x * 2 for x in batch]

    out, failed = run(
        Step.of("model", model, block=block),
        model,
        rows_of([EARLIER if p in dead else p for p in positions], positions),
    )
    for place, answer in zip(positions, out, strict=True):
        expected = place not in culprits and place not in dead
        assert (answer == place * 2) if expected else (type(answer) is Failure)
    assert failed == len(places & (culprits | dead))
    live = [p for p in positions if p not in dead]
    blocks = [[p for p in live if p // block == number] for number in sorted({p // block for p in live})]
    assert [b for b in blocks if b in calls] == blocks  # each block is called whole, before it is halved
    assert all(len({p // block for p in call}) == 1 and len(call) <= block for call in calls)
    seen = Counter(p for call in calls for p in call)
    for whole in blocks:
        most = math.ceil(math.log2(len(whole))) + 1 if culprits & set(whole) else 1
        assert all(seen[p] <= most for p in whole)


@pytest.mark.parametrize("answer", [lambda b: b[:-1], lambda b: [*b, 0], iter, lambda b: None])
def test_a_wrong_number_of_rows_fails_every_item_of_the_batch(answer: Any) -> None:
    out, failed = run(Step.of("model", answer, block=4), answer, rows_of([1, 2, 3]))
    assert failed == 3
    assert all(row.stage == "model" for row in out)


def test_a_wrong_number_of_rows_says_how_many() -> None:
    fn: Any = lambda batch: []
    (failure,), _ = run(Step.of("model", fn, block=4), fn, rows_of([1]))
    assert (failure.type, failure.message) == ("ItemError", "model returned 0 rows for 1 items.")


def test_a_failure_names_the_model() -> None:
    step = Step("predict", Step.of("", len).bind, block=2, model="lpr")
    out, _ = run(step, lambda batch: 1 / 0, rows_of([1]))
    assert out == [Failure("predict", "ZeroDivisionError", "division by zero", "lpr")]


@pytest.mark.parametrize("block", [None, 4])
@pytest.mark.parametrize("values", [[1, 2, 3], [EARLIER, 2, 3]])
def test_an_error_that_stops_the_run_is_raised_at_once(block: int | None, values: list[Any]) -> None:
    """A full disk is no item's fault: nothing is tried again, or a second try may hide it."""
    calls: list[Any] = []

    def write(value: Any) -> Any:
        calls.append(value)
        raise SinkError("disk full")

    with pytest.raises(SinkError, match="disk full"):
        run(Step.of("write", write, block=block), write, rows_of(values))
    assert len(calls) == 1


def test_an_error_that_cannot_be_shown_costs_its_item_alone() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise TypeError("no words")

    fn = failing({2}, Rude())
    out, failed = run(Step.of("double", fn), fn, rows_of([1, 2, 3]))
    assert (out[0], out[2], failed) == (2, 6, 1)
    assert (out[1].type, out[1].message) == ("Rude", "(no message: TypeError)")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the cycle collector off: what is let go of is freed at once, or it was held in a circle."""
    gc.disable()
    yield
    gc.enable()


class Big:
    """Something whose memory matters."""


@pytest.mark.parametrize("block", [None, 1, 2])
@pytest.mark.parametrize("error", [ValueError("bad"), StopIteration()])
def test_a_failed_value_is_freed(no_collector: None, block: int | None, error: Exception) -> None:
    """A traceback that is kept holds the batch that did not fit into memory (rules 4 and 9)."""
    kept: list[weakref.ref[Big]] = []

    def fn(value: Any) -> Any:
        raise type(error)(*error.args)

    def scene() -> None:
        values = [Big(), Big(), Big()]
        kept.extend(weakref.ref(value) for value in values)
        assert run(Step.of("big", fn, block=block), fn, rows_of(list(values)))[1] == 3

    scene()
    assert [ref() for ref in kept] == [None] * 3


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize("first", [0, EARLIER])
def test_a_step_that_is_cut_short_begins_no_other_item(block: int | None, first: Any) -> None:
    """Emptying the list of values is how a worker is stopped: it must end, however it walks over the list."""
    values = [first, 1, 2, 3, 4, 5, 6, 7]
    seen: list[Any] = []

    def fn(value: Any) -> Any:
        seen.append(value)
        values.clear()
        raise ValueError("this batch would be bisected")

    out, _ = run(Step.of("cut", fn, block=block), fn, rows_of(values))
    assert len(seen) == 1
    assert len(out) <= 8


def test_the_block_of_a_stage_is_one_that_all_its_steps_divide() -> None:
    a, b, c = (Step.of("s", len, block=block) for block in (4, 6, None))
    assert Stage("x", (a, b, c), 1).block == 12
    assert Stage("x", (c,), 1).block is None
