"""Items that never return, from `run` to the ledger: named and left behind; the run goes on, or the next one does."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import _drive, _stopping
from penstock._engine import pipeline as pipeline_module
from penstock._interrupt import Interrupts
from penstock._job import Job, read_failures
from penstock.errors import Stalled

WAIT_S = 20.0
LIMITS = penstock.Limits(item_timeout_s=0.2)


class Gate:
    """A model that gets stuck at some items until it is opened; it counts what it is asked."""

    version = "1"
    concurrency = "concurrent"

    def __init__(self, *at: int) -> None:
        self.at = set(at)
        self.event = threading.Event()
        self.inside = threading.Event()
        self.asked: list[int] = []

    def predict(self, batch: Sequence[int]) -> list[int]:
        self.asked.extend(batch)
        if self.at & set(batch):
            self.inside.set()
            assert self.event.wait(WAIT_S)
        return [-x for x in batch]


class OneAtATime(Gate):
    concurrency = "one_at_a_time"


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Gate]]:
    """Collect the gates of a test, and open them at its end."""
    gates: list[Gate] = []
    init = Gate.__init__

    def collecting(self: Gate, *at: int) -> None:
        init(self, *at)
        gates.append(self)

    monkeypatch.setattr(Gate, "__init__", collecting)
    yield gates
    for gate in gates:
        gate.event.set()


@pytest.fixture
def quick_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for stuck threads no longer than it takes to see that they are."""
    monkeypatch.setattr(pipeline_module.Pipeline.close, "__defaults__", (0.1,))


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stopping, "STOP_GRACE_S", 0.2)


def outputs(out: Path) -> dict[Any, Any]:
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    return {row["id"]: row["output"] for row in rows}


def test_an_item_that_never_returns_costs_that_item(gates: list[Gate], tmp_path: Path) -> None:
    out, model = tmp_path / "o.jsonl", Gate(137)
    report = penstock.run(range(300), model, out=out, batch=4, threads=2, limits=LIMITS)
    assert (report.planned, report.done, report.failed, report.skipped, report.exit_code) == (300, 299, 1, 0, 1)
    (failure,) = report.failures
    assert (failure["id"], failure["stage"], failure["type"]) == (137, "model", "Stalled")
    assert failure["message"].startswith("stage 'model' has worked on 137 for 0.")
    assert outputs(out) == {x: -x for x in range(300) if x != 137}
    assert report.notes["stuck in stage 'model' and given up with the thread"] == 1
    assert report.notes["asked again alone, as their batch was stuck in stage 'model'"] == 4
    assert sorted(model.asked) == sorted([*range(300), 136, 137, 138, 139])
    model.at.clear()
    report = penstock.run(range(300), model, out=out, batch=4, threads=2, limits=LIMITS, retry=True)
    assert (report.done, report.failed) == (300, 0)
    assert outputs(out) == {x: -x for x in range(300)}


def test_a_stage_that_never_returns_costs_that_item(gates: list[Gate], tmp_path: Path) -> None:
    """In the same thread as the model that may be called by one thread only."""
    gate = Gate(5)

    def read(x: int) -> int:
        return -gate.predict([x])[0]

    read.version = "1"  # type: ignore[attr-defined]
    out = tmp_path / "o.jsonl"
    report = penstock.run(range(50), lambda xs: [2 * x for x in xs], stages=[read], out=out, threads=2, limits=LIMITS)
    assert (report.done, report.failed) == (49, 1)
    assert outputs(out) == {x: 2 * x for x in range(50) if x != 5}


@pytest.mark.usefixtures("quick_stop")
def test_a_model_for_one_thread_that_never_returns_stops_the_run_and_the_next_goes_on(
    gates: list[Gate], tmp_path: Path
) -> None:
    out, model = tmp_path / "o.jsonl", OneAtATime(137)
    with pytest.raises(Stalled, match="one thread at a time") as caught:
        penstock.run(range(300), model, out=out, batch=4, limits=LIMITS)
    assert caught.value.exit_code == 4
    assert [failure["id"] for failure in read_failures(out)] == [136, 137, 138, 139]
    assert len((tmp_path / "o.jsonl.penstock" / "failures.jsonl").read_text().splitlines()) == 4
    second = OneAtATime(137)
    report = penstock.run(range(300), second, out=out, batch=4, limits=LIMITS)
    assert (report.done, report.failed, report.skipped) == (296, 4, 0)
    assert set(second.asked).isdisjoint({136, 137, 138, 139})
    assert outputs(out) == {x: -x for x in range(300) if not 136 <= x < 140}
    report = penstock.run(range(300), OneAtATime(), out=out, batch=4, limits=LIMITS, retry=True)
    assert (report.done, report.failed) == (300, 0)
    assert outputs(out) == {x: -x for x in range(300)}


