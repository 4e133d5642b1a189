"""What is saved from a worker that is stuck: all but the item in hand, each item where it was in its stage.

No item is begun twice by a step, but for those of a batch that got stuck: its culprit cannot be known, so that each of
them is asked again alone, as are those of a batch that failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from penstock._contracts import Failure
from penstock._engine.parcel import Parcel, count_failures
from penstock._engine.watch import Held, in_hand
from penstock.errors import Stalled

Lost = tuple[int, Any, Failure]
"""(position, item, failure) of an item that was given up."""


@dataclass(slots=True)
class Rescue:
    """What a stuck worker had: `done` is through its stage, `again` goes back to its queue, in order."""

    done: Parcel | None = None
    again: list[Parcel] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    alone: int = 0
    """How many items are to be asked again alone."""


def rescue(held: Held, message: str, *, final: bool) -> Rescue | None:
    """Take its parcel from a stuck worker and end it; None where it has moved since it was seen. Lock held.

    `message`: what is wrong, for the failures. `final`: nothing will be asked again, so that all of a batch are lost.
    """
    worker, lease = held.worker, held.lease
    worker.given_up = True
    if worker.lease is not lease or len(lease.out) != held.done:
        worker.given_up = False
        return None
    values = list(lease.values)
    lease.values.clear()  # as in `Worker.cut`: no other item is begun
    if worker.parcel is None or lease.part.flow.closed or len(values) != len(lease.part.positions):
        return Rescue()  # of a flow that is closed: nobody waits for it
    return _saved(held, worker.parcel, values, message, final)


def _saved(held: Held, parcel: Parcel, values: list[Any], message: str, final: bool) -> Rescue:
    part, place, out = held.lease.part, held.lease.place, list(held.lease.out)
    done = len(out)
    n = in_hand(held.lease, done) if done == held.done else 0  # it moved just now: what it is at is asked again
    taken = values[done : done + n]
    lost = final or len(taken) - count_failures(taken) <= 1
    found = Rescue(lost=_lost(held, taken, message) if lost else [], alone=0 if lost else n)
    marked = [_marked(held, value, message) for value in taken] if lost else []
    begin, end = part.start - parcel.start, len(values)
    found.done = _piece(parcel, 0, held.worker.through[:begin], 0)
    found.again = [
        _piece(part, 0, out + marked, place + 1),
        _piece(part, done, [] if lost else taken, place, alone=True),
        _piece(part, done + n, values[done + n :], place, alone=part.alone and place == part.step),
    ]
    if part is not parcel:
        found.again.append(parcel.part(begin + end, len(parcel.positions)))
    found.again = [piece for piece in found.again if len(piece)]
    return found


def _lost(held: Held, taken: list[Any], message: str) -> list[Lost]:
    part, failure = held.lease.part, _failure(held, message)
    places = [held.done + i for i, value in enumerate(taken) if type(value) is not Failure]
    return [(part.positions[place], part.items[place], failure) for place in places]


def _marked(held: Held, value: Any, message: str) -> Any:
    return value if type(value) is Failure else held.lease.step.mark(value, _failure(held, message))


def _failure(held: Held, message: str) -> Failure:
    step = held.lease.step
    return Failure(step.name, Stalled.__name__, message, step.model)


def _piece(of: Parcel, start: int, values: list[Any], step: int, *, alone: bool = False) -> Parcel:
    """Return the items of `of` from place `start` on as a parcel with `values`, `step` steps of its stage done."""
    stop, n = start + len(values), len(of.positions)
    items, nbytes = of.items[start:stop], of.nbytes * len(values) // max(1, n)
    failed = count_failures(values)
    piece = Parcel(of.flow, of.start + start, of.origin, of.positions[start:stop], items, values, failed, nbytes)
    piece.step, piece.alone = step, alone
    return piece
