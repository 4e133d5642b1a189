"""What a choice needs of the ways to run a model, whatever runtime they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from penstock._contracts import Model
from penstock._spec import InputSpec

FIXED_BATCH = "fixed_batch"
"""The setting by which a model is compiled for a batch that its file leaves open."""


class Runnable(Model, Protocol):
    """A loaded model that can be timed."""

    version: str
    """Of the runtime; another version may answer differently."""

    @property
    def batch_size(self) -> int | None:
        """The only batch size the model runs at, or None where it takes any."""
        ...


class Contender(Protocol):
    """One way to run a model: a runtime with its settings, not loaded yet."""

    @property
    def runtime(self) -> str:
        """The name of the runtime."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in: f32, bf16 or f16."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What is set, as JSON values."""
        ...

    def load(self, source: Any, spec: InputSpec | None) -> Runnable:
        """Return the loaded model. Raises UsageError or ModelError where it cannot be loaded."""
        ...