@pytest.mark.usefixtures("quick_stop")
def test_too_many_that_never_return_stop_the_run_and_all_are_kept(gates: list[Gate], tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    bad = set(range(20, 260, 24))
    left: list[int] = []
    report = None
    while report is None:
        model = Gate(*bad)
        try:
            report = penstock.run(range(300), model, out=out, batch=1, threads=2, limits=LIMITS)
        except Stalled:
            before, left = left, [failure["id"] for failure in read_failures(out)]
            assert set(model.asked).isdisjoint(before)  # no item stalls a second run
            assert len(left) > len(before)
        finally:
            model.event.set()
    assert (report.done, report.failed) == (300 - len(bad), len(bad))
    assert {failure["id"] for failure in read_failures(out)} == bad
    assert outputs(out) == {x: -x for x in range(300) if x not in bad}


@pytest.mark.parametrize("other", [Gate, OneAtATime])
def test_of_several_models_the_one_that_never_returns_fails_alone(
    gates: list[Gate], tmp_path: Path, other: type[Gate]
) -> None:
    """Fused (every model may be called by all), and with stages of their own."""
    a, b = Gate(7), other()
    out = tmp_path / "o.jsonl"
    options: dict[str, Any] = {"out": out, "batch": 2, "threads": 2, "limits": LIMITS}
    report = penstock.run(range(40), {"a": a, "b": b}, **options)
    assert (report.done, report.failed) == (39, 1)
    (failure,) = report.failures
    assert (failure["id"], failure["model"], failure["type"]) == (7, "a", "Stalled")
    assert outputs(out) == {x: {"a": None if x == 7 else -x, "b": -x} for x in range(40)}
    a.event.set()  # late answers change nothing
    assert outputs(out)[7] == {"a": None, "b": -7}
    a.at.clear()
    asked = len(b.asked)
    report = penstock.run(range(40), {"a": a, "b": b}, **options, retry=True)
    assert (report.done, report.failed) == (40, 0)
    assert outputs(out)[7] == {"a": -7, "b": -7}
    assert len(b.asked) == asked


@pytest.mark.usefixtures("quick_stop")
def test_a_stop_changes_nothing_of_what_was_kept_before(
    gates: list[Gate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of an item that one model was stuck at, when later the other one is."""
    absorb, kept = Job.absorb, threading.Event()

    def noting(self: Job, positions: Sequence[int], items: Sequence[Any], values: Sequence[Any]) -> tuple[int, int]:
        found = absorb(self, positions, items, values)
        if 7 in positions:
            kept.set()
        return found

    def source() -> Iterator[int]:
        yield from range(100)
        assert kept.wait(WAIT_S)
        yield from range(100, 300)

    monkeypatch.setattr(Job, "absorb", noting)
    out = tmp_path / "o.jsonl"
    options: dict[str, Any] = {"out": out, "batch": 1, "threads": 2, "limits": LIMITS}
    with pytest.raises(Stalled, match="one thread at a time"):
        penstock.run(source(), {"a": Gate(7), "b": OneAtATime(250)}, **options)
    assert [(f["id"], f["model"]) for f in read_failures(out)] == [(7, "a"), (250, "b")]
    report = penstock.run(source(), {"a": Gate(), "b": OneAtATime()}, **options)
    assert (report.done, report.failed) == (298, 2)
    rows = {x: {"a": None if x == 7 else -x, "b": -x} for x in range(300) if x != 250}
    assert outputs(out) == rows


# ---- stopping where something is stuck


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[Interrupts]:
    """Return those in force: a test notes a signal in them, as a handler would (a real one would stop pytest)."""
    entered: list[Interrupts] = []
    enter = Interrupts.__enter__

    def noting(self: Interrupts) -> Interrupts:
        entered.append(self)
        return enter(self)

    monkeypatch.setattr(Interrupts, "__enter__", noting)
    return entered


@pytest.mark.usefixtures("quick_stop", "short_grace")
@pytest.mark.parametrize(("number", "error"), [(2, KeyboardInterrupt), (15, SystemExit)])
def test_a_signal_ends_a_run_in_which_an_item_is_stuck(
    gates: list[Gate],
    signals: list[Interrupts],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    number: int,
    error: type[BaseException],
) -> None:
    """Without an item timeout. What is stuck is said, and left for the next run."""

    class Signalled(Gate):
        def predict(self, batch: Sequence[int]) -> list[int]:
            if self.at & set(batch):
                signals[-1].signal = number
            return super().predict(batch)

    out, model = tmp_path / "o.jsonl", Signalled(137)
    with pytest.raises(error):
        penstock.run(range(300), model, out=out, batch=4, threads=2)
    (message,) = [record.getMessage() for record in caplog.records if record.name == "penstock"]
    assert "left for the next run" in message
    assert "stage 'model' has worked on 136, 137, 138 and 1 more for" in message
    assert list(read_failures(out)) == []
    model.at.clear()
    report = penstock.run(range(300), model, out=out, batch=4, threads=2)
    assert (report.done, report.failed) == (300, 0)
    assert outputs(out) == {x: -x for x in range(300)}


@pytest.mark.usefixtures("quick_stop", "short_grace")
def test_a_spent_budget_ends_a_run_in_which_an_item_is_stuck(gates: list[Gate], tmp_path: Path) -> None:
    gate = Gate(40)

    def read(x: int) -> int:
        if x % 2:
            raise ValueError("odd")
        return -gate.predict([x])[0]

    read.version = "1"  # type: ignore[attr-defined]
    with pytest.raises(penstock.errors.StageError, match="more than the 3"):
        penstock.run(range(300), lambda xs: xs, stages=[read], out=tmp_path / "o", threads=2, max_failures=3)


def test_a_source_that_gives_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_drive, "ALARM_S", 0.0)
    monkeypatch.setattr(_drive, "COMMIT_S", 0.01)
    go_on = threading.Event()

    def source() -> Iterator[int]:
        yield 1
        assert go_on.wait(WAIT_S)

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            go_on.set()

    handler = Watching()
    logging.getLogger("penstock").addHandler(handler)
    try:
        penstock.run(source(), lambda xs: xs, out=tmp_path / "o.jsonl")
    finally:
        logging.getLogger("penstock").removeHandler(handler)
    assert "The source has given nothing for" in caplog.records[0].getMessage()
