"""Who is told what becomes of an item, and when: by the worker that has it in hand, without a consumer's thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from penstock._contracts import Failure
from penstock._engine.parcel import Parcel

_UNWANTED = Failure("", "Unwanted", "nobody waits for it any more")


class Ticket(Protocol):
    """What is told about one item. No lock is held, and nothing may be raised: a worker calls, or who stops one."""

    def begin(self) -> bool:
        """Hear that a worker begins with the item; return whether it is still wanted."""
        ...

    def finish(self, item: int, value: Any) -> None:
        """Hear what came of it: a value, or a `Failure`."""
        ...

    def drop(self, item: int, error: BaseException | None) -> None:
        """Hear that nothing will come of it: because of `error`, or (None) the pipeline was closed.

        A worker may be in its `begin` at that moment.
        """
        ...


class Tickets:
    """The tickets of the items on their way. One is taken out by whoever tells it the end, so that it hears one only.

    That taking out is atomic (`dict.pop`), and needs no lock.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._by_item: dict[int, Ticket] = {}

    def add(self, item: int, ticket: Ticket) -> None:
        """Keep the ticket of an item that enters."""
        self._by_item[item] = ticket

    def begin(self, part: Parcel) -> None:
        """Tell that a worker begins with `part`; what is not wanted any more becomes a failure in its place."""
        for place, item in enumerate(part.items):
            ticket = self._by_item.get(item)
            if ticket is None or not ticket.begin():
                self._by_item.pop(item, None)
                part.values[place] = _UNWANTED
                part.failed += 1

    def finish(self, items: Sequence[int], values: Sequence[Any]) -> None:
        """Tell what came of the items behind the last stage."""
        for item, value in zip(items, values, strict=True):
            if (ticket := self._by_item.pop(item, None)) is not None:
                ticket.finish(item, value)

    def drop(self, error: BaseException | None) -> None:
        """Tell all that are left that nothing will come. To be called when nothing can enter any more."""
        for item in list(self._by_item):
            if (ticket := self._by_item.pop(item, None)) is not None:
                ticket.drop(item, error)
