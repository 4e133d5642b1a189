"""The page that outlives its process: what was in hand, and what was answered."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from penstock._engine.leases import MOST_ITEMS, PAGE_BYTES, WAITING, Leases
from penstock._engine.slots import unnamed


@pytest.fixture
def pair() -> Iterator[tuple[Leases, Leases]]:
    """Return the page as the child and as the parent have it."""
    descriptor = unnamed(PAGE_BYTES)
    child, parent = Leases(os.dup(descriptor)), Leases(descriptor)
    yield child, parent
    child.close()
    parent.close()


def test_what_the_child_writes_the_parent_reads(pair: tuple[Leases, Leases]) -> None:
    child, parent = pair
    before = time.monotonic()
    child.begin_request(7)
    assert (parent.held().request, parent.held().index, parent.held().phase) == (7, None, "receiving")
    child.begin_item(3)
    held = parent.held()
    assert (held.request, held.index, held.phase) == (7, 3, "working")
    assert before <= held.since_s <= time.monotonic()
    child.enter(WAITING)
    assert (parent.held().index, parent.held().phase) == (3, "waiting for memory")
    child.answer(1234)
    assert parent.held().index is None


def test_answers_are_those_of_the_request_that_is_asked_about(pair: tuple[Leases, Leases]) -> None:
    child, parent = pair
    child.begin_request(1)
    for place in range(MOST_ITEMS):
        child.answer(place << 40)
    assert parent.answers(1) == [place << 40 for place in range(MOST_ITEMS)]
    assert parent.answers(2) == []
    child.begin_request(2)
    assert parent.answers(2) == []
    child.answer(5)
    assert parent.answers(2) == [5]


def test_a_request_can_be_cancelled(pair: tuple[Leases, Leases]) -> None:
    child, parent = pair
    child.begin_request(1)
    assert not child.cancelled(1)
    parent.cancel(1)
    assert child.cancelled(1)
    assert not child.cancelled(2)
