"""What the workers of a first stage wait for while they have nothing to do (pure)."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Literal, get_args

Cause = Literal["source", "order", "output", "window", "stages", "end"]
CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True, slots=True)
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

    @property
    def total(self) -> float:
        """All seconds."""
        return float(sum(astuple(self)))


NO_WAITS = Waits()


def cause(*, queued: bool, held: int, out: int, inside: int) -> Cause:
    """Return what idle workers of the first stage wait for, while the source waits for room.

    queued: items wait before some stage. held: finished items behind one that is not.
    out: items that came out, whose room is taken still. inside: all others in flight.
    """
    if queued:
        return "stages"
    if inside >= max(held, out):
        return "window"
    return "order" if held > out else "output"
