"""Run models over everything you have, at the speed of your hardware, and lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock import errors
    from penstock._api import plan, run
    from penstock._contracts import Failure, Item
    from penstock._decode import decode
    from penstock._engine.room import empty
    from penstock._evaluation import Evaluation, evaluate
    from penstock._feed.feed import Feed
    from penstock._feed.randomness import sample_rng
    from penstock._options import Augment, Batching, Ensemble, Limits, Torch, View, Workers
    from penstock._session import Session
    from penstock._spec import InputSpec, OutputSpec, Spec
    from penstock._telemetry.prometheus import PrometheusCollector
    from penstock._telemetry.report import Report
    from penstock._telemetry.tracing import Tracing

    __version__: str

__all__ = [
    "Augment",
    "Batching",
    "Ensemble",
    "Evaluation",
    "Failure",
    "Feed",
    "InputSpec",
    "Item",
    "Limits",
    "OutputSpec",
    "PrometheusCollector",
    "Report",
    "Session",
    "Spec",
    "Torch",
    "Tracing",
    "View",
    "Workers",
    "decode",
    "empty",
    "errors",
    "evaluate",
    "plan",
    "run",
    "sample_rng",
]

_HOMES = {
    "_api": ("plan", "run"),
    "_contracts": ("Failure", "Item"),
    "_decode": ("decode",),
    "_engine.room": ("empty",),
    "_evaluation": ("Evaluation", "evaluate"),
    "_feed.feed": ("Feed",),
    "_feed.randomness": ("sample_rng",),
    "_options": ("Augment", "Batching", "Ensemble", "Limits", "Torch", "View", "Workers"),
    "_session": ("Session",),
    "_spec": ("InputSpec", "OutputSpec", "Spec"),
    "_telemetry.prometheus": ("PrometheusCollector",),
    "_telemetry.report": ("Report",),
    "_telemetry.tracing": ("Tracing",),
}
"""Where each name lives. It is imported when it is first asked for: whoever wants one does not pay for all."""

if not TYPE_CHECKING:  # a type checker must not take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        """Return a public name (kept from then on), or `__version__`, which has to be read from the metadata."""
        from importlib import import_module

        if name == "errors":
            return import_module("penstock.errors")
        if name == "__version__":
            from importlib.metadata import version

            return version("penstock")
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f"penstock.{home}"), name)
                return value
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return what there is, whether it was asked for already or not."""
        return sorted({*globals(), *__all__, "__version__"})
