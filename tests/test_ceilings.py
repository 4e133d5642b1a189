"""Ceilings: which steps are measured and which are never called, on what, and that a job keeps them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import _ceilings as module
from penstock import _task
from penstock._branches import Branches, forked, within
from penstock._ceilings import ITEMS, ceilings, limit_of, of_run, raced, trials
from penstock._devices import cpu_budget
from penstock._engine.step import Rows, Step
from penstock._plan import Part


def part(name: str, fn: Any, *, tryable: bool = True, block: int | None = None, own: Any = None) -> Part:
    return Part(Step.of(name, fn, block=block), tryable=tryable, own=own)


def refuse(value: Any) -> Any:
    raise AssertionError("a user's function was called to measure it")


def test_each_step_gets_what_those_before_it_gave() -> None:
    tried = trials([part("a", lambda x: x + 1), part("b", lambda x: 2 * x)], range(3))
    assert [trial.step.name for trial in tried] == ["a", "b"]
    assert [trial.rows.values for trial in tried] == [[0, 1, 2], [1, 2, 3]]
    assert all(trial.cost_s > 0 for trial in tried)


def test_plain_values_are_known_by_their_position() -> None:
    pair = Part(Step.of("write", lambda item, value: (item, value), takes_item=True), tryable=True)
    (by_item,), (by_position,) = (trials([pair], ["a", "b"]), trials([pair], ["a", "b"], positional=True))
    assert (list(by_item.rows.items), list(by_position.rows.items)) == (["a", "b"], [0, 1])


def test_what_is_the_users_is_never_called_nor_what_comes_behind_it() -> None:
    own = part("own", refuse, tryable=False, own="thread")
    tried = trials([part("a", abs), own, part("c", refuse)], range(3))
    assert [trial.step.name for trial in tried] == ["a"]
    assert trials([own], range(3)) == []


def test_a_step_that_one_thread_calls_is_run_for_those_behind_it() -> None:
    seen: list[int] = []

    def model(x: int) -> int:
        seen.append(x)
        return 10 * x

    parts = [part("a", abs), part("serial", model, tryable=False), part("c", abs)]
    tried = trials(parts, range(3))
    assert [(trial.step.name, trial.rows.values) for trial in tried] == [("a", [0, 1, 2]), ("c", [0, 10, 20])]
    assert seen == [0, 1, 2]
    trials(parts[:2], range(3))
    assert seen == [0, 1, 2]  # nothing behind it is to be measured: it is not called


def test_models_side_by_side_are_measured_on_what_they_were_given() -> None:
    """Their steps write into the values, so that each call needs its own."""
    seen: dict[str, set[Any]] = {"a": set(), "b": set()}

    def doubled(name: str) -> Part:
        def double(x: int) -> int:
            seen[name].add(x)
            return 2 * x

        return Part(within(name, Step.of("double", double)), branch=name, tryable=True)

    parts = [Part(forked("ab", {}), tryable=True), doubled("a"), doubled("b"), part("join", dict)]
    tried = trials(parts, range(1, 4), positional=True)
    rates = ceilings(tried, 2, 0.0)
    assert list(rates) == ["fork", "a: double", "b: double", "join"]
    assert seen == {"a": {1, 2, 3}, "b": {1, 2, 3}}
    assert tried[2].rows.values == [{"a": 2 * x, "b": x} for x in (1, 2, 3)]
    assert all(type(value) is Branches for value in tried[3].rows.values)


def test_an_item_that_one_model_cannot_do_is_left_out() -> None:
    divide = within("a", Step.of("divide", lambda x: 1 / x))
    tried = trials([Part(forked("ab", {}), tryable=True), Part(divide, tryable=True), part("join", dict)], range(3))
    assert [value["b"] for value in tried[2].rows.values] == [1, 2]


def test_items_that_fail_are_left_out() -> None:
    tried = trials([part("a", lambda x: 1 / x), part("b", abs)], [0, 1, 2])
    assert tried[1].rows.values == [1.0, 0.5]
    assert len(trials([part("a", lambda x: 1 / 0), part("b", refuse)], [0, 1])) == 1


@given(st.integers(1, 40), st.integers(1, 9))
def test_batches_are_whole(n: int, block: int) -> None:
    """A measured batch has the size of those in the run, also where there are fewer items."""
    seen: list[int] = []

    def batch(values: list[int]) -> list[int]:
        seen.append(len(values))
        return values

    tried = trials([part("m", batch, block=block)], range(n))
    ceilings(tried, 2, 0.0)
    assert set(seen) == {block}
    assert set(tried[0].rows.values) == set(range(n))


def test_all_threads_work_at_once_each_with_what_it_bound() -> None:
    together, bound = threading.Barrier(3), itertools.count()

    @contextmanager
    def bind() -> Iterator[Any]:
        next(bound)
        yield lambda x: together.wait(20.0) if x else 0

    step = Step("a", bind)
    rates = ceilings([module.Trial(step, Rows(range(1), [1], [1], 0), 1.0)], 3, 0.0)
    assert list(rates) == ["a"]
    assert next(bound) == 3 * module.ROUNDS


def test_the_better_half_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([10.0, 2.0, 20.0, 3.0])
    monkeypatch.setattr(module, "_rate", lambda *_: next(rates))
    assert ceilings(trials([part("a", abs)], [1]), 2, 0.0) == {"a": 15.0}


def test_only_what_others_had_is_taken_off_a_rate() -> None:
    def rate(delayed_s: float, used_s: float) -> float:
        return 2 * module._per_s(50, 1.0, delayed_s, used_s / 2)  # of two threads

    assert rate(0.0, 2.0) == pytest.approx(100.0)
    assert rate(0.5, 1.0) == pytest.approx(200.0)  # a CPU was had by others
    assert rate(0.5, 2.0) == pytest.approx(100.0)  # the threads of a runtime, which the callers waited for
    assert rate(0.5, 1.5) == pytest.approx(100.0 / 0.75)


def test_the_limit_is_what_an_item_takes_of_all_steps() -> None:
    assert limit_of({"a": 100.0, "b": 100.0}) == pytest.approx(50.0)
    assert limit_of({"a": 100.0}) == pytest.approx(100.0)


def test_short_runs_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part("a", abs)]
    assert of_run(parts, range(4), 2, None) == {}
    assert of_run([part("a", refuse)], range(4), 2, 5) == {}
    assert of_run(parts, range(4), 2, ITEMS**2) == {}  # a microsecond each
    monkeypatch.setattr(module, "WORTH_S", 0.0)
    monkeypatch.setattr(module, "BUDGET_S", 0.0)
    assert list(of_run(parts, range(4), 2, ITEMS**2)) == ["a"]
    assert of_run(parts, [], 2, ITEMS**2) == {}


def test_models_that_were_timed_when_chosen() -> None:
    timed = {"verdict": "chosen", "items_per_s": 9.0}
    assert raced([{**timed, "verdict": "0.5 of the chosen one's rate"}, timed]) == {"model": 9.0}
    assert raced([{**timed, "model": "a"}, {**timed, "items_per_s": None}]) == {"a: model": 9.0}


def test_a_job_keeps_them_and_its_output_is_the_same(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured changes no byte, and a resumed run has what the first one found."""
    pytest.importorskip("onnxruntime")
    photos = sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))[:6]
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    how: dict[str, Any] = {"preset": "inception", "runtime": "onnxruntime", "batch": 1}
    plain = penstock.run(photos, model, out=tmp_path / "plain.jsonl", **how)
    assert set(plain.plan["ceilings"]) <= {"model"}  # of the choice: such a run is too short for more

    real = of_run
    monkeypatch.setattr(module, "WORTH_S", 0.0)
    monkeypatch.setattr(_task, "of_run", lambda parts, entries, threads, todo: real(parts, entries, threads, 10**4))
    first = penstock.run(photos, model, out=tmp_path / "o.jsonl", limit=3, **how)
    assert set(first.plan["ceilings"]) == {"decode", "preprocess", "model", "postprocess"}
    assert all(rate > 0 for rate in first.plan["ceilings"].values())

    monkeypatch.setattr(_task, "of_run", refuse)
    second = penstock.run(photos, model, out=tmp_path / "o.jsonl", **how)
    assert second.plan["ceilings"] == first.plan["ceilings"]
    assert (tmp_path / "o.jsonl").read_bytes() == (tmp_path / "plain.jsonl").read_bytes()


