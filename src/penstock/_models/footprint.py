"""What the copies of a model take of the memory: planned before the start, looked at when it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from penstock._contracts import Model, Predict
from penstock._devices import MemoryUse, forget_memory_peak, memory_budget, memory_use
from penstock._models.drill import callers_of, side_by_side
from penstock.errors import ItemError, UsageError

MEASURED_S = 0.05
"""For how long they go on calling: an allocator keeps more with every call, for a while."""
SLACK, SLACK_BYTES = 1.1, 256 << 20
"""How far a process may go beyond its plan without a word: Python, the sink and the allocator take some, too."""


@dataclass(frozen=True, slots=True)
class BytePlan:
    """The bytes that a model is going to take on one device (or None: not known).

    weights: of one copy. copies: how many there are. call: what one call with a full batch takes beyond what was in
    use. callers: calls at once. in_use: by this process, the first copy and what its trial took included. limit:
    what there is.
    """

    model: str
    device: str
    weights_bytes: int | None
    copies: int
    call_bytes: int | None
    callers: int
    in_use_bytes: int
    limit_bytes: int

    @property
    def planned_bytes(self) -> int:
        """In use at most, as far as is known."""
        further = (self.copies - 1) * (self.weights_bytes or 0)
        return self.in_use_bytes + further + self.callers * (self.call_bytes or 0)

    def __str__(self) -> str:
        """Show it in a line."""
        weights = "weights unknown" if self.weights_bytes is None else f"weights {megabytes(self.weights_bytes)}"
        copies = "1 copy" if self.copies == 1 else f"{self.copies} copies"
        each = "calls unknown" if self.call_bytes is None else f"{megabytes(self.call_bytes)} a call"
        return (
            f"memory: {self.model} on {self.device}: {weights} x {copies}, {each} x {self.callers} at once, "
            f"{megabytes(self.in_use_bytes)} in use already: {megabytes(self.planned_bytes)} of "
            f"{megabytes(self.limit_bytes)}"
        )

    def refuse_too_large(self) -> None:
        """Raise UsageError where it does not fit."""
        if self.planned_bytes > self.limit_bytes:
            raise UsageError(f"it does not fit: {self}. Give fewer replicas or threads, or a smaller batch.")

    def to_dict(self) -> dict[str, Any]:
        """Return it for a report."""
        return {**asdict(self), "planned_bytes": self.planned_bytes}


def measured(model: Model, device: str, probes: Sequence[Any], copies: int, callers: int) -> BytePlan:
    """Return the plan for `copies` of a loaded model, after calls with `probes` (a batch; may be empty).

    Raises UsageError where the weights alone do not fit.
    """
    _forget_peak(model)
    use, weights = _use(model), getattr(model, "weights_bytes", None)
    plan = BytePlan(model.name, device, weights, copies, None, callers, use.resident, use.limit)
    plan.refuse_too_large()
    return replace(plan, call_bytes=_call_bytes(model, probes, callers_of(model, callers))) if probes else plan


def _call_bytes(model: Model, probes: Sequence[Any], threads: int) -> int | None:
    """Return what a call takes beyond what is in use: the growth of the peak while all `threads` call, for each.

    All of them, for every thread keeps memory of its own, and one call says little about sixteen at once. None where
    such a batch fails, for want of memory or otherwise: the run will make it smaller, or find the culprit.
    """

    def calls(predict: Predict, _: int) -> None:
        deadline = time.perf_counter() + MEASURED_S
        while predict(probes) is not None and time.perf_counter() < deadline:
            pass

    before = _use(model)
    try:
        side_by_side(model, threads, calls)
    except ItemError:
        return None
    after = _use(model)
    if after.peak is None or before.peak is None:
        return None
    return max(0, after.peak - max(before.peak, before.resident)) // threads


def _use(model: Model) -> MemoryUse:
    """Return what is in use where the model is: on a device with memory of its own, the model tells."""
    own = getattr(model, "device_memory", None)
    found: MemoryUse | None = None if own is None else own()
    return memory_use(memory_budget()) if found is None else found


def _forget_peak(model: Model) -> None:
    own = getattr(model, "forget_device_peak", None)
    if own is not None:
        own()
    forget_memory_peak()


def exceeded(plans: Sequence[BytePlan], peak_bytes: int | None, in_flight_bytes: int) -> int:
    """Return by how many bytes the process went beyond its plans and the items in flight; 0 for a little, or unknown.

    The plans of several models each count what was in use when they were made: the last one made counts the others'.
    """
    known = [plan for plan in plans if plan.weights_bytes is not None]
    if peak_bytes is None or len(known) < len(plans) or not plans:
        return 0
    planned = max(plan.in_use_bytes for plan in plans) + in_flight_bytes
    planned += sum(plan.planned_bytes - plan.in_use_bytes for plan in plans)
    return peak_bytes - planned if peak_bytes > max(planned * SLACK, planned + SLACK_BYTES) else 0


def megabytes(n: int) -> str:
    """Return `14.2 MB` or `23.4 GB`."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
