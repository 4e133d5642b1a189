"""Real runs that get better numbers while they go on; and those that must not."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import penstock
from penstock import Workers, _climb, _climbing
from penstock._climb import Bounds
from penstock._climbing import Climber, bounds_of
from penstock._devices import cpu_budget
from penstock._engine.pipeline import Pipeline
from penstock._engine.statistics import StageStatistics
from penstock._engine.step import Stage, Step
from penstock._plan import Part
from penstock._telemetry.seen import Seen

pytestmark = pytest.mark.skipif(cpu_budget().threads < 2, reason="with one CPU all threads share it, whatever they do")

Go = Callable[..., Any]


def same(batch: list[Any]) -> list[Any]:
    return batch


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_climbing, "STRETCH_S", 0.3)
    monkeypatch.setattr(_climbing, "FIRST_S", 0.3)
    monkeypatch.setattr(_climbing, "SETTLE_S", 0.05)
    monkeypatch.setattr(_climb, "WORTH_S", 0.5)


@pytest.fixture
def go(tmp_path: Path) -> Go:
    """Return `run` into a file of this test; it checks that each item has its result."""

    def run(n: int, model: Any = same, **options: Any) -> penstock.Report:
        report = penstock.run(range(n), model, out=tmp_path / "o.jsonl", **options)
        assert (report.done, report.failed) == (n, 0)
        return report

    return run


@pytest.fixture
def outputs(tmp_path: Path) -> Callable[[], list[Any]]:
    """Return what reads the outputs of the last run."""
    return lambda: [json.loads(line)["output"] for line in (tmp_path / "o.jsonl").read_text("utf-8").splitlines()]


def wait(value: int) -> int:
    """Wait as for a network."""
    threading.Event().wait(0.01)
    return value


def steps_of(report: penstock.Report) -> list[dict[str, Any]]:
    return list(report.plan.get("climb", []))


def test_what_waits_gets_more_workers(go: Go) -> None:
    report = go(2500, stages=[wait])
    first = steps_of(report)[0]
    assert (first["step"], first["kept"]) == ("workers of wait: 2 -> 4", True)
    assert report.plan["stages"]["wait"] > 2


def test_numbers_that_the_user_gave_stay(go: Go) -> None:
    report = go(300, stages=[wait], threads=4)
    assert (set(report.plan["stages"].values()), steps_of(report)) == ({4}, [])
    report = go(200, stages=[Workers(wait, 3)], fresh=True)
    assert report.plan["stages"]["wait"] == 3
    assert not [step for step in steps_of(report) if "wait" in step["step"].split(":")[0]]


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each stretch be one in which threads ran one at a time; when it is, test_verdict_runs shows."""
    monkeypatch.setattr(_climb, "one_at_a_time", lambda _: True)


@pytest.mark.usefixtures("interpreter")
def test_a_function_that_holds_the_interpreter_goes_to_processes(
    go: Go, tasks: ModuleType, outputs: Callable[[], list[Any]]
) -> None:
    report = go(1200, stages=[Workers(tasks.for_a_while, kind="auto")])
    first = steps_of(report)[0]
    assert first["step"] == "for_a_while in processes in the place of threads"
    assert "why" not in first
    assert [parent for _, parent in outputs()] == list(range(1200))
    pids = {pid for pid, _ in outputs()}
    assert os.getpid() in pids  # at first
    assert len(pids) > 1


@pytest.mark.usefixtures("interpreter")
def test_a_function_that_no_process_can_have_stays_where_it_is(go: Go) -> None:
    def slow(value: int) -> int:
        return wait(value)

    report = go(600, stages=[Workers(slow, 2, kind="auto")])
    (step,) = steps_of(report)
    assert not step["kept"]
    assert "cannot be sent to one" in step["why"]


@pytest.mark.usefixtures("interpreter")
def test_values_that_no_process_can_have_keep_a_function_where_it_is(go: Go, tasks: ModuleType) -> None:
    def locked(value: int) -> Any:
        return value, threading.Lock()

    stages = [locked, Workers(tasks.unlocked_after_a_while, 2, kind="auto")]
    (step,) = [step for step in steps_of(go(600, stages=stages)) if "processes" in step["step"]]
    assert "cannot be sent to a process" in step["why"]


# ---- how far, and how fast


def part(**how: Any) -> Part:
    return Part(Step.of("work", same), **how)


def test_what_the_user_said_bounds_the_climb() -> None:
    elsewhere = {"elsewhere": lambda _: Step.of("work", same)}
    crews = [[part(), part(**elsewhere)], [part(workers=3, pinned=True)], [part(workers=3)]]
    there = frozenset({(0, 1)})
    found = bounds_of(crews, threads=True, window=True)
    assert (found.movable, found.sendable, found.most_window) == (frozenset({0, 2}), there, _climbing.MOST_WINDOW)
    assert set(found.spare.values()) == {0}
    waited = part(spare=1)
    waited = replace(waited, step=replace(waited.step, model="m"))
    found = bounds_of([[part(), waited], [part(workers=3)]], threads=True, window=True)
    assert found.spare == {0: 1, 1: 0}
    found = bounds_of(crews, threads=False, window=False)
    assert (found.movable, found.sendable, found.most_window) == (frozenset({2}), there, 1)


def test_the_first_stretch_is_shorter_than_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_climbing, "FIRST_S", 0.5)
    monkeypatch.setattr(_climbing, "STRETCH_S", 1.0)
    looked = list[float]()

    class Watching:
        elapsed_s = 0.0

        def seen(self) -> Seen:
            looked.append(self.elapsed_s)
            stage = StageStatistics("work", 2, 0, (), ())
            return Seen(int(1000 * self.elapsed_s), self.elapsed_s, (stage,), cpus=2, cpu_s=0.0)

    watching: Any = Watching()
    with Pipeline([Stage("work", (Step.of("work", same),), 2)]) as pipeline:
        climber = Climber(pipeline, [[part()]], Bounds(frozenset(), 2, most_window=2), watching, None)
        for _ in range(200):  # two stretches, and not all of a third one
            watching.elapsed_s += 0.01
            climber.look(int(1000 * watching.elapsed_s))
    begin, end, again, last = looked[:4]
    assert end - begin == pytest.approx(0.5, abs=0.02)
    assert last - again == pytest.approx(1.0, abs=0.02)