def test_a_choice_made_for_other_threads_is_no_ceiling(tmp_path: Path, shared_data: Path) -> None:
    """It says what the model does in so many threads, not what it could do on all CPUs."""
    pytest.importorskip("onnxruntime")
    photos = sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))[:4]
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    threads = cpu_budget().threads + 1
    how: dict[str, Any] = {"preset": "inception", "runtime": "onnxruntime", "batch": 1, "threads": threads}
    report = penstock.run(photos, model, out=tmp_path / "o.jsonl", **how)
    assert report.plan["measurements"][0]["items_per_s"] is not None
    assert report.plan["ceilings"] == {}


def test_a_retry_measures_models_as_if_nothing_was_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not asked again takes no time, which is not what it could do."""
    models, out = {"a": len_of, "b": unless_broken}, tmp_path / "o.jsonl"
    monkeypatch.setitem(BROKEN, "b", 3)
    assert penstock.run(range(9), models, out=out, batch=1).failed == 1
    BROKEN.clear()
    tried: list[Part] = []

    def of_run(parts: list[Part], *_: Any) -> dict[str, float]:
        tried.extend(parts)
        return {}

    monkeypatch.setattr(_task, "of_run", of_run)
    assert penstock.run(range(9), models, out=out, batch=1, retry=True).failed == 0
    with tried[0].step.bind() as fork:
        assert fork(3, 3).settled == frozenset()


BROKEN: dict[str, int] = {}
"""The number that a model fails on at present."""


def len_of(batch: list[int]) -> list[int]:
    return [len(batch)] * len(batch)


def unless_broken(batch: list[int]) -> list[int]:
    if BROKEN.get("b") in batch:
        raise ValueError("not yet")
    return batch


def test_a_model_that_is_a_function_sees_each_item_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def model(batch: list[int]) -> list[int]:
        seen.extend(batch)
        return batch

    monkeypatch.setattr(module, "WORTH_S", 0.0)
    report = penstock.run(range(600), model, out=tmp_path / "o.jsonl")
    assert sorted(seen) == list(range(600))
    assert report.plan["ceilings"] == {}
