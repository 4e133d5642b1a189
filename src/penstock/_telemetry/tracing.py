"""OpenTelemetry spans around runs and submitted items: begun where they are asked for, ended when they are done."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from penstock._telemetry.report import Report
from penstock.errors import MissingDependency

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

P = ParamSpec("P")


class Tracing:
    """Spans of what penstock does, as children of the span that is current where it is asked for.

    `run = Tracing().traced(penstock.run)` is `penstock.run` inside a span "penstock.run", with the numbers of its
    report as attributes and an event for each of the first 100 failures. `submit(session, item)` is
    `session.submit(item)` with a span "penstock.submit", which ends when the future does. An exception is recorded, and
    the status of the span is then an error; what was cancelled has the attribute penstock.cancelled.

    Spans are of OpenTelemetry's API: where they go, and which of them, is said by the SDK your application has.

    Args:
        provider: a `TracerProvider`; None: the global one.

    Raises:
        MissingDependency: opentelemetry-api is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        if importlib.util.find_spec("opentelemetry") is None:
            raise MissingDependency.of("opentelemetry-api", "tracing", "Tracing")
        from opentelemetry import trace

        self._tracer = trace.get_tracer("penstock", tracer_provider=provider)

    def traced(self, run: Callable[P, Report]) -> Callable[P, Report]:
        """Return `run` (as `penstock.run`: what returns a Report) inside a span."""

        @wraps(run)
        def inside(*args: P.args, **kwargs: P.kwargs) -> Report:
            with self._tracer.start_as_current_span("penstock.run") as span:
                report = run(*args, **kwargs)
                _describe(span, report)
                return report

        return inside

    def submit(self, session: Any, item: Any, timeout_s: float | None = None) -> Future[Any]:
        """Return the future of `session.submit(item, timeout_s)`, in a span that ends with it. Raises as that does."""
        span = self._tracer.start_span("penstock.submit")
        try:
            future: Future[Any] = session.submit(item, timeout_s)
        except BaseException as error:
            _fail(span, error)
            raise
        future.add_done_callback(partial(_end, span))
        return future


def _describe(span: Span, report: Report) -> None:
    """Write the numbers of a report into its span."""
    span.set_attribute("penstock.out", report.out)
    for name in ("planned", "done", "failed", "skipped", "attempted"):
        span.set_attribute(f"penstock.items.{name}", getattr(report, name))
    span.set_attribute("penstock.rate", report.rate)
    span.set_attribute("penstock.slowest_stage", report.slowest_stage)
    for step in report.stages:
        span.set_attribute(f"penstock.step.{step.name}.busy_seconds", step.busy_s)
    for failure in report.failures:
        attributes = {f"penstock.failure.{key}": str(value) for key, value in failure.items() if value is not None}
        span.add_event("penstock.failure", attributes)


def _end(span: Span, future: Future[Any]) -> None:
    """End the span of a future that is done."""
    if future.cancelled():
        span.set_attribute("penstock.cancelled", True)
        span.end()
        return
    error = future.exception(timeout=0)  # it is done
    if error is None:
        span.end()
    else:
        _fail(span, error)


def _fail(span: Span, error: BaseException) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end()
