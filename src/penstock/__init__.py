"""Run models over everything you have, at the speed of your hardware, and lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import errors
from penstock._api import run
from penstock._contracts import Failure, Item
from penstock._decode import decode
from penstock._options import Batching, Limits, Workers
from penstock._session import Session
from penstock._spec import InputSpec, OutputSpec, Spec
from penstock._telemetry.report import Report

__all__ = [
    "Batching",
    "Failure",
    "InputSpec",
    "Item",
    "Limits",
    "OutputSpec",
    "Report",
    "Session",
    "Spec",
    "Workers",
    "decode",
    "errors",
    "run",
]

if TYPE_CHECKING:
    __version__: str
else:  # a type checker must not take every misspelt name for this one

    def __getattr__(name: str) -> str:
        """Return `__version__` when it is asked for: reading it from the metadata costs as much as the whole import."""
        if name == "__version__":
            from importlib.metadata import version

            return version("penstock")
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
