"""Closing a feed: soon, whatever it is at, with nothing left, and never as if an epoch were at its end."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from penstock import Feed
from penstock.errors import Closed

pytestmark = pytest.mark.usefixtures("no_child_left")


def test_closed_is_closed() -> None:
    feed = Feed(range(10), 2, workers=1)
    with feed:
        stream = iter(feed)
        next(stream)
    with pytest.raises(Closed):
        iter(feed)
    with pytest.raises(Closed):  # an epoch that was cut short must not look like a whole one
        next(stream)
    feed.close()
    assert "closed" in repr(feed)


def test_closing_with_full_queues_and_with_work_in_hand(sets: Any) -> None:
    kind: Any
    for workers, kind in ((2, "thread"), (2, "process")):
        feed = Feed(sets.Squares(5000), 500, workers=workers, kind=kind)
        with feed:
            next(iter(feed))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("penstock")]


def test_closing_ends_a_batch_between_two_samples() -> None:
    """A batch may take long: whoever closes does not wait for all of it."""
    begun, made = threading.Event(), []

    def slow(k: int) -> int:
        made.append(k)
        if threading.current_thread().name.startswith("penstock"):
            begun.set()
        threading.Event().wait(0.001)
        return k

    def read() -> None:
        with pytest.raises(Closed):
            list(feed)

    with Feed(range(20_000), 10_000, transform=slow, workers=1, kind="thread") as feed:
        reading = threading.Thread(target=read)
        reading.start()
        assert begun.wait(20)
    assert len(made) < 9_000
    reading.join(20)


def test_closing_while_it_is_being_started_leaves_nothing() -> None:
    begun, closed = threading.Event(), threading.Event()
    told: list[BaseException] = []

    def looked_at(k: int) -> int:
        begun.set()
        closed.wait(0.2)
        return k

    def read() -> None:
        try:
            list(feed)
        except Closed as error:
            told.append(error)

    feed = Feed(range(2_000), 100, transform=looked_at, workers=1, kind="thread")
    reading = threading.Thread(target=read)
    reading.start()
    assert begun.wait(20)
    feed.close()
    closed.set()
    reading.join(20)
    assert len(told) == 1
    assert list(feed.failures) == []
