"""Spans as the real OpenTelemetry SDK exports them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.errors import ItemError, MissingDependency, Overloaded, UsageError

sdk: Any = pytest.importorskip("opentelemetry.sdk.trace", reason="pip install opentelemetry-sdk")
export: Any = pytest.importorskip("opentelemetry.sdk.trace.export")
memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
trace: Any = pytest.importorskip("opentelemetry.trace")


class Recorder:
    """A provider of its own, and what it exported."""

    def __init__(self) -> None:
        self._exporter = memory.InMemorySpanExporter()
        self.provider = sdk.TracerProvider()
        self.provider.add_span_processor(export.SimpleSpanProcessor(self._exporter))
        self.tracing = penstock.Tracing(self.provider)

    def spans(self, name: str) -> list[Any]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> Any:
        (span,) = self.spans(name)
        return span


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def half(batch: list[int]) -> list[float]:
    return [6 / value for value in batch]


def test_a_run_is_a_span_with_the_numbers_of_its_report_and_its_failures(recorder: Recorder, tmp_path: Path) -> None:
    run = recorder.tracing.traced(penstock.run)
    with recorder.provider.get_tracer("mine").start_as_current_span("nightly") as nightly:
        report = run([1, 0, 3], half, out=tmp_path / "out.jsonl")
    assert (report.done, report.failed) == (2, 1)
    span = recorder.one("penstock.run")
    assert span.parent.span_id == nightly.get_span_context().span_id
    said = dict(span.attributes)
    assert [said[f"penstock.items.{name}"] for name in ("planned", "done", "failed", "skipped")] == [3, 2, 1, 0]
    assert said["penstock.out"] == str(tmp_path / "out.jsonl")
    assert said["penstock.step.model.busy_seconds"] > 0
    (event,) = span.events
    assert (event.attributes["penstock.failure.id"], event.attributes["penstock.failure.type"]) == (
        "1",
        "ZeroDivisionError",
    )
    assert span.status.is_unset
    assert run.__name__ == "run"


def test_a_run_that_is_refused_is_an_error_with_its_exception(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        recorder.tracing.traced(penstock.run)([1], half, out=tmp_path / "out.nothing")
    span = recorder.one("penstock.run")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


def test_each_submitted_item_is_a_span_of_its_callers(recorder: Recorder) -> None:
    tracer = recorder.provider.get_tracer("web")
    with penstock.Session(half) as session:
        for value in (2, 3):
            with tracer.start_as_current_span(f"request {value}"):
                assert recorder.tracing.submit(session, value, timeout_s=5).result(10) == 6 / value
    parents = {span.context.span_id: span.name for n in (2, 3) for span in recorder.spans(f"request {n}")}
    spans = recorder.spans("penstock.submit")
    assert sorted(parents[span.parent.span_id] for span in spans) == ["request 2", "request 3"]
    assert all(span.status.is_unset and span.end_time >= span.start_time for span in spans)


def test_a_failed_item_is_an_error_in_its_span(recorder: Recorder) -> None:
    with penstock.Session(half) as session, pytest.raises(ItemError):
        recorder.tracing.submit(session, 0).result(10)
    span = recorder.one("penstock.submit")
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description.startswith("ItemError: item 0 failed in stage 'model'")
    assert span.events[0].attributes["exception.type"].endswith("ItemError")


def test_what_is_cancelled_or_finds_no_room_ends_its_span_too(recorder: Recorder) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(batch: list[int]) -> list[int]:
        if batch == [-1]:
            begun.set()
            assert go.wait(20)
        return batch

    with penstock.Session(wait, batch=1) as session:
        list(session.map(range(50)))  # opens the queue
        first = recorder.tracing.submit(session, -1)
        assert begun.wait(20)
        assert recorder.tracing.submit(session, 1).cancel()
        fill(session)
        with pytest.raises(Overloaded):
            recorder.tracing.submit(session, 3, timeout_s=0)
        go.set()
        assert first.result(20) == -1
    spans = recorder.spans("penstock.submit")
    assert sorted(span.status.status_code.name for span in spans) == ["ERROR", "UNSET", "UNSET"]
    assert [span.attributes.get("penstock.cancelled") for span in spans].count(True) == 1
    (error,) = (span.status.description for span in spans if not span.status.is_unset)
    assert error.startswith("Overloaded: No room")


def fill(session: penstock.Session) -> None:
    """Submit until there is no room."""
    for _ in range(1_000_000):
        try:
            session.submit(2, 0)
        except Overloaded:
            return
    pytest.fail("there was always room")


def test_without_an_sdk_nothing_is_recorded_and_everything_works(tmp_path: Path) -> None:
    tracing = penstock.Tracing(trace.NoOpTracerProvider())
    assert tracing.traced(penstock.run)([1], half, out=tmp_path / "out.jsonl").done == 1


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependency, match=r"penstock\[tracing\]"):
        penstock.Tracing()
