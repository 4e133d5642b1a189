"""What the workers of a first stage wait for while they have nothing to do (pure)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Cause = Literal["source", "order", "output", "window", "stages", "end"]


@dataclass(slots=True)
class Waits:
    """Seconds, summed over the workers of the first stage, in which they had nothing to do, by what they waited for.

    source: the source, which had room. The others: room in the window, most of which was taken by finished items behind
    one that was not (order), by results that were not released yet (output), by the few items that others were working
    on (window), or by items that wait before later stages (stages). end: nothing more was to come.
    """

    source: float = 0.0
    order: float = 0.0
    output: float = 0.0
    window: float = 0.0
    stages: float = 0.0
    end: float = 0.0

    def add(self, cause: Cause, seconds: float) -> None:
        """Count `seconds` of waiting."""
        setattr(self, cause, getattr(self, cause) + seconds)

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(float(getattr(self, field.name)) for field in fields(self))


def cause(*, full: bool, queued: bool, held: int, out: int, inside: int) -> Cause:
    """Return what idle workers of the first stage wait for, while more items are to come.

    full: the source waits for room. queued: items wait before some stage. held: finished items behind one that is not.
    out: items that came out, whose room is taken still. inside: all others in flight.
    """
    if not full:
        return "source"
    if queued:
        return "stages"
    if inside >= max(held, out):
        return "window"
    return "order" if held > out else "output"
