"""Prometheus metrics of sessions and runs, read off their snapshots at a scrape; nothing is counted for it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from penstock._engine.statistics import PipelineStatistics, StageStatistics
from penstock._telemetry.running import RunSeen, runs
from penstock.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_STAGE = ("pipeline", "stage")
_STEP = ("pipeline", "stage", "step", "model")
_COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "penstock_step_items": ("Items that entered a step.", _STEP),
    "penstock_step_failures": ("Items that failed in a step.", _STEP),
    "penstock_step_busy_seconds": ("Seconds that all workers together spent in a step.", _STEP),
    "penstock_notes": ("What was unusual and no failure.", ("pipeline", "note")),
    "penstock_requests": ("Items submitted to a session, by what became of them.", ("pipeline", "outcome")),
    "penstock_run_items": ("Items that a run is done with, by what became of them.", ("pipeline", "outcome")),
}
_GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "penstock_stage_workers": ("Workers of a stage.", _STAGE),
    "penstock_stage_queued_items": ("Items that wait before a stage.", _STAGE),
    "penstock_items_in_flight": ("Items between the source and the consumer.", ("pipeline",)),
    "penstock_window_items": ("Items that may be in flight.", ("pipeline",)),
    "penstock_run_todo_items": ("Items that a run has to do in all, where that is known.", ("pipeline",)),
}
_DURATION = "penstock_request_duration_seconds"
_QUANTILES = (("0.5", "p50_s"), ("0.95", "p95_s"), ("0.99", "p99_s"))


class PrometheusCollector:
    """The metrics of sessions and runs: `prometheus_client.REGISTRY.register(PrometheusCollector({"name": session}))`.

    Every run of this process is in it while it runs, its `out` as the label `pipeline`. The label `step` is the
    function; where there are several models, `model` is the name of the one it belongs to. Nothing is registered by
    itself, and nothing is measured for it: a scrape reads the same snapshots as `Session.statistics`.

    Args:
        sessions: name -> `Session`; the name becomes the label `pipeline`.

    Raises:
        MissingDependency: prometheus_client is not installed.
        UsageError: one of `sessions` has no `statistics()`.
    """

    def __init__(self, sessions: Mapping[str, Any] | None = None) -> None:
        if importlib.util.find_spec("prometheus_client") is None:
            raise MissingDependency.of("prometheus_client", "metrics", "PrometheusCollector")
        self._sessions = dict(sessions or {})
        for name, session in self._sessions.items():
            if not callable(getattr(session, "statistics", None)):
                raise UsageError(
                    f"PrometheusCollector: {name!r} is {session!r}, which has no statistics(). Give a Session."
                )

    def __repr__(self) -> str:
        """Show what it looks at."""
        return f"<PrometheusCollector of {', '.join(self._sessions) or 'no session'} and the runs of this process>"

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, as prometheus_client asks for them at a scrape. Any thread may call it."""
        scrape = _Scrape()
        for name, session in self._sessions.items():
            seen = session.statistics()
            scrape.pipeline(name, seen)
            scrape.requests(name, seen.requests)
        for run in runs():
            scrape.pipeline(run.out, run.pipeline)
            scrape.run(run)
        yield from scrape.metrics.values()


class _Scrape:
    """What one scrape gives: a family of samples for each metric, without any where there are none."""

    def __init__(self) -> None:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

        self.metrics: dict[str, Any] = {
            **{name: CounterMetricFamily(name, text, labels=labels) for name, (text, labels) in _COUNTERS.items()},
            **{name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in _GAUGES.items()},
        }
        said = "From `submit` to the result, of requests that were done; quantiles over all of them, 2 % exact."
        self.metrics[_DURATION] = SummaryMetricFamily(_DURATION, said, labels=("pipeline",))

    def _add(self, metric: str, value: float, *labels: str) -> None:
        self.metrics[metric].add_metric(labels, value)

    def pipeline(self, name: str, seen: PipelineStatistics) -> None:
        """Add the stages of one pipeline, and what is in flight in it."""
        for stage in seen.stages:
            self._add("penstock_stage_workers", stage.workers, name, stage.name)
            self._add("penstock_stage_queued_items", stage.queued, name, stage.name)
            self._steps(name, stage)
        self._add("penstock_items_in_flight", sum(flow.in_flight for flow in seen.flows), name)
        self._add("penstock_window_items", sum(flow.window for flow in seen.flows), name)
        for note, n in seen.notes.items():
            self._add("penstock_notes", n, name, note)

    def _steps(self, name: str, stage: StageStatistics) -> None:
        for step in stage.steps:
            model, _, function = step.name.rpartition(": ")  # as `_branches.within` puts them together
            labels = (name, stage.name, function, model)
            self._add("penstock_step_items", step.items, *labels)
            self._add("penstock_step_failures", step.failed, *labels)
            self._add("penstock_step_busy_seconds", step.busy_s, *labels)

    def requests(self, name: str, requests: Any) -> None:
        """Add what became of what was submitted to a session, and how long it took."""
        for outcome in ("done", "failed", "cancelled", "overloaded"):
            self._add("penstock_requests", getattr(requests, outcome), name, outcome)
        duration = self.metrics[_DURATION]
        for quantile, field in _QUANTILES:
            if (seconds := getattr(requests, field)) is not None:
                duration.add_sample(_DURATION, {"pipeline": name, "quantile": quantile}, seconds)
        duration.add_metric((name,), count_value=requests.done, sum_value=requests.done_s)

    def run(self, seen: RunSeen) -> None:
        """Add how far a run is."""
        self._add("penstock_run_items", seen.done, seen.out, "done")
        self._add("penstock_run_items", seen.failed, seen.out, "failed")
        if seen.todo is not None:
            self._add("penstock_run_todo_items", seen.todo, seen.out)
