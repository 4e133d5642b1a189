"""Tickets: each hears one end, from whoever is first."""

from __future__ import annotations

from typing import Any, cast

from penstock._contracts import Failure
from penstock._engine.flow import Flow
from penstock._engine.parcel import Parcel
from penstock._engine.tickets import Tickets


class Heard:
    """A ticket that keeps what it hears."""

    def __init__(self, *, wanted: bool = True) -> None:
        self.wanted = wanted
        self.heard: list[Any] = []

    def begin(self) -> bool:
        self.heard.append("begin")
        return self.wanted

    def finish(self, item: int, value: Any) -> None:
        self.heard.append((item, value))

    def drop(self, item: int, error: BaseException | None) -> None:
        self.heard.append((item, error))


def made(*wanted: bool) -> tuple[Tickets, list[Heard], Parcel]:
    tickets, given = Tickets(), [Heard(wanted=w) for w in wanted]
    for item, ticket in enumerate(given):
        tickets.add(item, ticket)
    n = len(given)
    return tickets, given, Parcel(cast("Flow", None), 0, (0, n), range(n), range(n), list("abc")[:n])


def test_a_finished_item_hears_of_it_once() -> None:
    tickets, given, parcel = made(True, True)
    tickets.begin(parcel)
    tickets.finish(parcel.items, parcel.values)
    tickets.finish(parcel.items, parcel.values)
    tickets.drop(None)
    assert [ticket.heard for ticket in given] == [["begin", (0, "a")], ["begin", (1, "b")]]


def test_what_is_not_wanted_becomes_a_failure_in_its_place() -> None:
    tickets, given, parcel = made(True, False, True)
    tickets.begin(parcel)
    assert [type(value) is Failure for value in parcel.values] == [False, True, False]
    assert parcel.failed == 1
    tickets.finish(parcel.items, parcel.values)
    assert given[1].heard == ["begin"]


def test_what_was_dropped_is_not_begun_and_not_finished() -> None:
    tickets, given, parcel = made(True, True)
    error = OSError("gone")
    tickets.drop(error)
    tickets.begin(parcel)
    assert parcel.failed == 2
    tickets.finish(parcel.items, parcel.values)
    assert [ticket.heard for ticket in given] == [[(0, error)], [(1, error)]]
