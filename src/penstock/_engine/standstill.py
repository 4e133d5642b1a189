"""The report on a pipeline in which nothing moves: who is at what, where all threads are, what waits."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from penstock._engine.watch import Held, line_of, stacks_of

if TYPE_CHECKING:
    from penstock._engine.pipeline import Pipeline

NAMED = ("numpy", "cv2", "onnxruntime", "openvino", "torch", "keras", "jax", "tensorflow")
"""Packages whose versions matter to whoever reads the report."""


def standstill(pipeline: Pipeline, held: Sequence[Held], silent_s: float) -> str:
    """Return the report. Lock held."""
    seen = pipeline.statistics()
    stages = [f"  stage {stage.name!r}: {stage.workers} workers, {stage.queued:,} queued" for stage in seen.stages]
    flows = [
        f"  {flow.admitted:,} items admitted, {flow.delivered:,} out, {flow.in_flight:,} of {flow.window:,} in flight"
        for flow in seen.flows
    ]
    lines = [
        f"Nothing has moved for {silent_s:.0f} s. The run goes on waiting; Limits(item_timeout_s=) would end this."
    ]
    lines += [f"  {line_of(one)}" for one in held] or ["  no worker is at any item"]
    return "\n".join([*lines, *stages, *flows, f"  {versions()}", "Stacks:", stacks_of(threading.enumerate())])


def with_processes(report: str, tellers: Sequence[Callable[[], str]]) -> str:
    """Return the report with what the worker processes are at. Without the lock: they are asked, and may not answer."""
    if not tellers:
        return report
    return "\n".join([report, "Processes:", *(f"  {tell()}" for tell in tellers)])


def versions() -> str:
    """Return the versions of Python, the system, and the packages that are loaded."""
    loaded = {name: getattr(sys.modules[name], "__version__", "?") for name in NAMED if name in sys.modules}
    packages = "".join(f", {name} {version}" for name, version in loaded.items())
    return f"Python {platform.python_version()} on {platform.platform()}{packages}"
