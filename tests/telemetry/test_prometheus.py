"""The metrics as the real prometheus_client takes and shows them."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock.errors import ItemError, MissingDependency, UsageError

client: Any = pytest.importorskip("prometheus_client", reason="pip install 'penstock[metrics]'")
parser: Any = pytest.importorskip("prometheus_client.parser")


def double(value: int) -> int:
    if value < 0:
        raise ValueError("no")
    return 2 * value


def predict(batch: list[int]) -> list[int]:
    return [value + 1 for value in batch]


@pytest.fixture
def session() -> Iterator[penstock.Session]:
    with penstock.Session(predict, stages=[double]) as session:
        yield session


def scraped(collector: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return name -> values of the labels, sorted by their names -> value, from the text of a scrape."""
    registry = client.CollectorRegistry(auto_describe=True)
    registry.register(collector)
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parser.text_string_to_metric_families(client.generate_latest(registry).decode()):
        assert family.documentation
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_a_session_is_shown_with_its_steps_its_queues_and_its_requests(session: penstock.Session) -> None:
    futures = [session.submit(value) for value in (1, 2, 3, -1)]
    assert [future.result(10) for future in futures[:3]] == [3, 5, 7]
    with pytest.raises(ItemError):
        futures[3].result(10)
    found = scraped(penstock.PrometheusCollector({"doubles": session}))
    # labels in the order of their names: model, pipeline, stage, step
    assert found["penstock_step_items_total"] == {
        ("", "doubles", "double", "double"): 4.0,
        ("", "doubles", "model", "model"): 3.0,
    }
    assert found["penstock_step_failures_total"][("", "doubles", "double", "double")] == 1.0
    assert found["penstock_step_busy_seconds_total"][("", "doubles", "model", "model")] > 0
    assert found["penstock_stage_workers"][("doubles", "model")] == 1.0
    assert found["penstock_stage_queued_items"][("doubles", "model")] == 0.0
    assert found["penstock_items_in_flight"] == {("doubles",): 0.0}
    assert found["penstock_window_items"][("doubles",)] >= 32
    assert found["penstock_requests_total"] == {
        ("done", "doubles"): 3.0,
        ("failed", "doubles"): 1.0,
        ("cancelled", "doubles"): 0.0,
        ("overloaded", "doubles"): 0.0,
    }
    assert found["penstock_request_duration_seconds_count"] == {("doubles",): 3.0}
    quantiles = found["penstock_request_duration_seconds"]
    assert set(quantiles) == {("doubles", "0.5"), ("doubles", "0.95"), ("doubles", "0.99")}
    total = found["penstock_request_duration_seconds_sum"][("doubles",)]
    assert quantiles["doubles", "0.5"] <= total <= 3.1 * quantiles["doubles", "0.99"]


def test_counters_only_grow(session: penstock.Session) -> None:
    collector = penstock.PrometheusCollector({"s": session})
    before: dict[str, Any] = {}
    for _ in range(3):
        assert list(session.map(range(10))) == [2 * value + 1 for value in range(10)]
        after = scraped(collector)
        for name in (name for name in after if name.endswith("_total")):
            assert all(value >= before.get(name, {}).get(labels, 0.0) for labels, value in after[name].items()), name
        before = after
    assert before["penstock_step_items_total"][("", "s", "model", "model")] == 30.0


def test_a_run_shows_itself_while_it_runs_and_each_of_its_models(tmp_path: Path) -> None:
    collector, seen = penstock.PrometheusCollector(), []

    def second(batch: list[int]) -> list[int]:
        seen.append(scraped(collector))
        return batch

    out = tmp_path / "out.jsonl"
    penstock.run(list(range(40)), {"a": predict, "b": second}, batch=4, out=out)
    last = seen[-1]
    assert last["penstock_run_todo_items"] == {(str(out),): 40.0}
    assert set(last["penstock_run_items_total"]) == {("done", str(out)), ("failed", str(out))}
    models = {labels[0] for labels in last["penstock_step_items_total"]}
    assert models == {"", "a", "b"}
    assert {labels[3] for labels in last["penstock_step_items_total"] if labels[0] == "b"} == {"model"}
    assert scraped(collector).get("penstock_run_items_total") is None  # it is over


def test_nothing_is_registered_by_itself_and_one_registry_takes_one_collector(session: penstock.Session) -> None:
    shown = client.generate_latest(client.REGISTRY).decode()
    assert "penstock" not in shown
    registry = client.CollectorRegistry(auto_describe=True)
    registry.register(penstock.PrometheusCollector({"one": session}))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(penstock.PrometheusCollector())


def test_it_is_scraped_over_http_while_callers_submit(session: penstock.Session) -> None:
    registry = client.CollectorRegistry()
    registry.register(penstock.PrometheusCollector({"web": session}))
    server, thread = client.start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        submitting = threading.Thread(target=lambda: [session.submit(1).result(10) for _ in range(200)])
        submitting.start()
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        texts = [urllib.request.urlopen(address, timeout=10).read().decode() for _ in range(5)]
        submitting.join(30)
        last = urllib.request.urlopen(address, timeout=10).read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert all("# TYPE penstock_requests_total counter" in text for text in texts)
    assert 'penstock_requests_total{outcome="done",pipeline="web"} 200.0' in last


def test_a_closed_session_can_be_scraped(session: penstock.Session) -> None:
    assert list(session.map([1])) == [3]
    session.close()
    found = scraped(penstock.PrometheusCollector({"closed": session}))
    assert found["penstock_step_items_total"][("", "closed", "model", "model")] == 1.0


def test_what_cannot_be_shown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"'x' is 7, which has no statistics\(\)"):
        penstock.PrometheusCollector({"x": 7})
    assert repr(penstock.PrometheusCollector()) == "<PrometheusCollector of no session and the runs of this process>"
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingDependency, match=r"penstock\[metrics\]"):
        penstock.PrometheusCollector()
